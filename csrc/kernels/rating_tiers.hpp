// Cuts models, sorted by rating, into tiers that minimise the sum over tiers of the variance of
// the ratings in them (each tier counts once, whatever its size), by dynamic programming.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fastroute {

// ratings: [count], sorted either way, 1 <= tier_count <= count. tiers[i] gets the tier of model i;
// tiers are numbered in the order of the ratings, and none is empty. Of equally good cuts, the one
// whose last tiers start earliest. Time tier_count * count^2.
// `checkpoint` (checkpoint.hpp) may be null.
void cut_rating_tiers(const double* ratings, std::size_t count, std::size_t tier_count,
                      std::int32_t* tiers, void (*checkpoint)() = nullptr);

}  // namespace fastroute
