#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/token_table.hpp"
#include "kernels/token_bag.hpp"

namespace fastroute::bindings {
namespace {

py::array_t<float> embed_one(const py::array& table, const Array<float>& scales,
                             const Array<std::int32_t>& ids, float length_scale) {
    const TokenTable tokens = token_table(table, scales, length_scale);
    const std::int32_t* token_ids = pointer(ids, 1);
    py::array_t<float> out(static_cast<py::ssize_t>(tokens.width()));
    // The GIL is kept: a prompt takes about a microsecond, and giving the lock away costs as much.
    require(embed_token_bag(tokens, token_ids, size(ids), out.mutable_data()),
            "a token id is no row of the table, or the sum is not finite");
    return out;
}

py::array_t<float> embed_many(const py::array& table, const Array<float>& scales,
                              const Array<std::int32_t>& ids, const Array<std::int64_t>& offsets,
                              std::size_t num_threads, float length_scale) {
    const TokenTable tokens = token_table(table, scales, length_scale);
    const std::int32_t* token_ids = pointer(ids, 1);
    const std::int64_t* bounds = pointer(offsets, 1);
    require(size(offsets) >= 1, "offsets is empty");
    const std::size_t prompts = size(offsets) - 1;
    py::array_t<float> out({offsets.shape(0) - 1, static_cast<py::ssize_t>(tokens.width())});
    float* embeddings = out.mutable_data();
    bool valid = false;
    {
        // The arrays are held by the caller's arguments, and `out` is nobody else's yet.
        const py::gil_scoped_release release;
        valid = embed_token_bags(tokens, token_ids, size(ids), bounds, prompts, num_threads,
                                 embeddings);
    }
    require(valid,
            "a token id is no row of the table, or the offsets don't rise to len(ids), or the sum "
            "is not finite");
    return out;
}

}  // namespace

void register_token_bag(py::module_& module) {
    module.def("embed_token_bag", &embed_one, py::arg("table").noconvert(),
               py::arg("scales").noconvert(), py::arg("ids").noconvert(), py::arg("length_scale"),
               "Vector of one prompt's tokens: float32[width].");
    module.def("embed_token_bags", &embed_many, py::arg("table").noconvert(),
               py::arg("scales").noconvert(), py::arg("ids").noconvert(),
               py::arg("offsets").noconvert(), py::arg("num_threads"), py::arg("length_scale"),
               "Vectors of many prompts' tokens: float32[prompts, width].");
}

}  // namespace fastroute::bindings
