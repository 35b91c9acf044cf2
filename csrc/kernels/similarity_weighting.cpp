#include "kernels/similarity_weighting.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

// Rows a task: sums are formed within a block and then over blocks in order, so that the result
// does not depend on the number of threads.
constexpr std::size_t kRowsPerBlock = 2048;
constexpr double kLog2Of10 = 3.321928094887362;

}  // namespace

RatingStatus sum_weights_by_cell(const TieredBattles& battles, const float* query,
                                 std::size_t thread_count, SimilarityWorkspace& workspace) {
    const StoredRows& rows = battles.embeddings;
    const simd::Functions& functions = simd::functions();
    float square = 0.0F;
    functions.dot_rows(query, 1, rows.columns, query, rows.columns, &square);
    if (!(square > 0.0F) || !std::isfinite(square)) return RatingStatus::bad_query;

    const std::size_t blocks = (rows.rows + kRowsPerBlock - 1) / kRowsPerBlock;
    const std::size_t cells = cell_count(battles.tiers);
    workspace.similarities.resize(rows.rows);
    workspace.block_maxima.resize(blocks);
    workspace.block_sums.resize(blocks * cells);
    workspace.cell_sums.assign(cells, 0.0);

    parallel_for(blocks, thread_count, [&](std::size_t block) noexcept {
        const std::size_t begin = block * kRowsPerBlock;
        const std::size_t count = std::min(kRowsPerBlock, rows.rows - begin);
        float* similarities = workspace.similarities.data() + begin;
        rows.dot(functions, begin, count, query, similarities);
        workspace.block_maxima[block] = *std::max_element(similarities, similarities + count);
    });
    const float largest =
        *std::max_element(workspace.block_maxima.begin(), workspace.block_maxima.end());
    if (!(largest > 0.0F)) return RatingStatus::nothing_similar;

    const double scale = kLog2Of10 / static_cast<double>(largest);
    parallel_for(blocks, thread_count, [&](std::size_t block) noexcept {
        const std::size_t begin = block * kRowsPerBlock;
        const std::size_t end = std::min(begin + kRowsPerBlock, rows.rows);
        double* sums = workspace.block_sums.data() + block * cells;
        std::fill_n(sums, cells, 0.0);
        constexpr std::size_t kChunk = 256;
        double weights[kChunk];
        for (std::size_t i = begin; i < end; i += kChunk) {
            const std::size_t count = std::min(kChunk, end - i);
            functions.exp2_scaled(workspace.similarities.data() + i, count, scale, weights);
            for (std::size_t k = 0; k < count; ++k) sums[battles.cells[i + k]] += weights[k];
        }
    });
    for (std::size_t block = 0; block < blocks; ++block) {
        const double* sums = workspace.block_sums.data() + block * cells;
        for (std::size_t c = 0; c < cells; ++c) workspace.cell_sums[c] += sums[c];
    }
    for (double& sum : workspace.cell_sums) sum *= 10.0;
    return RatingStatus::converged;
}

bool rate_cells(const double* cell_sums, std::size_t tiers, bool strict,
                SimilarityWorkspace& workspace, double* ratings) {
    const std::size_t n = tiers;
    workspace.wins.assign(n * n, 0.0);
    workspace.anchor_wins.assign(n, 0.0);
    workspace.anchor_losses.assign(n, 0.0);
    // Each battle is in the data twice (a tie once for each side), as RouteLLM has it.
    for (std::size_t a = 0; a < n; ++a) {
        for (std::size_t b = 0; b < n; ++b) {
            const double decided = 2.0 * cell_sums[a * n + b];
            const double tied = cell_sums[n * n + a * n + b];
            if (a == b) {
                workspace.anchor_wins[a] += decided + tied;
                workspace.anchor_losses[a] += 2.0 * cell_sums[2 * n * n + a] + tied;
            } else {
                workspace.wins[a * n + b] += decided + tied;
                workspace.wins[b * n + a] += tied;
            }
        }
    }
    // Anchors hold the ratings in place only if they pull both ways. If all pull one way (or there
    // are none), the likelihood rises for ever as all ratings move together, and their differences
    // tend to those without anchors.
    const auto any_positive = [](const std::vector<double>& weights) {
        return std::any_of(weights.begin(), weights.end(), [](double w) { return w > 0.0; });
    };
    const bool anchored =
        strict && any_positive(workspace.anchor_wins) && any_positive(workspace.anchor_losses);
    const WinTable table{n, workspace.wins.data(),
                         anchored ? workspace.anchor_wins.data() : nullptr,
                         anchored ? workspace.anchor_losses.data() : nullptr};
    return fit_bradley_terry(table, workspace.newton, ratings).converged;
}

RatingStatus rate_tiers(const TieredBattles& battles, const float* query, std::size_t thread_count,
                        SimilarityWorkspace& workspace, double* ratings) {
    const RatingStatus status = sum_weights_by_cell(battles, query, thread_count, workspace);
    if (status != RatingStatus::converged) return status;
    return rate_cells(workspace.cell_sums.data(), battles.tiers, battles.strict, workspace, ratings)
               ? RatingStatus::converged
               : RatingStatus::no_finite_rating;
}

}  // namespace fastroute
