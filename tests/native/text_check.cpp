// Any bytes may be read as text, UTF-8 or not: nothing is read or written outside the buffers, what
// comes out is UTF-8, and reading in steps gives what reading at once gives. The pieces are
// compared with a map.
#include "text_check.hpp"

#include <array>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "text/text_embedder.hpp"

namespace {

using namespace fastroute;
using namespace fastroute::text;

constexpr std::size_t kDimensions = 19;

// Some text, and what is none: lone lead and trailing bytes, overlong forms, surrogates, too large.
constexpr std::array<std::string_view, 34> kParts = {"a",
                                                     "b",
                                                     "ab",
                                                     " ",
                                                     "\n",
                                                     "  ",
                                                     "A",
                                                     ".",
                                                     "7",
                                                     "\xC3\xA9",
                                                     "e\xCC\x81",
                                                     "\xCC\x81",
                                                     "\xCC\xA3",
                                                     "\xE6\x97\xA5",
                                                     "\xEF\xBC\xA1",
                                                     "\xEF\xB7\xBA",
                                                     "\xED\x95\x9C",
                                                     "\xE1\x84\x92",
                                                     "\xE1\x85\xA1",
                                                     "\xE1\x86\xAB",
                                                     "\xF0\x9F\x98\x80",
                                                     "\xE2\x80\x8B",
                                                     "\xE2\x80\x8D",
                                                     "\xC3",
                                                     "\xA9",
                                                     "\xE6\x97",
                                                     "\xF0\x9F\x98",
                                                     "\xC0\x80",
                                                     "\xE0\x80\x80",
                                                     "\xED\xA0\x80",
                                                     "\xF4\x90\x80\x80",
                                                     "\xFF",
                                                     "\xFE",
                                                     std::string_view("\0", 1)};

std::string normalized(std::string_view text, bool lowercase) {
    Normalizer normalizer(Unicode::tables(lowercase), lowercase, text);
    std::string out;
    do {
        normalizer.fill();
        out.append(reinterpret_cast<const char*>(normalizer.data()), normalizer.size());
        normalizer.consume(normalizer.size());
    } while (!normalizer.ended());
    return out;
}

// Whether every byte belongs to a code point of the right length.
bool is_utf8(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
        const auto lead = static_cast<std::uint8_t>(text[i]);
        const std::size_t length = lead < 0x80   ? 1
                                   : lead < 0xC2 ? 0
                                   : lead < 0xE0 ? 2
                                   : lead < 0xF0 ? 3
                                   : lead < 0xF5 ? 4
                                                 : 0;
        if (length == 0 || i + length > text.size()) return false;
        for (std::size_t k = 1; k < length; ++k) {
            if ((static_cast<std::uint8_t>(text[i + k]) & 0xC0) != 0x80) return false;
        }
        i += length;
    }
    return true;
}

std::vector<std::int32_t> longest_by_map(const std::map<std::string, std::int32_t>& pieces,
                                         std::string_view text) {
    std::vector<std::int32_t> rows;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t best = 0;
        std::int32_t row = -1;
        for (const auto& [piece, number] : pieces) {
            if (piece.size() > best && text.substr(at).starts_with(piece)) {
                best = piece.size();
                row = number;
            }
        }
        if (best == 0) {
            do {
                ++at;
            } while (at < text.size() && (static_cast<std::uint8_t>(text[at]) & 0xC0) == 0x80);
            continue;
        }
        rows.push_back(row);
        at += best;
    }
    return rows;
}

}  // namespace

void check_text(const std::function<void(bool, const std::string&)>& check) {
    std::mt19937 generator(7);
    const auto below = [&](std::size_t n) { return generator() % n; };
    for (int round = 0; round < 300; ++round) {
        std::string blob;
        std::vector<std::uint32_t> offsets = {0};
        std::map<std::string, std::int32_t> pieces;
        while (pieces.size() < 40) {
            std::string piece;
            for (std::size_t i = 0; i <= below(4); ++i) piece += kParts[below(23)];
            if (!pieces.try_emplace(piece, static_cast<std::int32_t>(pieces.size())).second) {
                continue;
            }
            blob += piece;
            offsets.push_back(static_cast<std::uint32_t>(blob.size()));
        }
        std::vector<std::int8_t> rows(pieces.size() * kDimensions);
        for (std::int8_t& value : rows) value = static_cast<std::int8_t>(below(255));
        const std::vector<float> scales(pieces.size(), 0.5F);
        const bool lowercase = round % 2 == 1;
        TextModel model{
            PieceTrie(reinterpret_cast<const std::uint8_t*>(blob.data()), offsets.data(),
                      pieces.size()),
            &Unicode::tables(lowercase),
            lowercase,
            -1,
            {rows.data(), nullptr, nullptr, scales.data(), pieces.size(), kDimensions, 0.0F},
            {},
            {}};
        for (std::size_t f = 0; f < kFeatureCount; ++f) model.signals.push_back({f, 0, 1.0F});
        model.class_units.fill(1.0);

        std::string text;
        const std::size_t parts = below(round % 10 == 0 ? 6000 : 60);
        for (std::size_t i = 0; i < parts; ++i) text += kParts[below(kParts.size())];
        // No terminator and nothing to spare behind it: a step too far is found.
        const std::vector<char> exact(text.begin(), text.end());
        const std::string_view view(exact.data(), exact.size());

        const std::string normal = normalized(view, lowercase);
        check(is_utf8(normal), "normalised text is UTF-8");
        check(normal.find("  ") == std::string::npos && !normal.ends_with(' '), "single spaces");
        std::vector<std::int32_t> found;
        TextReader(model, view, nullptr, &found).advance(~std::size_t{0});
        check(found == longest_by_map(pieces, normal), "the longest pieces");

        std::vector<float> at_once(model.width()), in_steps(model.width());
        check(embed_text(model, view, at_once.data()), "a finite embedding");
        TextReader reader(model, view, in_steps.data());
        while (!reader.advance(1 + below(5000))) {
        }
        check(reader.finish(in_steps.data()) && at_once == in_steps, "steps change nothing");
    }
}
