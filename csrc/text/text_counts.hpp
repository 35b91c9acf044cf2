// What is counted while a text is read.
#pragma once

#include <array>
#include <cstdint>

#include "text/unicode.hpp"

namespace fastroute::text {

struct TextCounts {
    std::array<std::uint64_t, kClassCount> classes{};  // code points of the text as it came
    std::uint64_t bytes = 0;                           // of its UTF-8
    std::uint64_t words = 0;                           // between white space
    std::uint64_t pieces = 0;                          // found in the vocabulary
    std::uint64_t unknown = 0;                         // code points that no piece covers
};

}  // namespace fastroute::text
