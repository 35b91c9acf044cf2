// P(success) of each of m models on a prompt with the embedding x, and a 95 % interval:
//
//     score_j = level_j + shared + own_j
//     shared  = h_0 . (x - centre) + mean of c_0 over the prompt's nearest clusters
//     own_j   = h_j . (x - centre) + mean of c_j over them
//
// where each clustering of the graded prompts adds such a mean.
// The nearest graded prompts move both parts: with n grades nearby whose mean is v, a part p
// becomes p + n / (n + count) * (v - p). Then, with the logit of the score kept in [edge, 1 -
// edge],
//
//     P_j = sigmoid(slope_j * logit(score_j) + offset_j)
//
// and the interval is P_j -+ 1.96 sqrt(min(spread * widening_j, widest_j)), cut to [0, 1], where
//
//     spread = |x - centre|^2 - |directions (x - centre)|^2
//
// A prompt of a spread above `most_spread`, or of a zero embedding, is abstained on: P_j = usual_j,
// with the widest interval. All in float64, but products with x.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix_view.hpp"
#include "kernels/nearest_rows.hpp"

namespace fastroute {

// Graded prompts, and what their grades say.
struct GradedPrompts {
    // [n, d], x less `centre`, of length one; a list for each cluster of the first clustering, or
    // no lists.
    RowLists rows;
    std::size_t scanned;  // of how many nearest clusters the lists are scanned
    const float* centre;  // [d]
    const float* shared;  // [n], NaN where not known
    const float* own;     // [n, m], NaN where there is no grade
    std::size_t count;    // how many are looked at; 0: none
    double shared_count;
    const double* own_count;  // [m], infinite where neighbours say nothing
};

struct SuccessModel {
    std::size_t models;
    // h_1..h_m, h_0 and the directions of the spread: [m + 1 + r, d]; and their products with the
    // centre.
    MatrixView stacked;
    const double* at_centre;
    const float* centre;       // [d]
    MatrixView clusters;       // [clusterings * k, d], of length one
    const float* of_clusters;  // c_1..c_m and c_0 of each: [clusterings * k, m + 1]
    std::size_t clusterings;   // 0 for none
    std::size_t nearest_clusters;
    const double *level, *slope, *offset, *usual;  // [m]
    const double *widening, *widest;               // [m]
    double edge, most_spread;
    GradedPrompts prompts;
};

enum class SuccessStatus : std::uint8_t { estimated, abstained, not_finite };

// Writes [m] each; low and high may be null. Nothing of what is written means anything if
// `not_finite`.
SuccessStatus estimate_success(const SuccessModel& model, const float* x, double* probability,
                               double* low, double* high);

// The same for many embeddings: [n, m] each, and [n]. The same for any number of threads.
void estimate_successes(const SuccessModel& model, const MatrixView& X, std::size_t thread_count,
                        double* probability, double* low, double* high, SuccessStatus* statuses);

}  // namespace fastroute
