#include <cmath>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "kernels/token_bag.hpp"

namespace fastroute::bindings {
namespace {

TokenTable token_table(const py::array& table, const Array<float>& scales, float length_scale) {
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
