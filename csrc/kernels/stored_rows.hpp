// Rows of a matrix that somebody else owns, in one of three forms: float32, half precision (as its
// bits), or signed bytes with a factor a row. Smaller rows stream from memory faster.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "simd/functions.hpp"

namespace fastroute {

struct StoredRows {
    // One of the first three is set; rows lie one after another.
    const float* floats;
    const std::uint16_t* halves;
    const std::int8_t* bytes;
    const float* scales;  // [rows] for bytes: element = scale * byte
    std::size_t rows;
    std::size_t columns;

    // out[i] = dot product of row begin + i with the query, i < count.
    void dot(const simd::Functions& functions, std::size_t begin, std::size_t count,
             const float* query, float* out) const noexcept {
        const std::size_t at = begin * columns;
        if (floats != nullptr) {
            functions.dot_rows(floats + at, count, columns, query, columns, out);
        } else if (halves != nullptr) {
            functions.dot_rows_half(halves + at, count, columns, query, columns, out);
        } else {
            functions.dot_rows_int8(bytes + at, count, columns, query, columns, out);
            for (std::size_t i = 0; i < count; ++i) out[i] *= scales[begin + i];
        }
    }

    void prefetch(std::size_t row) const noexcept {
        const std::size_t at = row * columns;
        const char* address = floats != nullptr   ? reinterpret_cast<const char*>(floats + at)
                              : halves != nullptr ? reinterpret_cast<const char*>(halves + at)
                                                  : reinterpret_cast<const char*>(bytes + at);
        const std::size_t width = columns * (floats != nullptr ? 4 : halves != nullptr ? 2 : 1);
        // The first lines only: the processor's own prefetcher follows.
        for (std::size_t byte = 0; byte < std::min<std::size_t>(width, 1024); byte += 64) {
            __builtin_prefetch(address + byte);
        }
    }
};

}  // namespace fastroute
