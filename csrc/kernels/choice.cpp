#include "kernels/choice.hpp"

#include <algorithm>

namespace fastroute {

void expected_dollars(const TokenPrices& prices, double input_tokens, double most_answer_tokens,
                      double* dollars) noexcept {
    for (std::size_t i = 0; i < prices.count; ++i) {
        dollars[i] = input_tokens * prices.input[i] +
                     std::min(prices.answer_tokens[i], most_answer_tokens) * prices.output[i];
    }
}

std::ptrdiff_t best_value(const double* quality, const double* dollars, std::size_t count,
                          double price, double most_dollars) noexcept {
    std::ptrdiff_t best = -1;
    double best_found = 0.0;
    for (std::size_t i = 0; i < count; ++i) {
        if (!(dollars[i] <= most_dollars)) continue;
        const double value = quality[i] - price * dollars[i];
        if (best < 0 || value > best_found || (value == best_found && dollars[i] < dollars[best])) {
            best = static_cast<std::ptrdiff_t>(i);
            best_found = value;
        }
    }
    return best;
}

std::ptrdiff_t cheapest_of_quality(const double* quality, const double* dollars, std::size_t count,
                                   double share) noexcept {
    if (count == 0) return -1;
    const double least = share * *std::max_element(quality, quality + count);
    std::ptrdiff_t best = -1;
    for (std::size_t i = 0; i < count; ++i) {
        if (!(quality[i] >= least)) continue;
        if (best < 0 || dollars[i] < dollars[best] ||
            (dollars[i] == dollars[best] && quality[i] > quality[best])) {
            best = static_cast<std::ptrdiff_t>(i);
        }
    }
    return best;
}

std::ptrdiff_t choose(const double* quality, const double* dollars, std::size_t count,
                      const ChoiceTerms& terms, bool safely) noexcept {
    if (terms.share >= 0.0 && !safely) {
        return cheapest_of_quality(quality, dollars, count, terms.share);
    }
    double most = terms.most_dollars;
    if (terms.reserved > 0.0 && count > 0) {
        const double cheapest = *std::min_element(dollars, dollars + count);
        if (cheapest <= most) most = std::max(most - terms.reserved * cheapest, cheapest);
    }
    const std::ptrdiff_t best = best_value(quality, dollars, count, terms.price, most);
    return best >= 0 ? best : cheapest_of_quality(quality, dollars, count, 0.0);
}

}  // namespace fastroute
