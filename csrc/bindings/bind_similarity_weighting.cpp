#include <pybind11/typing.h>

#include <algorithm>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/tiered_battles.hpp"

namespace fastroute::bindings {

const char* name(RatingStatus status) {
    switch (status) {
        case RatingStatus::converged:
            return "converged";
        case RatingStatus::bad_query:
            return "bad_query";
        case RatingStatus::nothing_similar:
            return "nothing_similar";
        case RatingStatus::no_finite_rating:
            return "no_finite_rating";
    }
    return "unknown";
}

namespace {

// One a thread, kept from query to query, so that a query allocates nothing.
SimilarityWorkspace& workspace() {
    thread_local SimilarityWorkspace scratch;
    return scratch;
}

py::typing::Tuple<py::array_t<double>, py::str> weights_by_cell(const Battles& self,
                                                                const Array<float>& query,
                                                                std::size_t num_threads) {
    const float* x = self.checked(query);
    RatingStatus status{};
    {
        // The arrays are held by this object and by the caller's arguments.
        const py::gil_scoped_release release;
        status = sum_weights_by_cell(self.view(), x, num_threads, workspace());
    }
    const std::size_t cells = cell_count(self.view().tiers);
    py::array_t<double> out(static_cast<py::ssize_t>(cells));
    if (status == RatingStatus::converged) {
        std::copy_n(workspace().cell_sums.data(), cells, out.mutable_data());
    } else {
        std::fill_n(out.mutable_data(), cells, 0.0);  // the workspace holds an older query's
    }
    return py::make_tuple(out, name(status));
}

py::typing::Tuple<py::array_t<double>, py::str> rate(const Battles& self, const Array<float>& query,
                                                     const Array<double>& start,
                                                     std::size_t num_threads) {
    const float* x = self.checked(query);
    const double* from = pointer(start, 1);
    require(size(start) == self.view().tiers, "start and tiers differ in length");
    py::array_t<double> out(start.shape(0));
    double* ratings = out.mutable_data();
    std::copy_n(from, self.view().tiers, ratings);
    RatingStatus status{};
    {
        const py::gil_scoped_release release;
        status = rate_tiers(self.view(), x, num_threads, workspace(), ratings);
    }
    return py::make_tuple(out, name(status));
}

py::typing::Tuple<py::array_t<double>, bool> rate_from_cells(const Array<double>& cell_sums,
                                                             std::size_t tiers, bool strict,
                                                             const Array<double>& start) {
    const double* sums = pointer(cell_sums, 1);
    const double* from = pointer(start, 1);
    require(tiers >= 1 && size(cell_sums) == cell_count(tiers), "wrong number of cells");
    require(size(start) == tiers, "start and tiers differ in length");
    py::array_t<double> out(start.shape(0));
    std::copy_n(from, tiers, out.mutable_data());
    bool converged = rate_cells(sums, tiers, strict, workspace(), out.mutable_data());
    // A prompt's weights are all positive, so what is connected here stays so for every prompt.
    std::vector<int> groups(tiers);
    converged = converged && has_finite_ratings({tiers, workspace().wins.data(), nullptr, nullptr},
                                                groups.data());
    return py::make_tuple(out, converged);
}

}  // namespace

void register_similarity_weighting(py::module_& module) {
    py::class_<Battles>(module, "TieredBattles",
                        "Battles between tiers, with unit embeddings that it borrows.")
        .def(py::init<py::array, Array<std::uint16_t>, std::size_t, bool, Array<float>>(),
             py::arg("embeddings").noconvert(), py::arg("cells").noconvert(), py::arg("tiers"),
             py::arg("strict"), py::arg("scales").noconvert())
        .def("weights_by_cell", &weights_by_cell, py::arg("query").noconvert(),
             py::arg("num_threads"), "(summed weights, float64[cells], status).")
        .def("rate", &rate, py::arg("query").noconvert(), py::arg("start").noconvert(),
             py::arg("num_threads"), "(ratings of the tiers, float64[tiers], status).");
    module.def("rate_cells", &rate_from_cells, py::arg("cell_sums").noconvert(), py::arg("tiers"),
               py::arg("strict"), py::arg("start").noconvert(),
               "(ratings of the tiers, float64[tiers], whether they converged).");
}

}  // namespace fastroute::bindings
