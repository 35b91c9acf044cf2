#include <pybind11/typing.h>

#include <algorithm>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "kernels/bradley_terry.hpp"
#include "kernels/rating_tiers.hpp"

namespace fastroute::bindings {
namespace {

WinTable win_table(const Array<double>& wins) {
    const double* cells = pointer(wins, 2);
    require(wins.shape(0) == wins.shape(1) && wins.shape(0) >= 1, "wins is not square");
    return {size(wins), cells, nullptr, nullptr};
}

py::typing::Tuple<py::array_t<double>, bool, int> fit(const Array<double>& wins) {
    const WinTable table = win_table(wins);
    py::array_t<double> out(wins.shape(0));
    double* ratings = out.mutable_data();
    NewtonResult result{};
    {
        // The arrays are held by the caller's arguments, and `out` is nobody else's yet.
        const py::gil_scoped_release release;
        NewtonWorkspace workspace;
        std::fill_n(ratings, table.players, 0.0);
        result = fit_bradley_terry(table, workspace, ratings, &check_signals);
    }
    return py::make_tuple(out, result.converged, result.iterations);
}

py::array_t<int> groups(const Array<double>& wins) {
    const WinTable table = win_table(wins);
    py::array_t<int> out(wins.shape(0));
    int* components = out.mutable_data();
    const py::gil_scoped_release release;
    has_finite_ratings(table, components, &check_signals);
    return out;
}

py::array_t<std::int32_t> tiers(const Array<double>& ratings, std::size_t num_tiers) {
    const double* values = pointer(ratings, 1);
    require(num_tiers >= 1 && num_tiers <= size(ratings), "num_tiers is not in 1..len(ratings)");
    py::array_t<std::int32_t> out(ratings.shape(0));
    std::int32_t* cut = out.mutable_data();
    const std::size_t count = size(ratings);
    const py::gil_scoped_release release;
    cut_rating_tiers(values, count, num_tiers, cut, &check_signals);
    return out;
}

}  // namespace

void register_bradley_terry(py::module_& module) {
    module.def("fit_bradley_terry", &fit, py::arg("wins").noconvert(),
               "(ratings float64[n] with mean 0, whether it converged, Newton steps).");
    module.def("rating_groups", &groups, py::arg("wins").noconvert(),
               "Group of each player: finite ratings exist where there is only one group.");
    module.def("cut_rating_tiers", &tiers, py::arg("ratings").noconvert(), py::arg("num_tiers"),
               "Tier of each of the sorted ratings: int32[n].");
}

}  // namespace fastroute::bindings
