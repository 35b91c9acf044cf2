// Numbers that say how long a text is and what it is written in, beside what it is about.
//
//     one              1
//     length           ln(1 + sum over classes c of class_units[c] * n_c): with units learnt from
//                      translations it means the same in every script
//     excess_length    max(0, length - ln(101)): how far it is longer than 100 units
//     pieces, words, code_points, bytes, lines, unknown     ln(1 + how many)
//     unknown_share    unknown / (pieces + unknown)
//     share:<class>    n_c / code points that are no white space or control
//
// A share of nothing is 0.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "text/text_counts.hpp"

namespace fastroute::text {

constexpr std::size_t kPlainFeatureCount = 10;
constexpr std::size_t kFeatureCount = kPlainFeatureCount + kClassCount;

using ClassUnits = std::array<double, kClassCount>;
using Features = std::array<double, kFeatureCount>;

// An element after the embedding's direction: scale * first * second.
struct Signal {
    std::size_t first;   // features by number
    std::size_t second;  // `one` where there is only one
    float scale;
};

std::vector<std::string> feature_names();
Features features_of(const TextCounts& counts, const ClassUnits& units) noexcept;

}  // namespace fastroute::text
