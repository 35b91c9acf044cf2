#pragma once

#include <pybind11/pybind11.h>

namespace fastroute::bindings {

void register_simd(pybind11::module_& module);
void register_token_bag(pybind11::module_& module);
void register_matrix_factorization(pybind11::module_& module);
void register_bradley_terry(pybind11::module_& module);
void register_similarity_weighting(pybind11::module_& module);
void register_far_field(pybind11::module_& module);
void register_json_members(pybind11::module_& module);
void register_many_models(pybind11::module_& module);
void register_text(pybind11::module_& module);

}  // namespace fastroute::bindings
