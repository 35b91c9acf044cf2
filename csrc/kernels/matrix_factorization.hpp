// Matrix factorization (Ong et al. 2024, arXiv 2406.18665): how well model M answers prompt q is
//
//     delta(M, q) = c . (P_M / |P_M| * (W q)),   win rate = sigmoid(delta(strong) - delta(weak))
//
// with W [k x d], P [models x k], c [k], the product elementwise, no biases. For a given model it
// is one dot product: delta(M, q) = f_M . q with f_M = W' (c * P_M / |P_M|), and for a pair of
// models the difference of two such vectors. So the k x d product is done once, at load.
#pragma once

#include <cstddef>

#include "kernels/matrix_view.hpp"

namespace fastroute {

struct MatrixFactorization {
    MatrixView models;      // P, [models x k]
    MatrixView projection;  // W, [k x d]
    const float* weights;   // c, [k]
};

// folded[m * d + j] = f_m[j], for every model; sums in float64. A model with |P_M| < 1e-12 is
// divided by 1e-12, as PyTorch's normalize does.
void fold_models(const MatrixFactorization& factors, double* folded);

// win_rates[i] = sigmoid(pair . X_i). A row whose product is not finite, or exactly zero, gets
// NaN instead: the caller says why.
void pair_win_rates(const float* pair, const MatrixView& prompts, std::size_t thread_count,
                    double* win_rates);

// deltas[i * models + m] = folded_m . X_i, for every model.
void model_deltas(const MatrixView& folded, const MatrixView& prompts, std::size_t thread_count,
                  float* deltas);

}  // namespace fastroute
