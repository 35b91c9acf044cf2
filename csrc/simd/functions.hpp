// The contract that every instruction set fulfils: seven loops, one struct of pointers.
//
// This header declares and defines nothing inline. An ISA file includes it, its intrinsics and
// nothing else: an inline function compiled twice, once for AVX-512 and once for the baseline, is
// merged by the linker, and the AVX-512 copy can win on a machine that cannot run it.
//
// All pointers may be unaligned to the vector width, none may be null unless its count is zero,
// outputs never alias inputs. Results do not depend on how rows are grouped into calls.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastroute::simd {

struct Functions {
    // out[r] = sum_j rows[r * stride + j] * query[j], j < dimensions, in float32 with at least 16
    // partial sums (scalar: in float64).
    void (*dot_rows)(const float* rows, std::size_t row_count, std::size_t stride,
                     const float* query, std::size_t dimensions, float* out) noexcept;

    // The same for rows of IEEE half-precision floats, given as their bits, and of signed bytes:
    // each element is widened to float32, which is exact.
    void (*dot_rows_half)(const std::uint16_t* rows, std::size_t row_count, std::size_t stride,
                          const float* query, std::size_t dimensions, float* out) noexcept;
    void (*dot_rows_int8)(const std::int8_t* rows, std::size_t row_count, std::size_t stride,
                          const float* query, std::size_t dimensions, float* out) noexcept;

    // sum[j] += sum_t scales[ids[t]] * table[ids[t] * dimensions + j], in float32, tokens in order.
    // Every id is a valid row of the table. Elements are widened as above.
    void (*add_scaled_rows)(const std::int8_t* table, const float* scales, std::size_t dimensions,
                            const std::int32_t* ids, std::size_t id_count, float* sum) noexcept;
    void (*add_scaled_rows_half)(const std::uint16_t* table, const float* scales,
                                 std::size_t dimensions, const std::int32_t* ids,
                                 std::size_t id_count, float* sum) noexcept;
    void (*add_scaled_rows_float)(const float* table, const float* scales, std::size_t dimensions,
                                  const std::int32_t* ids, std::size_t id_count,
                                  float* sum) noexcept;

    // out[i] = 2^(x[i] * scale), in float64 to 2 units in the last place; the exponent is clamped
    // to [-1022, 1023], so that nothing becomes zero, subnormal or infinite.
    void (*exp2_scaled)(const float* x, std::size_t count, double scale, double* out) noexcept;
};

const Functions& scalar_functions() noexcept;
const Functions& avx2_functions() noexcept;
const Functions& avx512_functions() noexcept;
const Functions& neon_functions() noexcept;

}  // namespace fastroute::simd
