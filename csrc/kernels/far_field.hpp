// Similarity-weighted ranking (similarity_weighting.hpp) at a cost that does not grow with the
// number of battles.
//
// 10^(s / s_max) is smooth, so over all battles but the nearest a quadratic a0 + a1 s + a2 s^2
// replaces it, and a sum of weights over a cell c of battles becomes
//
//     a0 n_c + a1 q . M_c + a2 q' S_c q        n_c = count, M_c = sum of e_i, S_c = sum of e_i e_i'
//
// with moments that are precomputed. The nearest battles' true weights, less the quadratic's, are
// added to their cells: exact there, whatever the index found or missed.
//
// What is kept of M_c and S_c, and why so little suffices. A router asks for one number, the
// difference of two ratings. It moves with the weights as
//
//     d(R_strong - R_weak) = sum_c g_c dW_c / (total weight)
//
// where g is the gradient at the solution for equal weights, by shares of the total weight. So the
// cells keep second moments in a few leading principal axes only, and sums in some more (these
// carry what bends the answer), and everything outside these axes enters to first order, through
// one vector  m = sum_i g_c(i) e_i  and one symmetric matrix H = sum_i g_c(i) e_i e_i'  instead of
// one of each a cell. H is kept as its strongest directions for prompts distributed as the battles
// are:  q'Hq = sum_k lambda_k (d_k . q)^2.
//
// What the quadratic leaves, r(s) = 10^(s / s_max) - quadratic, is taken up to first order in the
// gradient too, by clusters of the battles: within cluster k, r is nearly a line through its mean,
//
//     sum_i g_i r(s_i) = sum_k [ G_k mean(r) + slope(r) q . m_k ],   G_k = sum g_i,
//     m_k = sum g_i (e_i - centre of k)
//
// with mean and slope over the distribution of similarities in the cluster: q . centre, and a
// spread that its variance along the prompt and the axes left out give; three points stand for it
// (Gauss and Hermite's). The quadratic itself is the least-squares fit over the same points,
// weighted by the clusters' sizes, and clipped to the range that remains after the near field.
//
// All large matrices may be bytes with a factor a row (stored_rows.hpp): a query reads each once,
// so its time is that of their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/matrix_view.hpp"
#include "kernels/similarity_weighting.hpp"

namespace fastroute {

// The principal axes of the battles, and the battles along them.
struct FarFieldAxes {
    StoredRows rows;          // [axes, d], strongest first, nearly orthonormal
    const float* middle;      // [axes]: mean of all battles
    const double* variances;  // [axes]: mean variance within clusters
    const double* energies;   // [axes]: mean square of the battles
    double spread;            // mean square a dimension outside the axes
};

// Clusters of the battles, for what the quadratic leaves.
struct FarFieldClusters {
    StoredRows centres;              // [clusters, axes]: mean of the battles, less the middle
    StoredRows influences;           // [clusters, axes]: m_k along the axes
    const double* sizes;             // [clusters]: number of battles
    const double* pulls;             // [clusters]: G_k
    const double* widths;            // [clusters]: variance of the cluster over the mean one
    const std::uint16_t* of_battle;  // [battles]: cluster of each
};

// Moments of the cells that hold battles.
struct FarFieldCells {
    std::size_t axes;            // how many of the axes are used for squares
    MatrixView moments;          // [active cells, moment_count(axes)], as accumulated below
    StoredRows lines;            // [active cells, lines]: sums along the axes after those
    const std::int32_t* active;  // [active cells]: number of each in the cells' layout
    const double* gradient;      // [cell_count(tiers)]: g
};

// What enters to first order: m and H less what the cells have of them.
struct FarFieldOutside {
    StoredRows directions;     // [1 + rank, d], unit: the rest of m, then d_k
    const double* curvatures;  // [1 + rank]: length of that vector, then lambda_k
    const double* corner;      // [cell axes, cell axes]: H in the cells' axes
};

struct FarField {
    StoredRows near_rows;  // [battles, d]: the battles' rows, or a smaller copy of them
    FarFieldAxes axes;
    FarFieldClusters clusters;
    FarFieldCells cells;
    FarFieldOutside outside;
};

constexpr std::size_t kMostCellAxes = 64;

// Weight of 1, of each axis, and of each pair of axes a <= b (off the diagonal counted twice).
constexpr std::size_t moment_count(std::size_t cell_axes) noexcept {
    return 1 + cell_axes + cell_axes * (cell_axes + 1) / 2;
}

struct FarFieldWorkspace {
    std::vector<float> query, projected, directed, points, features, sums, moves;
    std::vector<double> weights, means, slopes;
    std::vector<float> near;
    std::vector<double> values;
    std::vector<double> cell_sums;
    SimilarityWorkspace ratings;
};

struct FarFieldResult {
    RatingStatus status;
    double win_rate;
    double shift;    // of R_strong - R_weak, from what lies outside the cells' axes
    double largest;  // similarity of the nearest battle
    double misfit;   // root mean square of (quadratic - weight) / mean weight over the battles
    std::size_t near_count;
};

// Where the time of a query went, in nanoseconds.
struct FarFieldStages {
    double near, directions, lines, cells, ratings;
};

// out[a] = the prompt, scaled to length one, along the principal axes: what an index in those axes
// is searched with. False: the prompt is NaN, infinite or zero.
bool project(const FarField& field, const float* query, FarFieldWorkspace& workspace, float* out);

// Win rate of tier `strong` over tier `weak` for one prompt. near_ids: battles near the prompt,
// -1 for none; `projected` what project() gave, or null. `ratings` holds the starting point and
// gets the ratings.
FarFieldResult far_field_win_rate(const FarField& field, const TieredBattles& battles,
                                  const float* query, const float* projected,
                                  const std::int64_t* near_ids, std::size_t near_count,
                                  std::size_t strong, std::size_t weak,
                                  FarFieldWorkspace& workspace, double* ratings,
                                  FarFieldStages* stages = nullptr);

// project() for each row of `queries`: out is [queries, axes], and ok[i] whether row i has a
// length. Bitwise the same for any thread count, as what follows.
void project_rows(const FarField& field, const MatrixView& queries, std::size_t thread_count,
                  float* out, bool* ok);

// far_field_win_rate() for each row of `queries`, from the ratings `start`. `projected` is
// [queries, axes], near_ids [queries, near_count].
void far_field_win_rates(const FarField& field, const TieredBattles& battles,
                         const MatrixView& queries, const float* projected,
                         const std::int64_t* near_ids, std::size_t near_count, std::size_t strong,
                         std::size_t weak, const double* start, std::size_t thread_count,
                         FarFieldResult* results);

// Adds the moments of battles to out, float64 [cell_count(tiers), moment_count(cell_axes)], in
// the order 1, axes, pairs (a, b) with a <= b. Bitwise the same for any thread count.
void accumulate_moments(const TieredBattles& battles, const MatrixView& axes,
                        std::size_t thread_count, double* out);

}  // namespace fastroute
