// Similarity-weighted ranking (Ong et al. 2024, arXiv 2406.18665), exact mode.
//
// For a prompt q and battles with embeddings e_i:
//
//     s_i = cos(e_i, q),   w_i = 10 * 10^(s_i / max_j s_j)
//
// and a Bradley-Terry model over the tiers of the models, each battle counted twice with weight
// w_i (a tie once for each side). Its likelihood depends on the weights only through their sums
// over battles of the same kind, the cells, so one pass over the embeddings gives all of it:
// similarities and their maximum while the rows stream by, then one exponential a battle.
//
// Cells of a battle between tiers a and b, of `tiers` many:
//     a * tiers + b                    a won        (a == b: model_a won)
//     tiers^2 + a * tiers + b          a tie, a <= b
//     2 * tiers^2 + a                  a == b and model_b won
//
// The prompt needs no normalisation (a factor cancels in s_i / max s_j); the rows are unit vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/bradley_terry.hpp"
#include "kernels/stored_rows.hpp"

namespace fastroute {

struct TieredBattles {
    StoredRows embeddings;       // unit rows, one a battle
    const std::uint16_t* cells;  // [battles], as above
    std::size_t tiers;
    // strict: a battle within a tier pulls on the tier's own rating, as in RouteLLM's code.
    // Otherwise it says nothing, as in the formula.
    bool strict;
};

// Scratch that a caller keeps from query to query, so that a query allocates nothing.
struct SimilarityWorkspace {
    std::vector<float> similarities;
    std::vector<float> block_maxima;
    std::vector<double> block_sums, cell_sums, wins, anchor_wins, anchor_losses;
    NewtonWorkspace newton;
};

enum class RatingStatus {
    converged,
    bad_query,        // NaN, infinite or zero
    nothing_similar,  // no battle has a positive similarity, so the weights mean nothing
    no_finite_rating  // the weights leave tiers unconnected
};

constexpr std::size_t cell_count(std::size_t tiers) noexcept { return 2 * tiers * tiers + tiers; }

// Sums the weights w_i by cell into workspace.cell_sums. Bitwise the same for any thread count.
RatingStatus sum_weights_by_cell(const TieredBattles& battles, const float* query,
                                 std::size_t thread_count, SimilarityWorkspace& workspace);

// Ratings of the tiers (natural logarithm of odds) from weights summed by cell, from the starting
// point in `ratings`. False: no finite rating.
bool rate_cells(const double* cell_sums, std::size_t tiers, bool strict,
                SimilarityWorkspace& workspace, double* ratings);

// Both: ratings of the tiers for one prompt.
RatingStatus rate_tiers(const TieredBattles& battles, const float* query, std::size_t thread_count,
                        SimilarityWorkspace& workspace, double* ratings);

}  // namespace fastroute
