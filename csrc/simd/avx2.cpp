// AVX2, FMA and F16C: 8 floats or 4 doubles at a time. Compiled with those flags, this file only.
#include <immintrin.h>

#include "simd/functions.hpp"

namespace fastroute::simd {
namespace {

// One vector of elements of a row, widened to float32.
__m256 load(const float* row) noexcept { return _mm256_loadu_ps(row); }
__m256 load(const std::uint16_t* row) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}
__m256 load(const std::int8_t* row) noexcept {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(row))));
}
float widen(float value) noexcept { return value; }
float widen(std::uint16_t bits) noexcept { return _cvtsh_ss(bits); }
float widen(std::int8_t value) noexcept { return static_cast<float>(value); }

// Four partial sums hide the latency of the FMA. Rows are read one after another: avx512.cpp says
// why.
template <typename Element>
float dot(const Element* row, const float* query, std::size_t dimensions) noexcept {
    __m256 sums[4];
    for (__m256& sum : sums) sum = _mm256_setzero_ps();
    std::size_t j = 0;
    for (; j + 32 <= dimensions; j += 32) {
        for (int lane = 0; lane < 4; ++lane) {
            const __m256 q = _mm256_loadu_ps(query + j + 8 * lane);
            sums[lane] = _mm256_fmadd_ps(load(row + j + 8 * lane), q, sums[lane]);
        }
    }
    for (; j + 8 <= dimensions; j += 8) {
        sums[0] = _mm256_fmadd_ps(load(row + j), _mm256_loadu_ps(query + j), sums[0]);
    }
    const __m256 eight =
        _mm256_add_ps(_mm256_add_ps(sums[0], sums[1]), _mm256_add_ps(sums[2], sums[3]));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    float sum = _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
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

// Adds kVectors * 8 columns of every token's row, with the sums kept in registers.
template <int kVectors, typename Element>
void add_columns(const Element* table, const float* scales, std::size_t dimensions,
                 const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    __m256 sums[kVectors];
    for (int v = 0; v < kVectors; ++v) sums[v] = _mm256_loadu_ps(sum + 8 * v);
    for (std::size_t t = 0; t < id_count; ++t) {
        const auto id = static_cast<std::size_t>(ids[t]);
        const Element* row = table + id * dimensions;
        const __m256 scale = _mm256_set1_ps(scales[id]);
        for (int v = 0; v < kVectors; ++v) {
            sums[v] = _mm256_fmadd_ps(load(row + 8 * v), scale, sums[v]);
        }
    }
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(sum + 8 * v, sums[v]);
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
__m256d exp2_clamped(__m256d x) noexcept {
    x = _mm256_min_pd(_mm256_max_pd(x, _mm256_set1_pd(-1022.0)), _mm256_set1_pd(1023.0));
    const __m256d k = _mm256_round_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m256d r = _mm256_mul_pd(_mm256_sub_pd(x, k), _mm256_set1_pd(0.6931471805599453));
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
    __m256d series = _mm256_set1_pd(kInverseFactorials[0]);
    for (int i = 1; i < 13; ++i) {
        series = _mm256_fmadd_pd(series, r, _mm256_set1_pd(kInverseFactorials[i]));
    }
    // 2^52 + 2^51 + 1023 puts k + 1023 into the low bits of the significand.
    const __m256i biased =
        _mm256_castpd_si256(_mm256_add_pd(k, _mm256_set1_pd(6755399441055744.0 + 1023.0)));
    return _mm256_mul_pd(series, _mm256_castsi256_pd(_mm256_slli_epi64(biased, 52)));
}

void exp2_scaled(const float* x, std::size_t count, double scale, double* out) noexcept {
    const __m256d scales = _mm256_set1_pd(scale);
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const __m256d values = _mm256_cvtps_pd(_mm_loadu_ps(x + i));
        _mm256_storeu_pd(out + i, exp2_clamped(_mm256_mul_pd(values, scales)));
    }
    if (i < count) {
        float padded[4] = {};
        double results[4];
        for (std::size_t k = i; k < count; ++k) padded[k - i] = x[k];
        const __m256d values = _mm256_cvtps_pd(_mm_loadu_ps(padded));
        _mm256_storeu_pd(results, exp2_clamped(_mm256_mul_pd(values, scales)));
        for (std::size_t k = i; k < count; ++k) out[k] = results[k - i];
    }
}

}  // namespace

const Functions& avx2_functions() noexcept {
    static constexpr Functions functions{
        dot_rows,        dot_rows_half,        dot_rows_int8,
        add_scaled_rows, add_scaled_rows_half, add_scaled_rows_float,
        exp2_scaled};
    return functions;
}

}  // namespace fastroute::simd
