#include "kernels/matrix_factorization.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

constexpr std::size_t kPromptsPerTask = 256;

double sigmoid(double x) noexcept {
    return x >= 0.0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x));
}

template <typename Function>
void for_each_block(std::size_t row_count, std::size_t thread_count, Function&& function) {
    const std::size_t tasks = (row_count + kPromptsPerTask - 1) / kPromptsPerTask;
    parallel_for(tasks, thread_count, [&](std::size_t task) noexcept {
        const std::size_t begin = task * kPromptsPerTask;
        function(begin, std::min(row_count, begin + kPromptsPerTask));
    });
}

}  // namespace

void fold_models(const MatrixFactorization& factors, double* folded) {
    const std::size_t k = factors.models.columns;
    const std::size_t d = factors.projection.columns;
    for (std::size_t m = 0; m < factors.models.rows; ++m) {
        const float* model = factors.models.row(m);
        double square = 0.0;
        for (std::size_t i = 0; i < k; ++i) square += static_cast<double>(model[i]) * model[i];
        const double inverse_norm = 1.0 / std::max(std::sqrt(square), 1e-12);
        double* out = folded + m * d;
        std::fill_n(out, d, 0.0);
        for (std::size_t i = 0; i < k; ++i) {
            const double scale = static_cast<double>(factors.weights[i]) *
                                 static_cast<double>(model[i]) * inverse_norm;
            const float* row = factors.projection.row(i);
            for (std::size_t j = 0; j < d; ++j) out[j] += scale * static_cast<double>(row[j]);
        }
    }
}

void pair_win_rates(const float* pair, const MatrixView& prompts, std::size_t thread_count,
                    double* win_rates) {
    const auto dot_rows = simd::functions().dot_rows;
    for_each_block(prompts.rows, thread_count, [&](std::size_t begin, std::size_t end) noexcept {
        float deltas[kPromptsPerTask];
        dot_rows(prompts.row(begin), end - begin, prompts.stride, pair, prompts.columns, deltas);
        for (std::size_t i = begin; i < end; ++i) {
            const double delta = deltas[i - begin];
            win_rates[i] = std::isfinite(delta) && delta != 0.0
                               ? sigmoid(delta)
                               : std::numeric_limits<double>::quiet_NaN();
        }
    });
}

void model_deltas(const MatrixView& folded, const MatrixView& prompts, std::size_t thread_count,
                  float* deltas) {
    const auto dot_rows = simd::functions().dot_rows;
    for_each_block(prompts.rows, thread_count, [&](std::size_t begin, std::size_t end) noexcept {
        for (std::size_t i = begin; i < end; ++i) {
            dot_rows(folded.data, folded.rows, folded.stride, prompts.row(i), folded.columns,
                     deltas + i * folded.rows);
        }
    });
}

}  // namespace fastroute
