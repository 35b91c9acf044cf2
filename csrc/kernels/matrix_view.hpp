// A matrix that somebody else owns: a pointer, two counts and the distance between rows.
#pragma once

#include <cstddef>

namespace fastroute {

struct MatrixView {
    const float* data;
    std::size_t rows;
    std::size_t columns;
    std::size_t stride;  // floats from one row to the next

    const float* row(std::size_t index) const noexcept { return data + index * stride; }
};

}  // namespace fastroute
