#include "kernels/token_bag.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

// Between these a sum of squares in float32 is as good as one in float64.
constexpr float kLeastSquare = 1e-24F;
constexpr float kLargestSquare = 1e30F;

}  // namespace

void add_token_rows(const TokenTable& table, const std::int32_t* ids, std::size_t id_count,
                    float* sum) noexcept {
    const simd::Functions& functions = simd::functions();
    if (table.bytes != nullptr) {
        functions.add_scaled_rows(table.bytes, table.scales, table.dimensions, ids, id_count, sum);
    } else if (table.halves != nullptr) {
        functions.add_scaled_rows_half(table.halves, table.scales, table.dimensions, ids, id_count,
                                       sum);
    } else {
        functions.add_scaled_rows_float(table.floats, table.scales, table.dimensions, ids, id_count,
                                        sum);
    }
}

Scaling scale_to_unit(float* sum, std::size_t dimensions) noexcept {
    float square = 0.0F;
    simd::functions().dot_rows(sum, 1, dimensions, sum, dimensions, &square);
    if (square > kLeastSquare && square < kLargestSquare) {
        const float inverse_norm = 1.0F / std::sqrt(square);
        for (std::size_t j = 0; j < dimensions; ++j) sum[j] *= inverse_norm;
        return Scaling::unit;
    }
    // Squares that underflow or overflow in float32 (zero among them) are formed in float64.
    double exact_square = 0.0;
    for (std::size_t j = 0; j < dimensions; ++j) {
        exact_square += static_cast<double>(sum[j]) * static_cast<double>(sum[j]);
    }
    if (!std::isfinite(exact_square)) return Scaling::not_finite;
    const double norm = std::sqrt(exact_square);
    if (!(norm > 0.0)) return Scaling::zero;
    for (std::size_t j = 0; j < dimensions; ++j) {
        sum[j] = static_cast<float>(static_cast<double>(sum[j]) / norm);
    }
    return Scaling::unit;
}

bool embed_token_bag(const TokenTable& table, const std::int32_t* ids, std::size_t id_count,
                     float* embedding) noexcept {
    for (std::size_t t = 0; t < id_count; ++t) {
        if (ids[t] < 0 || static_cast<std::size_t>(ids[t]) >= table.vocabulary) return false;
    }
    std::fill_n(embedding, table.width(), 0.0F);
    add_token_rows(table, ids, id_count, embedding);
    const Scaling scaling = scale_to_unit(embedding, table.dimensions);
    if (scaling == Scaling::unit && table.length_scale > 0.0F) {
        embedding[table.dimensions] = table.length_scale * std::log1p(static_cast<float>(id_count));
    }
    return scaling != Scaling::not_finite;
}

bool embed_token_bags(const TokenTable& table, const std::int32_t* ids, std::size_t id_count,
                      const std::int64_t* offsets, std::size_t prompt_count,
                      std::size_t thread_count, float* embeddings) {
    if (offsets[0] != 0 || static_cast<std::size_t>(offsets[prompt_count]) != id_count)
        return false;
    for (std::size_t p = 0; p < prompt_count; ++p) {
        if (offsets[p] > offsets[p + 1]) return false;
    }
    constexpr std::size_t kPromptsPerTask = 64;
    std::atomic<bool> valid{true};
    const std::size_t tasks = (prompt_count + kPromptsPerTask - 1) / kPromptsPerTask;
    parallel_for(tasks, thread_count, [&](std::size_t task) noexcept {
        const std::size_t end = std::min(prompt_count, (task + 1) * kPromptsPerTask);
        for (std::size_t p = task * kPromptsPerTask; p < end; ++p) {
            if (!embed_token_bag(table, ids + offsets[p],
                                 static_cast<std::size_t>(offsets[p + 1] - offsets[p]),
                                 embeddings + p * table.width())) {
                valid.store(false, std::memory_order_relaxed);
            }
        }
    });
    return valid.load();
}

}  // namespace fastroute
