// From UTF-8 to a vector in one pass: normalise, take the longest piece of the vocabulary from left
// to right, add the pieces' rows, scale to length one, append the signals.
//
//     e(text) = [s / |s|, signals],   s = sum over pieces p of scales[p] * table[p]
//
// A code point that no piece covers is skipped; it counts as unknown, and adds the row
// `unknown_row` where there is one. A text whose s is 0 (without any known piece, say) has the zero
// vector, its signals included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "kernels/token_bag.hpp"
#include "text/normalizer.hpp"
#include "text/piece_trie.hpp"
#include "text/text_features.hpp"

namespace fastroute::text {

struct TextModel {
    PieceTrie trie;
    const Unicode* unicode;
    bool lowercase;
    std::int32_t unknown_row;  // -1: none
    TokenTable table;          // with no element for the length
    ClassUnits class_units;
    std::vector<Signal> signals;

    // Length of an embedding.
    std::size_t width() const noexcept { return table.dimensions + signals.size(); }
};

// Reading one text. `advance` may be called until it returns true; the result does not depend on
// how often.
class TextReader {
  public:
    // Adds rows to `sum`, [dimensions], which is set to zero first; null where only `pieces` is
    // asked for. `pieces` gets the rows of the pieces in order.
    TextReader(const TextModel& model, std::string_view text, float* sum,
               std::vector<std::int32_t>* pieces = nullptr) noexcept;

    // Reads about so many bytes more. True at the end of the text.
    bool advance(std::size_t bytes) noexcept;

    // After the end: scales the sum to length one and writes the signals behind it. False where
    // the sum is not finite.
    bool finish(float* embedding) noexcept;

    const TextCounts& counts() noexcept { return normalizer_.counts(); }

  private:
    static constexpr std::size_t kPiecesAtOnce = 256;

    void match() noexcept;
    void push(std::int32_t row) noexcept;
    void add_rows() noexcept;

    const TextModel& model_;
    Normalizer normalizer_;
    float* sum_;
    std::vector<std::int32_t>* pieces_;
    std::size_t waiting_ = 0;
    std::int32_t rows_[kPiecesAtOnce];
};

// Writes `width()` floats. False, and they mean nothing, if the sum is not finite.
bool embed_text(const TextModel& model, std::string_view text, float* embedding) noexcept;

// The same for many texts: [texts, width]. The results are the same for any number of threads.
bool embed_texts(const TextModel& model, const std::string_view* texts, std::size_t text_count,
                 std::size_t thread_count, float* embeddings);

// win_rates[i] = sigmoid(pair . e(text i)); NaN where the product is not finite or exactly zero,
// or the embedding is not finite. pair: [width].
void text_win_rates(const TextModel& model, const float* pair, const std::string_view* texts,
                    std::size_t text_count, std::size_t thread_count, double* win_rates);

}  // namespace fastroute::text
