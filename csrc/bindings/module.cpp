// fastroute._core: the table of contents. Each noun registers itself in its own file.
#include <pybind11/pybind11.h>

#include <cstdlib>
#include <string>

#include "bindings/register.hpp"
#include "simd/level.hpp"

namespace {

// pybind11 and the pool of threads keep their state once per process.
constexpr const char* kSubInterpreter =
    "fastroute does not support sub-interpreters; use threads or processes";

bool in_sub_interpreter() { return PyInterpreterState_Get() != PyInterpreterState_Main(); }

}  // namespace

// Safe without the GIL: what is shared is constant, atomic, behind a mutex or kept by thread.
PYBIND11_MODULE(_core_in_main, module, pybind11::mod_gil_not_used()) {
    // Python 3.13 and later call PyInit__core in the main interpreter, whichever one imports.
    if (in_sub_interpreter()) throw pybind11::import_error(kSubInterpreter);
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
    fastroute::bindings::register_many_models(module);
    fastroute::bindings::register_text(module);
}

// Before Python 3.12, what PYBIND11_MODULE does first waits for ever in a sub-interpreter: it asks
// for the GIL of the main one, while this thread holds it.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core();
extern "C" PYBIND11_EXPORT PyObject* PyInit__core() {
    if (in_sub_interpreter()) {
        PyErr_SetString(PyExc_ImportError, kSubInterpreter);
        return nullptr;
    }
    return PyInit__core_in_main();
}
