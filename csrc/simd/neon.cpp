// NEON (64-bit Arm, where every processor has it): 4 floats or 2 doubles at a time.
#include <arm_neon.h>

#include "simd/functions.hpp"

namespace fastroute::simd {
namespace {

// One vector of elements of a row, widened to float32.
float32x4_t load(const float* row) noexcept { return vld1q_f32(row); }
float32x4_t load(const std::uint16_t* row) noexcept {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(row)));
}
float32x4_t load(const std::int8_t* row) noexcept {
    std::int32_t four = 0;
    __builtin_memcpy(&four, row, 4);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}
float widen(float value) noexcept { return value; }
float widen(std::uint16_t bits) noexcept {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
}
float widen(std::int8_t value) noexcept { return static_cast<float>(value); }

// Four partial sums hide the latency of the FMA. Rows are read one after another: avx512.cpp says
// why.
template <typename Element>
float dot(const Element* row, const float* query, std::size_t dimensions) noexcept {
    float32x4_t sums[4];
    for (float32x4_t& sum : sums) sum = vdupq_n_f32(0.0F);
    std::size_t j = 0;
    for (; j + 16 <= dimensions; j += 16) {
        for (int lane = 0; lane < 4; ++lane) {
            const float32x4_t q = vld1q_f32(query + j + 4 * lane);
            sums[lane] = vfmaq_f32(sums[lane], load(row + j + 4 * lane), q);
        }
    }
    float sum = vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
    for (std::size_t k = j; k < dimensions; ++k) sum += widen(row[k]) * query[k];
    return sum;
}

template <typename Element>
void dot_all(const Element* rows, std::size_t row_count, std::size_t stride, const float* query,
             std::size_t dimensions, float* out) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) out[r] = dot(rows + r * stride, query, dimensions);
}

void dot_rows(const float* rows, std::size_t row_count, std::size_t stride, const float* query,
              std::size_t dimensions, float* out) noexcept {
    dot_all(rows, row_count, stride, query, dimensions, out);
}

void dot_rows_half(const std::uint16_t* rows, std::size_t row_count, std::size_t stride,
                   const float* query, std::size_t dimensions, float* out) noexcept {
    dot_all(rows, row_count, stride, query, dimensions, out);
}

void dot_rows_int8(const std::int8_t* rows, std::size_t row_count, std::size_t stride,
                   const float* query, std::size_t dimensions, float* out) noexcept {
    dot_all(rows, row_count, stride, query, dimensions, out);
}

// Eight elements of a row as two vectors; bytes are widened together.
template <typename Element>
void load_eight(const Element* row, float32x4_t& low, float32x4_t& high) noexcept {
    low = load(row);
    high = load(row + 4);
}
void load_eight(const std::int8_t* row, float32x4_t& low, float32x4_t& high) noexcept {
    const int16x8_t wide = vmovl_s8(vld1_s8(row));
    low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
    high = vcvtq_f32_s32(vmovl_high_s16(wide));
}

// Adds kVectors * 8 columns of every token's row, with the sums kept in registers.
template <int kVectors, typename Element>
void add_columns(const Element* table, const float* scales, std::size_t dimensions,
                 const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    float32x4_t sums[2 * kVectors];
    for (int v = 0; v < 2 * kVectors; ++v) sums[v] = vld1q_f32(sum + 4 * v);
    for (std::size_t t = 0; t < id_count; ++t) {
        const auto id = static_cast<std::size_t>(ids[t]);
        const Element* row = table + id * dimensions;
        const float scale = scales[id];
        for (int v = 0; v < kVectors; ++v) {
            float32x4_t low, high;
            load_eight(row + 8 * v, low, high);
            sums[2 * v] = vfmaq_n_f32(sums[2 * v], low, scale);
            sums[2 * v + 1] = vfmaq_n_f32(sums[2 * v + 1], high, scale);
        }
    }
    for (int v = 0; v < 2 * kVectors; ++v) vst1q_f32(sum + 4 * v, sums[v]);
}

template <typename Element>
void add_all(const Element* table, const float* scales, std::size_t dimensions,
             const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    std::size_t j = 0;
    for (; j + 64 <= dimensions; j += 64) {
        add_columns<8>(table + j, scales, dimensions, ids, id_count, sum + j);
    }
    for (; j + 8 <= dimensions; j += 8) {
        add_columns<1>(table + j, scales, dimensions, ids, id_count, sum + j);
    }
    for (; j < dimensions; ++j) {
        for (std::size_t t = 0; t < id_count; ++t) {
            const auto id = static_cast<std::size_t>(ids[t]);
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

// 2^x = 2^k * e^(f ln 2), k = round(x), |f| <= 1/2; e^r by its Taylor series to r^12, whose
// remainder is below 2e-16 for |r| <= 0.3466.
float64x2_t exp2_clamped(float64x2_t x) noexcept {
    x = vminq_f64(vmaxq_f64(x, vdupq_n_f64(-1022.0)), vdupq_n_f64(1023.0));
    const float64x2_t k = vrndnq_f64(x);
    const float64x2_t r = vmulq_n_f64(vsubq_f64(x, k), 0.6931471805599453);
    constexpr double kInverseFactorials[] = {1.0 / 479001600,
                                             1.0 / 39916800,
                                             1.0 / 3628800,
                                             1.0 / 362880,
                                             1.0 / 40320,
                                             1.0 / 5040,
                                             1.0 / 720,
                                             1.0 / 120,
                                             1.0 / 24,
                                             1.0 / 6,
                                             0.5,
                                             1.0,
                                             1.0};
    float64x2_t series = vdupq_n_f64(kInverseFactorials[0]);
    for (int i = 1; i < 13; ++i) {
        series = vfmaq_f64(vdupq_n_f64(kInverseFactorials[i]), series, r);
    }
    const int64x2_t exponent = vshlq_n_s64(vaddq_s64(vcvtq_s64_f64(k), vdupq_n_s64(1023)), 52);
    return vmulq_f64(series, vreinterpretq_f64_s64(exponent));
}

void exp2_scaled(const float* x, std::size_t count, double scale, double* out) noexcept {
    std::size_t i = 0;
    for (; i + 2 <= count; i += 2) {
        const float64x2_t values = vcvt_f64_f32(vld1_f32(x + i));
        vst1q_f64(out + i, exp2_clamped(vmulq_n_f64(values, scale)));
    }
    if (i < count) {
        const float64x2_t value = vdupq_n_f64(static_cast<double>(x[i]) * scale);
        out[i] = vgetq_lane_f64(exp2_clamped(value), 0);
    }
}

}  // namespace

const Functions& neon_functions() noexcept {
    static constexpr Functions functions{
        dot_rows,        dot_rows_half,        dot_rows_int8,
        add_scaled_rows, add_scaled_rows_half, add_scaled_rows_float,
        exp2_scaled};
    return functions;
}

}  // namespace fastroute::simd
