// Which instruction set the kernels use: the best that this processor has, chosen at run time, or
// the one that the environment variable FASTROUTE_SIMD names (scalar, avx2, avx512, neon, auto).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "simd/functions.hpp"

namespace fastroute::simd {

// Names of the levels that this build has and this processor can run, slowest first.
std::vector<std::string_view> available_levels();

// Name of the level in use.
std::string_view active_level() noexcept;

// Uses the named level from now on, in every thread; "auto" and "" mean the best. Returns an empty
// string, or what is wrong with the name.
std::string use_level(std::string_view name);

// The functions of the level in use.
const Functions& functions() noexcept;

}  // namespace fastroute::simd
