// NumPy arrays as kernels see them. Arguments are bound with .noconvert(), so an array of another
// dtype or layout is a TypeError here, and never copied; fastroute._native turns that into words.
// The checks in this file only keep memory safe.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>

#include "kernels/matrix_view.hpp"

namespace fastroute::bindings {

namespace py = pybind11;

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

inline void require(bool condition, const char* what) {
    if (!condition) throw std::invalid_argument(what);
}

// Checks the number of dimensions and the alignment (a C-contiguous array may lack the latter).
template <typename T>
const T* pointer(const Array<T>& array, py::ssize_t dimensions) {
    require(array.ndim() == dimensions, "wrong number of dimensions");
    require(reinterpret_cast<std::uintptr_t>(array.data()) % alignof(T) == 0, "not aligned");
    return array.data();
}

// What a kernel calls during long work, without the GIL: raises KeyboardInterrupt for Ctrl-C.
inline void check_signals() {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

inline std::size_t size(const py::array& array, py::ssize_t axis = 0) {
    return static_cast<std::size_t>(array.shape(axis));
}

inline MatrixView matrix(const Array<float>& array) {
    const float* data = pointer(array, 2);
    return {data, size(array, 0), size(array, 1), size(array, 1)};
}

}  // namespace fastroute::bindings
