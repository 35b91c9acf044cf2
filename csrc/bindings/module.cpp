// fastroute._core: the table of contents. Each noun registers itself in its own file.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <string>

#include "bindings/register.hpp"
#include "simd/level.hpp"

// Safe without the GIL: what is shared is constant, atomic, behind a mutex or kept by thread.
PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
    module.doc() = "fastroute's kernels. Private: fastroute._native is the only door to it.";
    module.attr("__version__") = FASTROUTE_VERSION;

    if (const char* wanted = std::getenv("FASTROUTE_SIMD"); wanted != nullptr) {
        if (const std::string wrong = fastroute::simd::use_level(wanted); !wrong.empty()) {
            throw pybind11::import_error("FASTROUTE_SIMD: " + wrong);
        }
    }
    fastroute::bindings::register_simd(module);
    fastroute::bindings::register_token_bag(module);
    fastroute::bindings::register_matrix_factorization(module);
    fastroute::bindings::register_bradley_terry(module);
    fastroute::bindings::register_similarity_weighting(module);
    fastroute::bindings::register_far_field(module);
    fastroute::bindings::register_json_members(module);
    fastroute::bindings::register_text(module);
}
