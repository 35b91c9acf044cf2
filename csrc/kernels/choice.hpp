// Expected dollars of n candidates' answers, and the choice among them by quality and dollars.
#pragma once

#include <cstddef>

namespace fastroute {

struct TokenPrices {
    const double *input, *output;  // [n], dollars per token
    const double* answer_tokens;   // [n], expected
    std::size_t count;
};

// dollars[i] = input_tokens * input[i] + min(answer_tokens[i], most_answer_tokens) * output[i].
void expected_dollars(const TokenPrices& prices, double input_tokens, double most_answer_tokens,
                      double* dollars) noexcept;

// What a policy asks of a choice by quality and dollars.
struct ChoiceTerms {
    double price = 0.0;     // quality that a dollar must buy
    double most_dollars;    // of the chosen one
    double reserved = 0.0;  // answers of the cheapest for which a dearer one leaves enough of that
    double share = -1.0;    // the cheapest with this share of the best one's quality; -1: by value
};

// The one of best value by these terms, or the cheapest where none is within the dollars.
// `safely`, where quality says no more of this prompt than of any other, looks at no share.
// -1 where count is 0.
std::ptrdiff_t choose(const double* quality, const double* dollars, std::size_t count,
                      const ChoiceTerms& terms, bool safely) noexcept;

// The one of greatest quality - price * dollars among those of at most `most_dollars`; of equals
// the cheapest, and of those the first. -1 where there is none.
std::ptrdiff_t best_value(const double* quality, const double* dollars, std::size_t count,
                          double price, double most_dollars) noexcept;

// The cheapest with at least `share` of the greatest quality; of equals the best, and of those the
// first. -1 where count is 0.
std::ptrdiff_t cheapest_of_quality(const double* quality, const double* dollars, std::size_t count,
                                   double share) noexcept;

}  // namespace fastroute
