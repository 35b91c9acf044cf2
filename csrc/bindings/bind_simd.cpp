#include <pybind11/stl.h>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "simd/level.hpp"

namespace fastroute::bindings {

using namespace py::literals;

void register_simd(py::module_& module) {
#if defined(__clang__)
    constexpr const char* kCompiler = "Clang " __clang_version__;
#else
    constexpr const char* kCompiler = "GCC " __VERSION__;
#endif
    module.def(
        "compiler", [] { return kCompiler; }, "The compiler that made this, and its version.");
    module.def("simd_levels", &simd::available_levels,
               "Levels that this machine can run, slowest first.");
    module.def("simd_level", &simd::active_level, "The level in use.");
    module.def(
        "use_simd_level",
        [](const std::string& name) {
            if (const std::string wrong = simd::use_level(name); !wrong.empty()) {
                throw py::value_error(wrong);
            }
        },
        "name"_a, "Use a level from now on, in every thread; 'auto' is the best.");
    module.def(
        "dot_rows",
        [](const Array<float>& rows, const Array<float>& query) {
            const MatrixView view = matrix(rows);
            const float* x = pointer(query, 1);
            require(size(query) == view.columns, "query and rows differ in length");
            py::array_t<float> out(rows.shape(0));
            float* dots = out.mutable_data();
            {
                // The arrays are held by the caller's arguments, and `out` is nobody else's yet.
                const py::gil_scoped_release release;
                simd::functions().dot_rows(view.data, view.rows, view.stride, x, view.columns,
                                           dots);
            }
            return out;
        },
        py::arg("rows").noconvert(), py::arg("query").noconvert(),
        "Dot product of every row with the query: float32[n].");
    module.def(
        "exp2_scaled",
        [](const Array<float>& x, double scale) {
            const float* values = pointer(x, 1);
            py::array_t<double> out(x.shape(0));
            simd::functions().exp2_scaled(values, size(x), scale, out.mutable_data());
            return out;
        },
        py::arg("x").noconvert(), "scale"_a, "2^(x * scale): float64[n].");
}

}  // namespace fastroute::bindings
