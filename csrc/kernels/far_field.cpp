#include "kernels/far_field.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/parallel.hpp"
#include "kernels/quadratic_fit.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

constexpr double kLog2Of10 = 3.321928094887362;
// No cell may end up without weight because a quadratic dips below zero far from where it was
// fitted: true weights are at least 10^(-1 / s_max), and this keeps the likelihood's maximum
// finite.
constexpr double kLeastShare = 1e-9;
// Rows of near battles lie anywhere in memory, so that many are fetched ahead.
constexpr std::size_t kAhead = 6;

bool scale_to_unit(const float* query, std::size_t dimensions, std::vector<float>& out) {
    float square = 0.0F;
    simd::functions().dot_rows(query, 1, dimensions, query, dimensions, &square);
    if (!(square > 0.0F) || !std::isfinite(square)) return false;
    const float factor = 1.0F / std::sqrt(square);
    out.resize(dimensions);
    for (std::size_t j = 0; j < dimensions; ++j) out[j] = query[j] * factor;
    return true;
}

// Adds up the time between calls, if anybody asked.
class Clock {
  public:
    explicit Clock(bool runs) : runs_(runs), last_(now()) {}

    void stop(double& nanoseconds) {
        if (!runs_) return;
        const auto at = now();
        nanoseconds = std::chrono::duration<double, std::nano>(at - last_).count();
        last_ = at;
    }

  private:
    std::chrono::steady_clock::time_point now() const {
        return runs_ ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
    }

    bool runs_;
    std::chrono::steady_clock::time_point last_;
};

// One a thread, kept from query to query, so that a query allocates nothing.
FarFieldWorkspace& own_workspace() {
    thread_local FarFieldWorkspace scratch;
    return scratch;
}

// The battles that the index found, and the prompt's similarities with them.
struct NearBattles {
    const std::int64_t* ids;  // -1 for none
    std::size_t count;
    const float* similarities;  // of ids that are not -1
    float largest;              // of the nearest, from its whole row
    float least;
    std::size_t found;
};

// One prompt on its way through the stages, with the scratch of its thread.
struct Query {
    const FarField& field;
    const TieredBattles& battles;
    const simd::Functions& functions;
    FarFieldWorkspace& workspace;
    const float* unit;   // the prompt, scaled to length one
    const float* along;  // the same along the principal axes
    double outside;      // mean square of the prompt's similarity outside the axes
};

double mean_square_outside(const FarFieldAxes& axes, const float* along) noexcept {
    double inside = 0.0;
    for (std::size_t a = 0; a < axes.rows.rows; ++a) {
        inside += static_cast<double>(along[a]) * static_cast<double>(along[a]);
    }
    return std::max(1.0 - inside, 0.0) * axes.spread;
}

void prefetch_near(const FarField& field, const TieredBattles& battles,
                   const std::int64_t* near_ids, std::size_t near_count, std::size_t k) noexcept {
    if (k >= near_count || near_ids[k] < 0) return;
    const auto id = static_cast<std::size_t>(near_ids[k]);
    field.near_rows.prefetch(id);
    __builtin_prefetch(battles.cells + id);
    __builtin_prefetch(field.clusters.of_battle + id);
}

// Stage 1: the prompt along the axes (unless `projected` is given) and along the directions of the
// first-order part.
const float* take_directions(const FarField& field, const simd::Functions& functions,
                             const float* unit, const float* projected,
                             FarFieldWorkspace& workspace) {
    const StoredRows& axes = field.axes.rows;
    workspace.projected.resize(axes.rows);
    float* along = workspace.projected.data();
    if (projected != nullptr) {
        std::copy_n(projected, axes.rows, along);
    } else {
        axes.dot(functions, 0, axes.rows, unit, along);
    }
    const StoredRows& directions = field.outside.directions;
    workspace.directed.resize(directions.rows);
    directions.dot(functions, 0, directions.rows, unit, workspace.directed.data());
    return along;
}

// Stage 2: similarities of the battles that the index found.
NearBattles score_near(const Query& query, const std::int64_t* near_ids, std::size_t near_count) {
    const FarField& field = query.field;
    std::vector<float>& similarities = query.workspace.near;
    similarities.resize(near_count);
    NearBattles near{near_ids, near_count, similarities.data(), 0.0F, 1.0F, 0};
    std::size_t nearest = 0;
    for (std::size_t k = 0; k < near_count; ++k) {
        prefetch_near(field, query.battles, near_ids, near_count, k + kAhead);
        if (near_ids[k] < 0) continue;
        float& similarity = similarities[k];
        const auto id = static_cast<std::size_t>(near_ids[k]);
        field.near_rows.dot(query.functions, id, 1, query.unit, &similarity);
        if (similarity > near.largest) {
            near.largest = similarity;
            nearest = id;
        }
        near.least = std::min(near.least, similarity);
        ++near.found;
    }
    // All weights hang on the largest, so it is taken from the whole row.
    if (near.largest > 0.0F) {
        query.battles.embeddings.dot(query.functions, nearest, 1, query.unit, &near.largest);
    }
    return near;
}

// Stage 3a: three points a cluster, centre - h, centre and centre + h with h = sqrt(3) deviations,
// and the quadratic through the weights there. The workspace keeps the points, the weights at
// them, each h (slopes) and the prompt's similarity with each centre (sums).
Quadratic fit_clusters(const Query& query, const NearBattles& near, double scale) {
    const FarField& field = query.field;
    const FarFieldClusters& groups = field.clusters;
    FarFieldWorkspace& workspace = query.workspace;
    const float* p = query.along;
    const std::size_t axis_count = field.axes.rows.rows;
    double within = 0.0;  // mean variance of a similarity within a cluster, along the axes
    for (std::size_t a = 0; a < axis_count; ++a) {
        within += field.axes.variances[a] * static_cast<double>(p[a]) * static_cast<double>(p[a]);
    }
    const std::size_t clusters = groups.centres.rows;
    workspace.points.resize(3 * clusters);
    workspace.values.resize(3 * clusters);
    workspace.weights.resize(3 * clusters);
    workspace.slopes.resize(clusters);
    workspace.means.resize(clusters);
    workspace.sums.resize(std::max(clusters, field.cells.moments.rows));
    workspace.moves.resize(std::max(clusters, field.cells.moments.rows));
    float* middles = workspace.sums.data();
    float* points = workspace.points.data();
    float middle_of_all = 0.0F;
    query.functions.dot_rows(field.axes.middle, 1, axis_count, p, axis_count, &middle_of_all);
    groups.centres.dot(query.functions, 0, clusters, p, middles);
    groups.influences.dot(query.functions, 0, clusters, p, workspace.moves.data());
    for (std::size_t k = 0; k < clusters; ++k) middles[k] += middle_of_all;
    for (std::size_t k = 0; k < clusters; ++k) {
        const double step = std::sqrt(3.0 * (groups.widths[k] * within + query.outside));
        workspace.slopes[k] = step;
        const float middle = middles[k];
        points[k] = std::min(middle - static_cast<float>(step), near.least);
        points[clusters + k] = std::min(middle, near.least);
        points[2 * clusters + k] = std::min(middle + static_cast<float>(step), near.least);
        workspace.weights[k] = workspace.weights[2 * clusters + k] = groups.sizes[k];
        workspace.weights[clusters + k] = 4.0 * groups.sizes[k];
    }
    double* values = workspace.values.data();
    query.functions.exp2_scaled(points, 3 * clusters, scale, values);
    return fit_quadratic(points, values, workspace.weights.data(), 3 * clusters);
}

// Stage 3b: what the quadratic leaves, a line a cluster, to first order in the gradient.
double sum_residual(const Query& query, const NearBattles& near, const Quadratic& quadratic) {
    const FarFieldClusters& groups = query.field.clusters;
    FarFieldWorkspace& workspace = query.workspace;
    const std::size_t clusters = groups.centres.rows;
    const float* points = workspace.points.data();
    const double* values = workspace.values.data();
    double residual = 0.0;
    for (std::size_t k = 0; k < clusters; ++k) {
        const auto left = [&](std::size_t i) {
            return values[i] - quadratic(static_cast<double>(points[i]));
        };
        const double low = left(k);
        const double high = left(2 * clusters + k);
        const double step = workspace.slopes[k];
        workspace.means[k] = (low + 4.0 * left(clusters + k) + high) / 6.0;
        workspace.slopes[k] = step > 1e-6 ? (high - low) / (2.0 * step) : 0.0;
        residual += groups.pulls[k] * workspace.means[k] +
                    workspace.slopes[k] * static_cast<double>(workspace.moves[k]);
    }
    const float* middles = workspace.sums.data();
    for (std::size_t i = 0; i < near.count; ++i) {
        if (near.ids[i] < 0) continue;  // its weight is exact: nothing of it is left
        const std::size_t k = groups.of_battle[near.ids[i]];
        const double line =
            workspace.means[k] + workspace.slopes[k] * (static_cast<double>(near.similarities[i]) -
                                                        static_cast<double>(middles[k]));
        residual -= query.field.cells.gradient[query.battles.cells[near.ids[i]]] * line;
    }
    return residual;
}

// The monomials of the prompt along the cells' axes, times the quadratic's coefficients.
void fill_features(const Query& query, const Quadratic& quadratic, std::vector<float>& features) {
    const FarField& field = query.field;
    const float* p = query.along;
    const std::size_t m = field.cells.axes;
    features.resize(moment_count(m));
    float* feature = features.data();
    double missing = query.outside;  // mean square similarity outside the cells' axes
    for (std::size_t a = m; a < field.axes.rows.rows; ++a) {
        missing += field.axes.energies[a] * static_cast<double>(p[a]) * static_cast<double>(p[a]);
    }
    *feature++ = static_cast<float>(quadratic.a[0] + quadratic.a[2] * missing);
    for (std::size_t a = 0; a < m; ++a) {
        *feature++ = static_cast<float>(quadratic.a[1] * static_cast<double>(p[a]));
    }
    for (std::size_t a = 0; a < m; ++a) {
        for (std::size_t b = a; b < m; ++b) {
            const double pair = static_cast<double>(p[a]) * static_cast<double>(p[b]);
            *feature++ = static_cast<float>((a == b ? 1.0 : 2.0) * quadratic.a[2] * pair);
        }
    }
}

// Stage 4a: sums of weights over the cells: the quadratic's by one dot product a cell, and the
// near battles' own. Returns their total.
double sum_cells(const Query& query, const NearBattles& near, const Quadratic& quadratic,
                 double scale) {
    const FarFieldCells& cells = query.field.cells;
    FarFieldWorkspace& workspace = query.workspace;
    const simd::Functions& functions = query.functions;
    const MatrixView& moments = cells.moments;
    fill_features(query, quadratic, workspace.features);
    functions.dot_rows(moments.data, moments.rows, moments.stride, workspace.features.data(),
                       moments.columns, workspace.sums.data());
    workspace.cell_sums.assign(cell_count(query.battles.tiers), 0.0);
    double* sums = workspace.cell_sums.data();
    // The line along the next axes; the scratch that clusters used is free again.
    cells.lines.dot(functions, 0, moments.rows, query.along + cells.axes, workspace.moves.data());
    for (std::size_t c = 0; c < moments.rows; ++c) {
        sums[cells.active[c]] = static_cast<double>(workspace.sums[c]) +
                                quadratic.a[1] * static_cast<double>(workspace.moves[c]);
    }
    for (std::size_t k = 0; k < near.count; ++k) {
        if (near.ids[k] < 0) continue;
        const auto similarity = static_cast<double>(near.similarities[k]);
        double weight = 0.0;
        functions.exp2_scaled(&near.similarities[k], 1, scale, &weight);
        sums[query.battles.cells[near.ids[k]]] += weight - quadratic(similarity);
    }
    double total = 0.0;
    for (std::size_t c = 0; c < moments.rows; ++c) {
        double& sum = sums[cells.active[c]];
        sum = std::max(sum, kLeastShare * static_cast<double>(moments.row(c)[0]));
        total += sum;
    }
    return total;
}

// Stage 4b: what lies outside the cells' axes, to first order, before it is divided by the total.
double sum_outside(const Query& query, const Quadratic& quadratic) {
    const FarFieldOutside& outside = query.field.outside;
    const float* p = query.along;
    const float* directed = query.workspace.directed.data();
    const std::size_t m = query.field.cells.axes;
    double curved = 0.0;
    for (std::size_t k = 0; k + 1 < outside.directions.rows; ++k) {
        const auto along = static_cast<double>(directed[k + 1]);
        curved += outside.curvatures[k + 1] * along * along;
    }
    for (std::size_t a = 0; a < m; ++a) {
        for (std::size_t b = 0; b < m; ++b) {
            curved -=
                outside.corner[a * m + b] * static_cast<double>(p[a]) * static_cast<double>(p[b]);
        }
    }
    return quadratic.a[1] * outside.curvatures[0] * static_cast<double>(directed[0]) +
           quadratic.a[2] * curved;
}

double logistic(double difference) noexcept {
    const double odds = std::exp(-std::abs(difference));
    return difference >= 0.0 ? 1.0 / (1.0 + odds) : odds / (1.0 + odds);
}

}  // namespace

bool project(const FarField& field, const float* query, FarFieldWorkspace& workspace, float* out) {
    const StoredRows& axes = field.axes.rows;
    if (!scale_to_unit(query, axes.columns, workspace.query)) return false;
    axes.dot(simd::functions(), 0, axes.rows, workspace.query.data(), out);
    return true;
}

FarFieldResult far_field_win_rate(const FarField& field, const TieredBattles& battles,
                                  const float* query, const float* projected,
                                  const std::int64_t* near_ids, std::size_t near_count,
                                  std::size_t strong, std::size_t weak,
                                  FarFieldWorkspace& workspace, double* ratings,
                                  FarFieldStages* stages) {
    const simd::Functions& functions = simd::functions();
    FarFieldResult result{RatingStatus::bad_query, 0.5, 0.0, 0.0, 0.0, 0};
    if (!scale_to_unit(query, field.axes.rows.columns, workspace.query)) return result;
    FarFieldStages ignored{};
    FarFieldStages& times = stages != nullptr ? *stages : ignored;
    Clock clock(stages != nullptr);

    for (std::size_t k = 0; k < kAhead; ++k) {
        prefetch_near(field, battles, near_ids, near_count, k);
    }
    const float* unit = workspace.query.data();
    const float* along = take_directions(field, functions, unit, projected, workspace);
    const Query prompt{
        field, battles, functions, workspace, unit, along, mean_square_outside(field.axes, along)};
    clock.stop(times.directions);

    const NearBattles near = score_near(prompt, near_ids, near_count);
    clock.stop(times.near);
    result.near_count = near.found;
    result.largest = static_cast<double>(near.largest);
    if (!(near.largest > 0.0F)) {
        result.status = RatingStatus::nothing_similar;
        return result;
    }

    const double scale = kLog2Of10 / result.largest;
    const Quadratic quadratic = fit_clusters(prompt, near, scale);
    result.misfit = quadratic.misfit;
    const double residual = sum_residual(prompt, near, quadratic);
    clock.stop(times.lines);

    const double total = sum_cells(prompt, near, quadratic, scale);
    result.shift = (sum_outside(prompt, quadratic) + residual) * (total > 0.0 ? 1.0 / total : 0.0);
    clock.stop(times.cells);

    if (!rate_cells(workspace.cell_sums.data(), battles.tiers, battles.strict, workspace.ratings,
                    ratings)) {
        result.status = RatingStatus::no_finite_rating;
        return result;
    }
    clock.stop(times.ratings);
    result.status = RatingStatus::converged;
    result.win_rate = logistic(ratings[strong] - ratings[weak] + result.shift);
    return result;
}

void project_rows(const FarField& field, const MatrixView& queries, std::size_t thread_count,
                  float* out, bool* ok) {
    parallel_for(queries.rows, thread_count, [&](std::size_t i) noexcept {
        ok[i] = project(field, queries.row(i), own_workspace(), out + i * field.axes.rows.rows);
    });
}

void far_field_win_rates(const FarField& field, const TieredBattles& battles,
                         const MatrixView& queries, const float* projected,
                         const std::int64_t* near_ids, std::size_t near_count, std::size_t strong,
                         std::size_t weak, const double* start, std::size_t thread_count,
                         FarFieldResult* results) {
    parallel_for(queries.rows, thread_count, [&](std::size_t i) noexcept {
        thread_local std::vector<double> ratings;
        ratings.assign(start, start + battles.tiers);
        results[i] = far_field_win_rate(
            field, battles, queries.row(i), projected + i * field.axes.rows.rows,
            near_ids + i * near_count, near_count, strong, weak, own_workspace(), ratings.data());
    });
}

void accumulate_moments(const TieredBattles& battles, const MatrixView& axes,
                        std::size_t thread_count, double* out) {
    // Sums within a part and then over parts in order, so that the number of threads is no matter.
    constexpr std::size_t kMostParts = 32;
    const std::size_t rows = battles.embeddings.rows;
    const std::size_t parts = std::min(kMostParts, (rows + 1023) / 1024);
    const std::size_t m = axes.rows;
    const std::size_t width = moment_count(m);
    const std::size_t size = cell_count(battles.tiers) * width;
    std::vector<double> sums(parts * size, 0.0);
    const simd::Functions& functions = simd::functions();
    parallel_for(parts, thread_count, [&](std::size_t part) noexcept {
        const StoredRows& stored = battles.embeddings;
        for (std::size_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) {
            double* sum = sums.data() + part * size + battles.cells[i] * width;
            *sum++ += 1.0;
            float p[kMostCellAxes];
            for (std::size_t a = 0; a < m; ++a) stored.dot(functions, i, 1, axes.row(a), p + a);
            for (std::size_t a = 0; a < m; ++a) *sum++ += static_cast<double>(p[a]);
            for (std::size_t a = 0; a < m; ++a) {
                for (std::size_t b = a; b < m; ++b) {
                    *sum++ += static_cast<double>(p[a]) * static_cast<double>(p[b]);
                }
            }
        }
    });
    for (std::size_t part = 0; part < parts; ++part) {
        for (std::size_t k = 0; k < size; ++k) out[k] += sums[part * size + k];
    }
}

}  // namespace fastroute
