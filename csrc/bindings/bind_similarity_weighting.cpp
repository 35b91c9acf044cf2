#include <pybind11/typing.h>

#include <algorithm>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "kernels/similarity_weighting.hpp"

namespace fastroute::bindings {
namespace {

// One a thread, kept from query to query, so that a query allocates nothing.
SimilarityWorkspace& workspace() {
    thread_local SimilarityWorkspace scratch;
    return scratch;
}

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

// Battles and the arrays that they look into. Immutable, so threads may share it.
class Battles {
  public:
    Battles(Array<float> embeddings, Array<std::uint16_t> cells, std::size_t tiers, bool strict)
        : embeddings_(std::move(embeddings)), cells_(std::move(cells)) {
        battles_ = {matrix(embeddings_), pointer(cells_, 1), tiers, strict};
        require(battles_.embeddings.rows >= 1, "there are no battles");
        require(size(cells_) == battles_.embeddings.rows, "embeddings and cells differ in length");
        require(tiers >= 1 && cell_count(tiers) <= 65535, "num_tiers is not in 1..180");
        const std::size_t limit = cell_count(tiers);
        require(std::all_of(battles_.cells, battles_.cells + size(cells_),
                            [limit](std::uint16_t cell) { return cell < limit; }),
                "a cell is out of range");
    }

    py::typing::Tuple<py::array_t<double>, py::str> weights_by_cell(const Array<float>& query,
                                                                    std::size_t num_threads) const {
        const float* x = checked(query);
        RatingStatus status{};
        {
            // The arrays are held by this object and by the caller's arguments.
            const py::gil_scoped_release release;
            status = sum_weights_by_cell(battles_, x, num_threads, workspace());
        }
        const std::size_t cells = cell_count(battles_.tiers);
        py::array_t<double> out(static_cast<py::ssize_t>(cells));
        if (status == RatingStatus::converged) {
            std::copy_n(workspace().cell_sums.data(), cells, out.mutable_data());
        } else {
            std::fill_n(out.mutable_data(), cells, 0.0);  // the workspace holds an older query's
        }
        return py::make_tuple(out, name(status));
    }

    py::typing::Tuple<py::array_t<double>, py::str> rate(const Array<float>& query,
                                                         const Array<double>& start,
                                                         std::size_t num_threads) const {
        const float* x = checked(query);
        const double* from = pointer(start, 1);
        require(size(start) == battles_.tiers, "start and tiers differ in length");
        py::array_t<double> out(start.shape(0));
        double* ratings = out.mutable_data();
        std::copy_n(from, battles_.tiers, ratings);
        RatingStatus status{};
        {
            const py::gil_scoped_release release;
            status = rate_tiers(battles_, x, num_threads, workspace(), ratings);
        }
        return py::make_tuple(out, name(status));
    }

  private:
    const float* checked(const Array<float>& query) const {
        const float* x = pointer(query, 1);
        require(size(query) == battles_.embeddings.columns,
                "the embedding has another dimension than the battles");
        return x;
    }

    Array<float> embeddings_;
    Array<std::uint16_t> cells_;
    TieredBattles battles_{};
};

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
        .def(py::init<Array<float>, Array<std::uint16_t>, std::size_t, bool>(),
             py::arg("embeddings").noconvert(), py::arg("cells").noconvert(), py::arg("tiers"),
             py::arg("strict"))
        .def("weights_by_cell", &Battles::weights_by_cell, py::arg("query").noconvert(),
             py::arg("num_threads"), "(summed weights, float64[cells], status).")
        .def("rate", &Battles::rate, py::arg("query").noconvert(), py::arg("start").noconvert(),
             py::arg("num_threads"), "(ratings of the tiers, float64[tiers], status).");
    module.def("rate_cells", &rate_from_cells, py::arg("cell_sums").noconvert(), py::arg("tiers"),
               py::arg("strict"), py::arg("start").noconvert(),
               "(ratings of the tiers, float64[tiers], whether they converged).");
}

}  // namespace fastroute::bindings
