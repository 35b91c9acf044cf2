// The reference: what the other files must compute, as plainly as it can be said. Also the
// fallback where no other level runs.
#include <algorithm>
#include <cmath>
#include <limits>

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

// The value of the half-precision float with these bits.
double half_value(std::uint16_t bits) noexcept {
    const int exponent = (bits >> 10) & 31;
    const int fraction = bits & 1023;
    double value =
        exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    if (exponent == 31) {
        value = fraction == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
    }
    return (bits & 0x8000) != 0 ? -value : value;
}

void dot_rows_half(const std::uint16_t* rows, std::size_t row_count, std::size_t stride,
                   const float* query, std::size_t dimensions, float* out) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) {
        double sum = 0.0;
        for (std::size_t j = 0; j < dimensions; ++j) {
            sum += half_value(rows[r * stride + j]) * static_cast<double>(query[j]);
        }
        out[r] = static_cast<float>(sum);
    }
}

void dot_rows_int8(const std::int8_t* rows, std::size_t row_count, std::size_t stride,
                   const float* query, std::size_t dimensions, float* out) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) {
        double sum = 0.0;
        for (std::size_t j = 0; j < dimensions; ++j) {
            sum += static_cast<double>(rows[r * stride + j]) * static_cast<double>(query[j]);
        }
        out[r] = static_cast<float>(sum);
    }
}

float widen(float value) noexcept { return value; }
float widen(std::uint16_t bits) noexcept { return static_cast<float>(half_value(bits)); }
float widen(std::int8_t value) noexcept { return static_cast<float>(value); }

template <typename Element>
void add_all(const Element* table, const float* scales, std::size_t dimensions,
             const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    for (std::size_t t = 0; t < id_count; ++t) {
        const auto id = static_cast<std::size_t>(ids[t]);
        for (std::size_t j = 0; j < dimensions; ++j) {
            sum[j] += scales[id] * widen(table[id * dimensions + j]);
        }
    }
}

void add_scaled_rows(const std::int8_t* table, const float* scales, std::size_t dimensions,
                     const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    add_all(table, scales, dimensions, ids, id_count, sum);
}

void add_scaled_rows_half(const std::uint16_t* table, const float* scales, std::size_t dimensions,
                          const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    add_all(table, scales, dimensions, ids, id_count, sum);
}

void add_scaled_rows_float(const float* table, const float* scales, std::size_t dimensions,
                           const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    add_all(table, scales, dimensions, ids, id_count, sum);
}

void exp2_scaled(const float* x, std::size_t count, double scale, double* out) noexcept {
    for (std::size_t i = 0; i < count; ++i) {
        out[i] = std::exp2(std::clamp(static_cast<double>(x[i]) * scale, -1022.0, 1023.0));
    }
}

}  // namespace

const Functions& scalar_functions() noexcept {
    static constexpr Functions functions{
        dot_rows,        dot_rows_half,        dot_rows_int8,
        add_scaled_rows, add_scaled_rows_half, add_scaled_rows_float,
        exp2_scaled};
    return functions;
}

}  // namespace fastroute::simd
