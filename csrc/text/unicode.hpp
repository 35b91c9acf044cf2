// What the normaliser knows about each code point: its class, its combining class, what NFKC
// replaces it by, and how composed characters come apart. The data are unicode_tables.inc.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastroute::text {

// Classes that the features of a text count. The order is that of generate_unicode_tables.py.
enum class CodePointClass : std::uint8_t {
    space,
    newline,
    control,  // dropped: controls, format characters, variation selectors
    mark,
    digit,
    punctuation,
    symbol,
    ascii_upper,
    latin,
    greek,
    cyrillic,
    hebrew,
    arabic,
    devanagari,
    other_indic,
    southeast_asian,
    hangul,
    kana,
    han,
    other,
};
constexpr std::size_t kClassCount = 20;
extern const std::array<const char*, kClassCount> kClassNames;

// What the normaliser does with a code point.
enum class Action : std::uint8_t {
    keep,     // stands for itself and begins a new character
    combine,  // belongs to the character before it: a mark, or the second half of a pair
    replace,  // is replaced by a sequence of other code points
    space,
    drop,
};

struct Properties {
    CodePointClass code_class;
    Action action;
    std::uint8_t combining_class;  // Unicode's canonical combining class
    std::uint16_t sequence;        // of `replace`: where its replacement is
};

constexpr char32_t kReplacementCharacter = 0xFFFD;

class Unicode {
  public:
    // The tables with or without lower-casing; made at the first call and kept.
    static const Unicode& tables(bool lowercase);
    static const char* version() noexcept;

    const Properties& properties(char32_t code) const noexcept {
        return blocks_[index_[code >> 7]][code & 127];
    }
    // A sequence: its length, then its code points.
    const char32_t* sequence(std::size_t at) const noexcept { return sequences_.data() + at; }

    // The composed character of two code points; 0 where there is none.
    static char32_t compose(char32_t first, char32_t second) noexcept;
    // Writes the canonical decomposition of a code point (at most 4) and returns its length.
    static std::size_t decompose(char32_t code, char32_t* out) noexcept;

  private:
    using Block = std::array<Properties, 128>;

    explicit Unicode(bool lowercase);
    void read_classes();
    Properties& writable(char32_t code) {
        return blocks_[static_cast<std::size_t>(index_[code >> 7])][code & 127];
    }

    std::array<std::uint16_t, 0x110000 / 128> index_{};
    std::vector<Block> blocks_;
    std::vector<char32_t> sequences_;
};

}  // namespace fastroute::text
