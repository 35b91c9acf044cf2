#include "text/normalizer.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace fastroute::text {
namespace {

struct Decoded {
    char32_t code;
    std::size_t length;
};

// One code point that is not ASCII. What is no UTF-8 gives U+FFFD and one byte.
Decoded decode(const std::uint8_t* at, const std::uint8_t* end) noexcept {
    constexpr Decoded kBad{kReplacementCharacter, 1};
    const std::size_t left = static_cast<std::size_t>(end - at);
    const auto trailing = [&](std::size_t i) { return (at[i] & 0xC0) == 0x80; };
    const char32_t lead = at[0];
    if (lead >= 0xC2 && lead < 0xE0) {
        if (left < 2 || !trailing(1)) return kBad;
        return {(lead & 0x1F) << 6 | (at[1] & 0x3FU), 2};
    }
    if (lead >= 0xE0 && lead < 0xF0) {
        if (left < 3 || !trailing(1) || !trailing(2)) return kBad;
        const char32_t code = (lead & 0x0F) << 12 | (at[1] & 0x3FU) << 6 | (at[2] & 0x3FU);
        if (code < 0x800 || (code >= 0xD800 && code < 0xE000)) return kBad;
        return {code, 3};
    }
    if (lead >= 0xF0 && lead < 0xF5) {
        if (left < 4 || !trailing(1) || !trailing(2) || !trailing(3)) return kBad;
        const char32_t code =
            (lead & 0x07) << 18 | (at[1] & 0x3FU) << 12 | (at[2] & 0x3FU) << 6 | (at[3] & 0x3FU);
        if (code < 0x10000 || code > 0x10FFFF) return kBad;
        return {code, 4};
    }
    return kBad;
}

struct Ascii {
    std::array<std::uint8_t, 128> kept{};
    std::array<std::uint8_t, 128> lowered{};
    // 1 in the byte of the code point's class: counts of eight classes are added at once.
    std::array<std::uint64_t, 128> lanes{};
};

// Classes of ASCII, a byte of a 64-bit word each.
constexpr CodePointClass kLanes[] = {CodePointClass::space,       CodePointClass::newline,
                                     CodePointClass::control,     CodePointClass::digit,
                                     CodePointClass::symbol,      CodePointClass::punctuation,
                                     CodePointClass::ascii_upper, CodePointClass::latin};

const Ascii& ascii_tables() {
    static const Ascii tables = [] {
        Ascii made;
        const Unicode& unicode = Unicode::tables(false);
        for (char32_t code = 0; code < 128; ++code) {
            const Properties properties = unicode.properties(code);
            const Action action = properties.action;
            const auto byte = static_cast<std::uint8_t>(code);
            made.kept[code] = action == Action::drop    ? std::uint8_t{0}
                              : action == Action::space ? std::uint8_t{' '}
                                                        : byte;
            made.lowered[code] =
                code >= 'A' && code <= 'Z' ? static_cast<std::uint8_t>(byte + 32) : made.kept[code];
            for (std::size_t lane = 0; lane < 8; ++lane) {
                if (properties.code_class == kLanes[lane]) {
                    made.lanes[code] = std::uint64_t{1} << (8 * lane);
                }
            }
        }
        return made;
    }();
    return tables;
}

}  // namespace

Normalizer::Normalizer(const Unicode& unicode, bool lowercase, std::string_view text) noexcept
    : unicode_(unicode),
      ascii_(lowercase ? ascii_tables().lowered.data() : ascii_tables().kept.data()),
      first_(reinterpret_cast<const std::uint8_t*>(text.data())),
      next_(first_),
      end_(first_ + text.size()) {
    counts_.bytes = text.size();
}

void Normalizer::fill() noexcept {
    if (begin_ > 0) {
        std::memmove(buffer_, buffer_ + begin_, written_ - begin_);
        written_ -= begin_;
        if (open_ != kNone) open_ -= begin_;
        begin_ = 0;
    }
    while (next_ != end_ && written_ < kBuffer) {
        if (*next_ < 0x80) {
            read_ascii();
        } else {
            read_code_point();
        }
    }
    if (next_ == end_) write_group();
}

void Normalizer::read_ascii() noexcept {
    write_group();
    const auto& lanes = ascii_tables().lanes;
    // No lane overflows, and each code point writes at most a space and a byte.
    const std::size_t most = std::min({static_cast<std::size_t>(end_ - next_), std::size_t{255},
                                       (kBuffer + kStep - written_) / 2});
    const std::uint8_t* const stop = next_ + most;
    const std::uint8_t* at = next_;
    std::uint8_t* out = buffer_ + written_;
    std::uint64_t lane_counts = 0;
    std::size_t pending = space_pending_ ? 1 : 0;
    std::size_t words = 0;
    std::uint8_t last = 0;
    for (; at != stop && *at < 0x80; ++at) {
        lane_counts += lanes[*at];
        last = ascii_[*at];
        if (last > ' ') {
            *out = ' ';
            out += pending;
            words += pending;
            pending = 0;
            *out++ = last;
        } else if (last == ' ') {
            pending = 1;
        }
    }
    next_ = at;
    written_ = static_cast<std::size_t>(out - buffer_);
    open_ = last > ' ' ? written_ - 1 : kNone;
    space_pending_ = pending != 0;
    counts_.words += words;
    for (std::size_t lane = 0; lane < 8; ++lane) {
        counts_.classes[static_cast<std::size_t>(kLanes[lane])] += lane_counts >> (8 * lane) & 255;
    }
}

void Normalizer::read_code_point() noexcept {
    const Decoded decoded = decode(next_, end_);
    next_ += decoded.length;
    const Properties properties = unicode_.properties(decoded.code);
    ++counts_.classes[static_cast<std::size_t>(properties.code_class)];
    if (properties.action != Action::replace) {
        take(decoded.code, properties);
        return;
    }
    const char32_t* sequence = unicode_.sequence(properties.sequence);
    for (char32_t i = 1; i <= sequence[0]; ++i) take(sequence[i], unicode_.properties(sequence[i]));
}

void Normalizer::take(char32_t code, Properties properties) noexcept {
    switch (properties.action) {
        case Action::keep:
        case Action::replace:  // never: replacements are in NFKC
            write_group();
            open_ = kNone;
            write(code);
            return;
        case Action::combine:
            append_mark(code);
            return;
        case Action::space:
            write_group();
            open_ = kNone;
            space_pending_ = true;
            return;
        case Action::drop:
            write_group();
            open_ = kNone;
            return;
    }
}

// Opens the character before the mark again: it comes apart, and the mark joins its group.
void Normalizer::append_mark(char32_t code) noexcept {
    if (open_ != kNone) {
        const std::uint8_t* at = buffer_ + open_;
        const char32_t before = *at < 0x80 ? *at : decode(at, buffer_ + written_).code;
        group_size_ = Unicode::decompose(before, group_);
        written_ = open_;
        open_ = kNone;
    }
    if (group_size_ == kGroup) write_group();
    group_[group_size_++] = code;
}

// Orders the group's marks, composes what can be composed (UAX 15, D117), and writes it.
void Normalizer::write_group() noexcept {
    if (group_size_ == 0) return;
    const auto class_of = [this](char32_t code) {
        return static_cast<unsigned>(unicode_.properties(code).combining_class);
    };
    for (std::size_t i = 1; i < group_size_; ++i) {
        const char32_t code = group_[i];
        const unsigned combining = class_of(code);
        std::size_t j = i;
        for (; combining != 0 && j > 0 && class_of(group_[j - 1]) > combining; --j) {
            group_[j] = group_[j - 1];
        }
        group_[j] = code;
    }
    char32_t composed[kGroup];
    std::size_t size = 0;
    std::size_t starter = kNone;
    unsigned last_class = 0;
    for (std::size_t i = 0; i < group_size_; ++i) {
        const char32_t code = group_[i];
        const unsigned combining = class_of(code);
        if (starter != kNone &&
            (starter + 1 == size || (last_class != 0 && last_class < combining))) {
            if (const char32_t whole = Unicode::compose(composed[starter], code); whole != 0) {
                composed[starter] = whole;
                continue;
            }
        }
        if (combining == 0) starter = size;
        last_class = combining;
        composed[size++] = code;
    }
    group_size_ = 0;
    open_ = kNone;
    for (std::size_t i = 0; i < size; ++i) write(composed[i]);
    open_ = kNone;
}

void Normalizer::write(char32_t code) noexcept {
    std::uint8_t* out = buffer_ + written_;
    if (space_pending_) {
        *out++ = ' ';
        ++counts_.words;
        space_pending_ = false;
    }
    open_ = static_cast<std::size_t>(out - buffer_);
    if (code < 0x80) {
        *out++ = static_cast<std::uint8_t>(code);
    } else if (code < 0x800) {
        *out++ = static_cast<std::uint8_t>(0xC0 | code >> 6);
        *out++ = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
    } else if (code < 0x10000) {
        *out++ = static_cast<std::uint8_t>(0xE0 | code >> 12);
        *out++ = static_cast<std::uint8_t>(0x80 | (code >> 6 & 0x3F));
        *out++ = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
    } else {
        *out++ = static_cast<std::uint8_t>(0xF0 | code >> 18);
        *out++ = static_cast<std::uint8_t>(0x80 | (code >> 12 & 0x3F));
        *out++ = static_cast<std::uint8_t>(0x80 | (code >> 6 & 0x3F));
        *out++ = static_cast<std::uint8_t>(0x80 | (code & 0x3F));
    }
    written_ = static_cast<std::size_t>(out - buffer_);
}

}  // namespace fastroute::text
