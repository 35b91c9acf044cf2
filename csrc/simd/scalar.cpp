// The reference: what the other files must compute, as plainly as it can be said. Also the
// fallback where no other level runs.
#include <algorithm>
#include <cmath>

#include "simd/functions.hpp"

namespace fastroute::simd {
namespace {

void dot_rows(const float* rows, std::size_t row_count, std::size_t stride, const float* query,
              std::size_t dimensions, float* out) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) {
        double sum = 0.0;
        for (std::size_t j = 0; j < dimensions; ++j) {
            sum += static_cast<double>(rows[r * stride + j]) * static_cast<double>(query[j]);
        }
        out[r] = static_cast<float>(sum);
    }
}

void add_scaled_rows(const std::int8_t* table, const float* scales, std::size_t dimensions,
                     const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    for (std::size_t t = 0; t < id_count; ++t) {
        const auto id = static_cast<std::size_t>(ids[t]);
        for (std::size_t j = 0; j < dimensions; ++j) {
            sum[j] += scales[id] * static_cast<float>(table[id * dimensions + j]);
        }
    }
}

void exp2_scaled(const float* x, std::size_t count, double scale, double* out) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = std::exp2(std::clamp(static_cast<double>(x[i]) * scale, -1022.0, 1023.0));
    }
}

}  // namespace

const Functions& scalar_functions() noexcept {
    static constexpr Functions functions{dot_rows, add_scaled_rows, exp2_scaled};
    return functions;
}

}  // namespace fastroute::simd
