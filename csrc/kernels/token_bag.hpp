// Static embedding: a prompt's vector is the sum of its tokens' vectors, scaled to length one, and
// on request one number more, which says how long the prompt is.
//
//     e(prompt) = s / |s|,   s = sum over tokens t of scales[t] * table[t]
//
// table: [vocabulary, dimensions], one row a token, in int8, half precision or float32; scales:
// float32 [vocabulary], the token's weight (one with weight 0 counts for nothing), for int8 times
// the row's quantisation step. A prompt
// with no token of any weight has s = 0 and stays the zero vector. The mean that the field writes
// (Arora et al. 2017, "a simple but tough-to-beat baseline") differs by a factor that goes away.
//
// Scaling takes the number of tokens n away, and it is worth knowing: longer prompts are harder.
// With length_scale > 0 the vector gets length_scale * ln(1 + n) as its last element; 0 where s =
// 0.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastroute {

struct TokenTable {
    // One of the first three is set.
    const std::int8_t* bytes;
    const std::uint16_t* halves;
    const float* floats;
    const float* scales;
    std::size_t vocabulary;
    std::size_t dimensions;
    float length_scale;  // 0: no element for the length

    // Length of an embedding.
    std::size_t width() const noexcept { return dimensions + (length_scale > 0.0F ? 1 : 0); }
};

// sum[j] += sum over ids of scales[id] * table[id][j]. Every id is a row of the table. Adding the
// ids in several calls gives the same sum.
void add_token_rows(const TokenTable& table, const std::int32_t* ids, std::size_t id_count,
                    float* sum) noexcept;

inline void prefetch_row(const TokenTable& table, std::int32_t id) noexcept {
    const auto row = static_cast<std::size_t>(id);
    const std::size_t at = row * table.dimensions;
    __builtin_prefetch(table.scales + row);
    if (table.bytes != nullptr) {
        __builtin_prefetch(table.bytes + at);
    } else if (table.halves != nullptr) {
        __builtin_prefetch(table.halves + at);
    } else {
        __builtin_prefetch(table.floats + at);
    }
}

enum class Scaling { unit, zero, not_finite };

// Divides `sum` by its length, unless that is zero or not finite.
Scaling scale_to_unit(float* sum, std::size_t dimensions) noexcept;

// Writes `width()` floats. False, and they mean nothing, if an id is no row of the table or the
// sum is not finite.
bool embed_token_bag(const TokenTable& table, const std::int32_t* ids, std::size_t id_count,
                     float* embedding) noexcept;

// The same for many prompts: prompt p has ids[offsets[p]] to ids[offsets[p + 1] - 1]. Returns
// false if it does for any prompt, or if the offsets don't rise from 0 to `id_count`.
bool embed_token_bags(const TokenTable& table, const std::int32_t* ids, std::size_t id_count,
                      const std::int64_t* offsets, std::size_t prompt_count,
                      std::size_t thread_count, float* embeddings);

}  // namespace fastroute
