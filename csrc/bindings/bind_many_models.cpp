#include <pybind11/stl.h>

#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/success_estimator.hpp"
#include "kernels/choice.hpp"
#include "kernels/nearest_rows.hpp"

namespace fastroute::bindings {
namespace {

using Rows = std::pair<py::array_t<std::int32_t>, py::array_t<float>>;

Rows nearest_of_many(const Array<float>& rows, const Array<std::int64_t>& starts,
                     const Array<float>& X, const Array<std::int32_t>& lists, std::size_t count,
                     std::size_t num_threads) {
    const RowLists among = row_lists(rows, starts);
    const MatrixView queries = matrix(X);
    const std::int32_t* of_query = pointer(lists, 2);
    const std::size_t list_count = size(lists, 1);
    require(among.rows.columns == queries.columns, "the embeddings have another dimension");
    require(count <= among.rows.rows, "there are not as many rows");
    require(size(lists) == queries.rows, "X and lists differ");
    for (std::size_t i = 0; i < queries.rows * list_count; ++i) {
        require(of_query[i] >= 0 && static_cast<std::size_t>(of_query[i]) + 1 < size(starts),
                "there is no such list");
    }
    Rows out{py::array_t<std::int32_t>({queries.rows, count}),
             py::array_t<float>({queries.rows, count})};
    std::int32_t* nearest = out.first.mutable_data();
    float* products = out.second.mutable_data();
    {
        // The arrays are held by the caller's arguments, and `out` is nobody else's yet.
        const py::gil_scoped_release release;
        nearest_rows_of_many(among, queries, of_query, list_count, count, num_threads, nearest,
                             products);
    }
    return out;
}

std::pair<const double*, const double*> pair_of(const Array<double>& quality,
                                                const Array<double>& dollars) {
    require(size(quality) == size(dollars), "quality and dollars differ");
    return {pointer(quality, 1), pointer(dollars, 1)};
}

}  // namespace

void register_many_models(py::module_& module) {
    module.def("nearest_rows", &nearest_of_many, py::arg("rows").noconvert(),
               py::arg("starts").noconvert(), py::arg("X").noconvert(),
               py::arg("lists").noconvert(), py::arg("count"), py::arg("num_threads"),
               "Rows of greatest product with each of X, and the products: [n, count] each; -1 "
               "where the lists have too few.");
    py::class_<TokenPriceArrays>(module, "TokenPrices", "Prices of many candidates.")
        .def(py::init<Array<double>, Array<double>, Array<double>>(), py::arg("input").noconvert(),
             py::arg("output").noconvert(), py::arg("answer_tokens").noconvert())
        .def("dollars", &TokenPriceArrays::dollars, py::arg("input_tokens"),
             py::arg("most_answer_tokens"),
             "Expected dollars of each candidate's answer: float64[n].");
    module.def(
        "best_value",
        [](const Array<double>& quality, const Array<double>& dollars, double price, double most) {
            const auto [q, usd] = pair_of(quality, dollars);
            return best_value(q, usd, size(quality), price, most);
        },
        py::arg("quality").noconvert(), py::arg("dollars").noconvert(), py::arg("price"),
        py::arg("most_dollars"), "The greatest quality - price * dollars; -1 for none.");
    module.def(
        "choose",
        [](const Array<double>& quality, const Array<double>& dollars, bool safely, double price,
           double most, double reserved, double share) {
            const auto [q, usd] = pair_of(quality, dollars);
            return choose(q, usd, size(quality), {price, most, reserved, share}, safely);
        },
        py::arg("quality").noconvert(), py::arg("dollars").noconvert(), py::arg("safely"),
        py::arg("price"), py::arg("most_dollars"), py::arg("reserved"), py::arg("share"),
        "The choice by a policy's terms; -1 for none.");
    py::class_<GradedPromptArrays>(module, "GradedPrompts",
                                   "Graded prompts and what their grades say.")
        .def(py::init<Array<float>, Array<std::int64_t>, Array<float>, Array<float>, Array<float>,
                      Array<double>, double, std::size_t, std::size_t>(),
             py::arg("rows").noconvert(), py::arg("starts").noconvert(),
             py::arg("centre").noconvert(), py::arg("shared").noconvert(),
             py::arg("own").noconvert(), py::arg("own_count").noconvert(), py::arg("shared_count"),
             py::arg("count"), py::arg("scanned"));
    py::class_<SuccessEstimator, std::shared_ptr<SuccessEstimator>>(module, "SuccessEstimator",
                                                                    "P(success) of many models.")
        .def(py::init<Array<float>, Array<double>, Array<float>, Array<float>, Array<float>,
                      std::size_t, std::size_t, Array<double>, Array<double>, Array<double>,
                      Array<double>, Array<double>, Array<double>, double, double,
                      std::optional<GradedPromptArrays>>(),
             py::arg("stacked").noconvert(), py::arg("at_centre").noconvert(),
             py::arg("centre").noconvert(), py::arg("clusters").noconvert(),
             py::arg("of_clusters").noconvert(), py::arg("clusterings"),
             py::arg("nearest_clusters"), py::arg("level").noconvert(),
             py::arg("slope").noconvert(), py::arg("offset").noconvert(),
             py::arg("usual").noconvert(), py::arg("widening").noconvert(),
             py::arg("widest").noconvert(), py::arg("edge"), py::arg("most_spread"),
             py::arg("prompts"))
        .def("estimate", &SuccessEstimator::estimate, py::arg("x").noconvert(),
             "Probability, low and high, float64[3, models]; 0, 1 for abstained, 2 for not finite.")
        .def("estimate_many", &SuccessEstimator::estimate_many, py::arg("X").noconvert(),
             py::arg("num_threads"), "The same for many: float64[3, n, models] and uint8[n].");
}

}  // namespace fastroute::bindings
