#include "text/text_features.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace fastroute::text {
namespace {

// Up to here a text is short: judges of difficulty heed the length only beyond.
constexpr double kShortUnits = 100.0;

double log_of(std::uint64_t count) noexcept { return std::log1p(static_cast<double>(count)); }

double share(std::uint64_t part, std::uint64_t whole) noexcept {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::vector<std::string> feature_names() {
    std::vector<std::string> names = {"one",     "length",       "excess_length", "pieces",
                                      "words",   "code_points",  "bytes",         "lines",
                                      "unknown", "unknown_share"};
    for (const char* name : kClassNames) names.push_back(std::string("share:") + name);
    return names;
}

Features features_of(const TextCounts& counts, const ClassUnits& units) noexcept {
    const auto count_of = [&](CodePointClass of) {
        return counts.classes[static_cast<std::size_t>(of)];
    };
    double units_sum = 0.0;
    std::uint64_t total = 0;
    for (std::size_t c = 0; c < kClassCount; ++c) {
        units_sum += units[c] * static_cast<double>(counts.classes[c]);
        total += counts.classes[c];
    }
    const std::uint64_t visible = total - count_of(CodePointClass::space) -
                                  count_of(CodePointClass::newline) -
                                  count_of(CodePointClass::control);
    const double length = std::log1p(units_sum);
    Features features{1.0,
                      length,
                      std::max(0.0, length - std::log1p(kShortUnits)),
                      log_of(counts.pieces),
                      log_of(counts.words),
                      log_of(total),
                      log_of(counts.bytes),
                      log_of(count_of(CodePointClass::newline) + 1),
                      log_of(counts.unknown),
                      share(counts.unknown, counts.pieces + counts.unknown)};
    for (std::size_t c = 0; c < kClassCount; ++c) {
        features[kPlainFeatureCount + c] = share(counts.classes[c], visible);
    }
    return features;
}

}  // namespace fastroute::text
