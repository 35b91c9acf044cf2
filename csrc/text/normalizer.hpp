// Text as a SentencePiece vocabulary expects it, a buffer at a time.
//
// In this order: NFKC (UAX 15); on request each code point in lower case, and NFC again; white
// space, zero-width spaces, direction marks, U+2581 and U+FFFD become a space; other controls,
// format characters and variation selectors are dropped; spaces at both ends are removed and runs
// of them become one; one space is put in front. The space stands for SentencePiece's U+2581.
//
// Marks are ordered and composed in groups of at most 32 code points, so that memory is bounded
// (UAX 15 calls a text with no more than 30 marks in a row stream-safe): NFKC is exact for any text
// with shorter runs of marks, which is any text of a natural language. A byte that is not UTF-8
// (RFC 3629) reads as U+FFFD.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "text/text_counts.hpp"
#include "text/unicode.hpp"

namespace fastroute::text {

class Normalizer {
  public:
    Normalizer(const Unicode& unicode, bool lowercase, std::string_view text) noexcept;

    // Reads on until the buffer is full or the text ends.
    void fill() noexcept;
    bool ended() const noexcept { return next_ == end_; }

    // The normalised bytes that are settled, which no later code point changes.
    const std::uint8_t* data() const noexcept { return buffer_ + begin_; }
    std::size_t size() const noexcept { return settled() - begin_; }
    void consume(std::size_t bytes) noexcept { begin_ += bytes; }

    // Bytes of the text that have been read.
    std::size_t position() const noexcept { return static_cast<std::size_t>(next_ - first_); }
    TextCounts& counts() noexcept { return counts_; }

    static constexpr std::size_t kBuffer = 4096;

  private:
    // One step of `fill` writes at most a group of marks and a replacement.
    static constexpr std::size_t kStep = 512;
    static constexpr std::size_t kGroup = 32;
    static constexpr std::size_t kNone = ~std::size_t{0};

    std::size_t settled() const noexcept { return open_ != kNone && !ended() ? open_ : written_; }
    void read_ascii() noexcept;
    void read_code_point() noexcept;
    void take(char32_t code, Properties properties) noexcept;
    void append_mark(char32_t code) noexcept;
    void write_group() noexcept;
    void write(char32_t code) noexcept;

    const Unicode& unicode_;
    const std::uint8_t* ascii_;  // what is written for each; 0 for nothing
    const std::uint8_t* first_;
    const std::uint8_t* next_;
    const std::uint8_t* end_;
    std::size_t begin_ = 0;       // of what is not consumed
    std::size_t written_ = 0;     // end of the buffer's content
    std::size_t open_ = kNone;    // where the last character begins, if a mark may still change it
    std::size_t group_size_ = 0;  // code points that are not in the buffer yet
    bool space_pending_ = true;   // the one in front
    TextCounts counts_;
    char32_t group_[kGroup];
    std::uint8_t buffer_[kBuffer + kStep];
};

}  // namespace fastroute::text
