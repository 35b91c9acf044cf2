// A table of token vectors as the kernels read it.
#pragma once

#include <cmath>

#include "bindings/arrays.hpp"
#include "kernels/token_bag.hpp"

namespace fastroute::bindings {

inline TokenTable token_table(const py::array& table, const Array<float>& scales,
                              float length_scale) {
    require(table.ndim() == 2, "wrong number of dimensions");
    require((table.flags() & py::array::c_style) != 0, "not C-contiguous");
    const auto itemsize = static_cast<std::size_t>(table.itemsize());
    require(reinterpret_cast<std::uintptr_t>(table.data()) % itemsize == 0, "not aligned");
    const py::dtype type = table.dtype();
    require(type.byteorder() != '>', "not in this machine's byte order");
    const float* weights = pointer(scales, 1);
    require(size(scales) == size(table), "table and scales differ in length");
    require(length_scale >= 0.0F && std::isfinite(length_scale), "length_scale is negative");
    TokenTable tokens{nullptr,        nullptr,        nullptr,     weights,
                      size(table, 0), size(table, 1), length_scale};
    if (type.kind() == 'i' && itemsize == 1) {
        tokens.bytes = static_cast<const std::int8_t*>(table.data());
    } else if (type.kind() == 'f' && itemsize == 2) {
        tokens.halves = static_cast<const std::uint16_t*>(table.data());
    } else if (type.kind() == 'f' && itemsize == 4) {
        tokens.floats = static_cast<const float*>(table.data());
    } else {
        require(false, "the table is int8, float16 or float32");
    }
    return tokens;
}

}  // namespace fastroute::bindings
