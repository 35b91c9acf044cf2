#include "kernels/rating_tiers.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/checkpoint.hpp"

namespace fastroute {

void cut_rating_tiers(const double* ratings, std::size_t count, std::size_t tier_count,
                      std::int32_t* tiers, void (*checkpoint)()) {
    Checkpoint pace(checkpoint);
    // variance[i * count + j] of ratings i..j, by Welford's update: no cancellation.
    std::vector<double> variance(count * count, 0.0);
    for (std::size_t i = 0; i < count; ++i) {
        double mean = 0.0;
        double squares = 0.0;
        for (std::size_t j = i; j < count; ++j) {
            const double size = static_cast<double>(j - i + 1);
            const double deviation = ratings[j] - mean;
            mean += deviation / size;
            squares += deviation * (ratings[j] - mean);
            variance[i * count + j] = squares / size;
        }
        pace.after(10 * (count - i));
    }
    // cost[t * count + j]: least cost of cutting ratings 0..j into t + 1 tiers; start[...]: where
    // the last of those tiers starts.
    std::vector<double> cost(tier_count * count, std::numeric_limits<double>::infinity());
    std::vector<std::size_t> start(tier_count * count, 0);
    for (std::size_t j = 0; j < count; ++j) cost[j] = variance[j];
    // Where every cut costs infinity (variances overflow), tiers of one rating come first.
    for (std::size_t t = 1; t < tier_count; ++t) std::fill_n(&start[t * count], count, t);
    for (std::size_t t = 1; t < tier_count; ++t) {
        for (std::size_t j = t; j < count; ++j) {
            for (std::size_t i = t; i <= j; ++i) {
                const double candidate = cost[(t - 1) * count + i - 1] + variance[i * count + j];
                if (candidate < cost[t * count + j]) {
                    cost[t * count + j] = candidate;
                    start[t * count + j] = i;
                }
            }
            pace.after(5 * (j - t + 1));
        }
    }
    std::size_t end = count;
    for (std::size_t t = tier_count; t-- > 0;) {
        const std::size_t begin = start[t * count + end - 1];
        for (std::size_t i = begin; i < end; ++i) tiers[i] = static_cast<std::int32_t>(t);
        end = begin;
    }
}

}  // namespace fastroute
