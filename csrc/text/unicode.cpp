#include "text/unicode.hpp"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

namespace fastroute::text {
namespace {

#include "text/unicode_tables.inc"

constexpr char32_t kCodePoints = 0x110000;

// Hangul syllables are composed by arithmetic (The Unicode Standard, section 3.12).
constexpr char32_t kSyllables = 0xAC00;
constexpr char32_t kSyllableCount = 11172;
constexpr char32_t kLeading = 0x1100;
constexpr char32_t kLeadingCount = 19;
constexpr char32_t kVowels = 0x1161;
constexpr char32_t kVowelCount = 21;
constexpr char32_t kTrailing = 0x11A7;  // one before the first
constexpr char32_t kTrailingCount = 28;

struct Pair {
    std::uint32_t composed;
    std::uint32_t first;
    std::uint32_t second;
};

using Pairs = std::vector<Pair>;

// The table as it is written, by the composed character, and again by its halves.
const Pairs& pairs_by_composed() {
    static const Pairs pairs = [] {
        Pairs made;
        for (std::size_t i = 0; i < std::size(kPairs); i += 3) {
            made.push_back({kPairs[i], kPairs[i + 1], kPairs[i + 2]});
        }
        return made;
    }();
    return pairs;
}

bool halves_before(const Pair& a, const Pair& b) {
    return std::pair(a.first, a.second) < std::pair(b.first, b.second);
}

const Pairs& pairs_by_halves() {
    static const Pairs pairs = [] {
        Pairs made = pairs_by_composed();
        std::sort(made.begin(), made.end(), halves_before);
        return made;
    }();
    return pairs;
}

// Calls take(code, targets, count) for each record of a mapping.
template <std::size_t kSize, typename Take>
void for_each_mapping(const std::uint32_t (&records)[kSize], Take&& take) {
    for (std::size_t i = 0; i < kSize;) {
        const char32_t first = records[i];
        const std::uint32_t count = records[i + 1] >> 8;
        const std::uint32_t step = records[i + 1] >> 5 & 7;
        const std::uint32_t length = records[i + 1] & 31;
        i += 2;
        for (std::uint32_t n = 0; n < count; ++n) {
            char32_t targets[32];
            if (length == 0) {
                targets[0] = records[i] + n * step;
            } else {
                std::copy_n(records + i + n * length, length, targets);
            }
            take(first + n * step, targets, length == 0 ? 1 : length);
        }
        i += length == 0 ? 1 : count * length;
    }
}

}  // namespace

const std::array<const char*, kClassCount> kClassNames = {
    "space",       "newline",         "control", "mark",     "digit",  "punctuation", "symbol",
    "ascii_upper", "latin",           "greek",   "cyrillic", "hebrew", "arabic",      "devanagari",
    "other_indic", "southeast_asian", "hangul",  "kana",     "han",    "other"};

const Unicode& Unicode::tables(bool lowercase) {
    if (lowercase) {
        static const Unicode lowered(true);
        return lowered;
    }
    static const Unicode kept(false);
    return kept;
}

const char* Unicode::version() noexcept { return kUnicodeVersion; }

// One block for all 128 code points that are of one class, which most are.
void Unicode::read_classes() {
    std::map<std::uint32_t, std::uint16_t> uniform;
    std::size_t run = 0;
    for (char32_t first = 0; first < kCodePoints; first += 128) {
        const auto end_of = [](std::size_t r) {
            return 2 * r + 2 < std::size(kClassRuns) ? kClassRuns[2 * r + 2] : kCodePoints;
        };
        while (end_of(run) <= first) ++run;
        const auto properties_of = [](std::uint32_t number) {
            const auto of = static_cast<CodePointClass>(number);
            const bool is_space = of == CodePointClass::space || of == CodePointClass::newline;
            return Properties{of,
                              is_space                        ? Action::space
                              : of == CodePointClass::control ? Action::drop
                                                              : Action::keep,
                              0, 0};
        };
        if (end_of(run) >= first + 128) {
            const auto [found, is_new] = uniform.try_emplace(
                kClassRuns[2 * run + 1], static_cast<std::uint16_t>(blocks_.size()));
            index_[first >> 7] = found->second;
            if (!is_new) continue;
            blocks_.emplace_back();
            blocks_.back().fill(properties_of(kClassRuns[2 * run + 1]));
            continue;
        }
        index_[first >> 7] = static_cast<std::uint16_t>(blocks_.size());
        blocks_.emplace_back();
        std::size_t at = run;
        for (char32_t code = first; code < first + 128; ++code) {
            while (end_of(at) <= code) ++at;
            blocks_.back()[code & 127] = properties_of(kClassRuns[2 * at + 1]);
        }
    }
}

Unicode::Unicode(bool lowercase) {
    read_classes();
    std::vector<bool> is_private(index_.size());
    std::vector<std::size_t> users(blocks_.size());
    for (const std::uint16_t block : index_) ++users[block];
    const auto own = [&](char32_t code) -> Properties& {
        const std::size_t at = code >> 7;
        if (!is_private[at] && users[index_[at]] > 1) {
            const Block copy = blocks_[index_[at]];
            index_[at] = static_cast<std::uint16_t>(blocks_.size());
            blocks_.push_back(copy);
        }
        is_private[at] = true;
        return writable(code);
    };
    const auto set_action = [&](char32_t code, Action action) {
        Properties& properties = own(code);
        // White space and what is dropped stay so, whatever NFKC makes of them.
        if (properties.action == Action::keep || properties.action == Action::combine) {
            properties.action = action;
        }
    };
    for (std::size_t i = 0; i < std::size(kCombiningRuns); i += 2) {
        const char32_t end =
            i + 2 < std::size(kCombiningRuns) ? kCombiningRuns[i + 2] : kCodePoints;
        if (kCombiningRuns[i + 1] == 0) continue;
        for (char32_t code = kCombiningRuns[i]; code < end; ++code) {
            set_action(code, Action::combine);
            own(code).combining_class = static_cast<std::uint8_t>(kCombiningRuns[i + 1]);
        }
    }
    for (const std::uint32_t code : kSeconds) set_action(code, Action::combine);

    std::map<char32_t, char32_t> lower;
    std::map<char32_t, std::vector<char32_t>> replacements;
    const auto lowered = [&](const char32_t* codes, std::size_t count) {
        std::vector<char32_t> made;
        for (std::size_t i = 0; i < count; ++i) {
            const auto found = lower.find(codes[i]);
            if (codes[i] == 0x130) {  // the only one that becomes two
                made.insert(made.end(), {U'i', char32_t{0x307}});
            } else {
                made.push_back(found == lower.end() ? codes[i] : found->second);
            }
        }
        return made;
    };
    if (lowercase) {
        for_each_mapping(kLowerCase, [&](char32_t code, const char32_t* targets, std::size_t) {
            lower[code] = targets[0];
        });
        for (const auto& [code, _] : lower) replacements[code] = lowered(&code, 1);
    }
    for_each_mapping(kReplacements, [&](char32_t code, const char32_t* targets, std::size_t count) {
        replacements[code] = lowered(targets, count);
    });
    for (const auto& [code, targets] : replacements) {
        set_action(code, Action::replace);
        own(code).sequence = static_cast<std::uint16_t>(sequences_.size());
        sequences_.push_back(static_cast<char32_t>(targets.size()));
        sequences_.insert(sequences_.end(), targets.begin(), targets.end());
    }
}

char32_t Unicode::compose(char32_t first, char32_t second) noexcept {
    if (first - kLeading < kLeadingCount && second - kVowels < kVowelCount) {
        return kSyllables +
               ((first - kLeading) * kVowelCount + (second - kVowels)) * kTrailingCount;
    }
    if (first - kSyllables < kSyllableCount && (first - kSyllables) % kTrailingCount == 0 &&
        second > kTrailing && second - kTrailing < kTrailingCount) {
        return first + (second - kTrailing);
    }
    const Pairs& pairs = pairs_by_halves();
    const Pair wanted{0, first, second};
    const auto found = std::lower_bound(pairs.begin(), pairs.end(), wanted, halves_before);
    return found != pairs.end() && found->first == first && found->second == second
               ? found->composed
               : 0;
}

std::size_t Unicode::decompose(char32_t code, char32_t* out) noexcept {
    if (code - kSyllables < kSyllableCount) {
        const char32_t offset = code - kSyllables;
        out[0] = kLeading + offset / (kVowelCount * kTrailingCount);
        out[1] = kVowels + offset / kTrailingCount % kVowelCount;
        if (offset % kTrailingCount == 0) return 2;
        out[2] = kTrailing + offset % kTrailingCount;
        return 3;
    }
    const Pairs& pairs = pairs_by_composed();
    const auto found =
        std::lower_bound(pairs.begin(), pairs.end(), code,
                         [](const Pair& pair, char32_t wanted) { return pair.composed < wanted; });
    if (found == pairs.end() || found->composed != code) {
        out[0] = code;
        return 1;
    }
    const std::size_t length = decompose(found->first, out);
    out[length] = found->second;
    return length + 1;
}

}  // namespace fastroute::text
