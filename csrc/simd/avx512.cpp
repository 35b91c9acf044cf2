// AVX-512 (F, BW, DQ, VL): 16 floats or 8 doubles at a time, tails by masks. Compiled with those
// flags, this file only.
#include <immintrin.h>

#include "simd/functions.hpp"

namespace fastroute::simd {
namespace {

__mmask16 first_lanes(std::size_t count) noexcept {
    return static_cast<__mmask16>((1U << count) - 1U);
}

// One vector of elements of a row, widened to float32.
__m512 load(const float* row) noexcept { return _mm512_loadu_ps(row); }
__m512 load(const std::uint16_t* row) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)));
}
__m512 load(const std::int8_t* row) noexcept {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row))));
}
__m512 load(__mmask16 mask, const float* row) noexcept { return _mm512_maskz_loadu_ps(mask, row); }
__m512 load(__mmask16 mask, const std::uint16_t* row) noexcept {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row));
}
__m512 load(__mmask16 mask, const std::int8_t* row) noexcept {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, row)));
}

// Four partial sums hide the latency of the FMA. Rows are read one after another and not several at
// a time: from memory, one stream in order is faster than four side by side (1.4 times, measured),
// and from a cache it makes no difference.
template <typename Element>
float dot(const Element* row, const float* query, std::size_t dimensions) noexcept {
    __m512 sums[4];
    for (__m512& sum : sums) sum = _mm512_setzero_ps();
    std::size_t j = 0;
    for (; j + 64 <= dimensions; j += 64) {
        for (int lane = 0; lane < 4; ++lane) {
            const __m512 q = _mm512_loadu_ps(query + j + 16 * lane);
            sums[lane] = _mm512_fmadd_ps(load(row + j + 16 * lane), q, sums[lane]);
        }
    }
    for (; j < dimensions; j += 16) {
        const std::size_t left = dimensions - j;
        const __mmask16 mask = left >= 16 ? static_cast<__mmask16>(0xFFFF) : first_lanes(left);
        const __m512 q = _mm512_maskz_loadu_ps(mask, query + j);
        sums[0] = _mm512_fmadd_ps(load(mask, row + j), q, sums[0]);
    }
    return _mm512_reduce_add_ps(
        _mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
}

// The same for rows of kVectors vectors, with the query kept in registers: beside rows in a cache,
// reading it again for each row takes a quarter of the time.
template <int kVectors>
void dot_short(const float* rows, std::size_t row_count, std::size_t stride, const float* query,
               std::size_t dimensions, float* out) noexcept {
    constexpr int kLast = kVectors - 1;
    const __mmask16 last = first_lanes(dimensions - 16 * kLast);
    __m512 q[kVectors];
    for (int v = 0; v < kLast; ++v) q[v] = _mm512_loadu_ps(query + 16 * v);
    q[kLast] = _mm512_maskz_loadu_ps(last, query + 16 * kLast);
    for (std::size_t r = 0; r < row_count; ++r) {
        const float* row = rows + r * stride;
        __m512 sum = _mm512_mul_ps(load(row), q[0]);
        for (int v = 1; v < kLast; ++v) sum = _mm512_fmadd_ps(load(row + 16 * v), q[v], sum);
        sum = _mm512_fmadd_ps(load(last, row + 16 * kLast), q[kLast], sum);
        out[r] = _mm512_reduce_add_ps(sum);
    }
}

template <typename Element>
void dot_all(const Element* rows, std::size_t row_count, std::size_t stride, const float* query,
             std::size_t dimensions, float* out) noexcept {
    for (std::size_t r = 0; r < row_count; ++r) out[r] = dot(rows + r * stride, query, dimensions);
}

void dot_rows(const float* rows, std::size_t row_count, std::size_t stride, const float* query,
              std::size_t dimensions, float* out) noexcept {
    // The bundled embedder's 64 dimensions, and those with its signals.
    const std::size_t vectors = (dimensions + 15) / 16;
    if (vectors == 4) return dot_short<4>(rows, row_count, stride, query, dimensions, out);
    if (vectors == 5) return dot_short<5>(rows, row_count, stride, query, dimensions, out);
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

// Adds kVectors * 16 columns of every token's row, with the sums kept in registers.
template <int kVectors, typename Element>
void add_columns(const Element* table, const float* scales, std::size_t dimensions,
                 const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    __m512 sums[kVectors];
    for (int v = 0; v < kVectors; ++v) sums[v] = _mm512_loadu_ps(sum + 16 * v);
    for (std::size_t t = 0; t < id_count; ++t) {
        const auto id = static_cast<std::size_t>(ids[t]);
        const Element* row = table + id * dimensions;
        const __m512 scale = _mm512_set1_ps(scales[id]);
        for (int v = 0; v < kVectors; ++v) {
            sums[v] = _mm512_fmadd_ps(load(row + 16 * v), scale, sums[v]);
        }
    }
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_ps(sum + 16 * v, sums[v]);
}

template <typename Element>
void add_all(const Element* table, const float* scales, std::size_t dimensions,
             const std::int32_t* ids, std::size_t id_count, float* sum) noexcept {
    std::size_t j = 0;
    for (; j + 256 <= dimensions; j += 256) {
        add_columns<16>(table + j, scales, dimensions, ids, id_count, sum + j);
    }
    for (; j + 16 <= dimensions; j += 16) {
        add_columns<1>(table + j, scales, dimensions, ids, id_count, sum + j);
    }
    if (j < dimensions) {
        const __mmask16 mask = first_lanes(dimensions - j);
        __m512 total = _mm512_maskz_loadu_ps(mask, sum + j);
        for (std::size_t t = 0; t < id_count; ++t) {
            const auto id = static_cast<std::size_t>(ids[t]);
            const __m512 values = load(mask, table + id * dimensions + j);
            total = _mm512_fmadd_ps(values, _mm512_set1_ps(scales[id]), total);
        }
        _mm512_mask_storeu_ps(sum + j, mask, total);
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
__m512d exp2_clamped(__m512d x) noexcept {
    x = _mm512_min_pd(_mm512_max_pd(x, _mm512_set1_pd(-1022.0)), _mm512_set1_pd(1023.0));
    const __m512d k = _mm512_roundscale_pd(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512d r = _mm512_mul_pd(_mm512_sub_pd(x, k), _mm512_set1_pd(0.6931471805599453));
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
    __m512d series = _mm512_set1_pd(kInverseFactorials[0]);
    for (int i = 1; i < 13; ++i) {
        series = _mm512_fmadd_pd(series, r, _mm512_set1_pd(kInverseFactorials[i]));
    }
    return _mm512_scalef_pd(series, k);
}

void exp2_scaled(const float* x, std::size_t count, double scale, double* out) noexcept {
    const __m512d scales = _mm512_set1_pd(scale);
    for (std::size_t i = 0; i < count; i += 8) {
        const std::size_t left = count - i;
        const auto mask = static_cast<__mmask8>(left >= 8 ? 0xFF : (1U << left) - 1U);
        const __m512d values = _mm512_cvtps_pd(_mm256_maskz_loadu_ps(mask, x + i));
        _mm512_mask_storeu_pd(out + i, mask, exp2_clamped(_mm512_mul_pd(values, scales)));
    }
}

}  // namespace

const Functions& avx512_functions() noexcept {
    static constexpr Functions functions{
        dot_rows,        dot_rows_half,        dot_rows_int8,
        add_scaled_rows, add_scaled_rows_half, add_scaled_rows_float,
        exp2_scaled};
    return functions;
}

}  // namespace fastroute::simd
