#include <pybind11/typing.h>

#include <algorithm>
#include <utility>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/tiered_battles.hpp"
#include "kernels/far_field.hpp"

namespace fastroute::bindings {
namespace {

// One a thread, kept from query to query, so that a query allocates nothing.
FarFieldWorkspace& workspace() {
    thread_local FarFieldWorkspace scratch;
    return scratch;
}

// The moments and all that a query needs beside them. Immutable, so threads may share it.
class Field {
  public:
    Field(const Battles& battles, Array<float> axes, Array<float> directions,
          Array<double> curvatures, Array<double> corner, Array<float> centres,
          Array<float> influences, Array<double> sizes, Array<double> pulls, Array<double> widths,
          Array<double> variances, Array<std::uint16_t> clusters, Array<double> gradient,
          Array<double> energies, double spread, Array<float> moments,
          Array<std::int32_t> active_cells, Array<double> start, std::size_t strong,
          std::size_t weak)
        : battles_(battles),
          axes_(std::move(axes)),
          directions_(std::move(directions)),
          curvatures_(std::move(curvatures)),
          corner_(std::move(corner)),
          centres_(std::move(centres)),
          influences_(std::move(influences)),
          sizes_(std::move(sizes)),
          pulls_(std::move(pulls)),
          widths_(std::move(widths)),
          variances_(std::move(variances)),
          clusters_(std::move(clusters)),
          gradient_(std::move(gradient)),
          energies_(std::move(energies)),
          moments_(std::move(moments)),
          active_cells_(std::move(active_cells)),
          start_(std::move(start)),
          strong_(strong),
          weak_(weak) {
        field_.axes = matrix(axes_);
        field_.directions = matrix(directions_);
        field_.curvatures = pointer(curvatures_, 1);
        field_.corner = pointer(corner_, 2);
        field_.centres = matrix(centres_);
        field_.influences = matrix(influences_);
        field_.sizes = pointer(sizes_, 1);
        field_.pulls = pointer(pulls_, 1);
        field_.widths = pointer(widths_, 1);
        field_.variances = pointer(variances_, 1);
        field_.clusters = pointer(clusters_, 1);
        field_.gradient = pointer(gradient_, 1);
        field_.energies = pointer(energies_, 1);
        field_.spread = spread;
        field_.cell_axes = size(corner_);
        field_.moments = matrix(moments_);
        field_.active_cells = pointer(active_cells_, 1);
        const std::size_t tiers = battles_.view().tiers;
        const std::size_t d = battles_.view().embeddings.columns;
        require(field_.axes.columns == d && field_.directions.columns == d,
                "axes and directions have another dimension than the battles");
        require(field_.directions.rows == size(curvatures_) + 1,
                "directions and curvatures differ");
        require(size(corner_, 1) == field_.cell_axes && field_.cell_axes <= field_.axes.rows,
                "corner is not square or has too many axes");
        const std::size_t groups = field_.centres.rows;
        require(groups >= 1 && field_.centres.columns == field_.axes.rows &&
                    field_.influences.rows == groups &&
                    field_.influences.columns == field_.axes.rows && size(sizes_) == groups &&
                    size(pulls_) == groups && size(widths_) == groups,
                "centres and what belongs to them differ");
        require(size(clusters_) == battles_.view().embeddings.rows &&
                    std::all_of(field_.clusters, field_.clusters + size(clusters_),
                                [groups](std::uint16_t cluster) { return cluster < groups; }),
                "a cluster is out of range");
        require(size(variances_) == field_.axes.rows && size(gradient_) == cell_count(tiers),
                "variances or gradient differ in length");
        require(size(energies_) == field_.axes.rows, "energies and axes differ");
        require(field_.moments.columns == moment_count(field_.cell_axes) &&
                    field_.moments.rows == size(active_cells_),
                "moments have another shape");
        const auto cells = static_cast<std::int32_t>(cell_count(tiers));
        require(std::all_of(field_.active_cells, field_.active_cells + field_.moments.rows,
                            [cells](std::int32_t cell) { return 0 <= cell && cell < cells; }),
                "an active cell is out of range");
        require(size(start_) == tiers && strong < tiers && weak < tiers, "tiers differ");
        pointer(start_, 1);
    }

    py::object project(const Array<float>& query) const {
        const float* x = battles_.checked(query);
        py::array_t<float> out(static_cast<py::ssize_t>(field_.axes.rows));
        // A few microseconds: not worth giving the GIL away.
        if (!fastroute::project(field_, x, workspace(), out.mutable_data())) return py::none();
        return out;
    }

    py::typing::Tuple<double, py::str, double> win_rate(const Array<float>& query,
                                                        const py::object& projected,
                                                        const Array<std::int64_t>& near) const {
        const FarFieldResult result = run(query, projected, near);
        return py::make_tuple(result.win_rate, name(result.status), result.misfit);
    }

    // The same with the ratings of the tiers, and what brought them about.
    py::typing::Tuple<py::array_t<double>, double, double, py::str> rate(
        const Array<float>& query, const Array<std::int64_t>& near) const {
        const FarFieldResult result = run(query, py::none(), near);
        py::array_t<double> out(start_.shape(0));
        std::copy_n(ratings().data(), size(start_), out.mutable_data());
        return py::make_tuple(out, result.shift, result.largest, name(result.status));
    }

  private:
    static std::vector<double>& ratings() {
        thread_local std::vector<double> scratch;
        return scratch;
    }

    FarFieldResult run(const Array<float>& query, const py::object& projected,
                       const Array<std::int64_t>& near) const {
        const float* x = battles_.checked(query);
        const float* axes = nullptr;
        if (!projected.is_none()) {
            require(py::isinstance<Array<float>>(projected), "projected is no float32 array");
            const auto array = py::reinterpret_borrow<Array<float>>(projected);
            axes = pointer(array, 1);
            require(size(array) == field_.axes.rows, "projected has another length");
        }
        const std::int64_t* ids = pointer(near, 1);
        const auto rows = static_cast<std::int64_t>(battles_.view().embeddings.rows);
        require(std::all_of(ids, ids + size(near),
                            [rows](std::int64_t id) { return -1 <= id && id < rows; }),
                "a near battle is out of range");
        std::vector<double>& scratch = ratings();
        scratch.assign(start_.data(), start_.data() + size(start_));
        // All arrays are held by this object and by the caller's arguments.
        const py::gil_scoped_release release;
        return far_field_win_rate(field_, battles_.view(), x, axes, ids, size(near), strong_, weak_,
                                  workspace(), scratch.data());
    }

    Battles battles_;
    Array<float> axes_, directions_;
    Array<double> curvatures_, corner_;
    Array<float> centres_, influences_;
    Array<double> sizes_, pulls_, widths_, variances_;
    Array<std::uint16_t> clusters_;
    Array<double> gradient_, energies_;
    Array<float> moments_;
    Array<std::int32_t> active_cells_;
    Array<double> start_;
    std::size_t strong_, weak_;
    FarField field_{};
};

py::array_t<double> moments_of(const Battles& battles, const Array<float>& axes,
                               std::size_t num_threads) {
    const MatrixView view = matrix(axes);
    require(view.columns == battles.view().embeddings.columns && view.rows <= kMostCellAxes,
            "axes have another dimension than the battles, or there are more than 64");
    const std::size_t cells = cell_count(battles.view().tiers);
    py::array_t<double> out({cells, moment_count(view.rows)});
    double* sums = out.mutable_data();
    std::fill_n(sums, cells * moment_count(view.rows), 0.0);
    {
        // The arrays are held by the caller's arguments, and `out` is nobody else's yet.
        const py::gil_scoped_release release;
        accumulate_moments(battles.view(), view, num_threads, sums);
    }
    return out;
}

}  // namespace

void register_far_field(py::module_& module) {
    py::class_<Field>(module, "FarField",
                      "Moments of battles, with which a win rate costs the same for any number.")
        .def(py::init<const Battles&, Array<float>, Array<float>, Array<double>, Array<double>,
                      Array<float>, Array<float>, Array<double>, Array<double>, Array<double>,
                      Array<double>, Array<std::uint16_t>, Array<double>, Array<double>, double,
                      Array<float>, Array<std::int32_t>, Array<double>, std::size_t, std::size_t>(),
             py::arg("battles"), py::arg("axes").noconvert(), py::arg("directions").noconvert(),
             py::arg("curvatures").noconvert(), py::arg("corner").noconvert(),
             py::arg("centres").noconvert(), py::arg("influences").noconvert(),
             py::arg("sizes").noconvert(), py::arg("pulls").noconvert(),
             py::arg("widths").noconvert(), py::arg("variances").noconvert(),
             py::arg("clusters").noconvert(), py::arg("gradient").noconvert(),
             py::arg("energies").noconvert(), py::arg("spread"), py::arg("moments").noconvert(),
             py::arg("active_cells").noconvert(), py::arg("start").noconvert(), py::arg("strong"),
             py::arg("weak"))
        .def("project", &Field::project, py::arg("query").noconvert(),
             "The prompt along the principal axes, float32[axes]; None if it has no length.")
        .def("win_rate", &Field::win_rate, py::arg("query").noconvert(), py::arg("projected"),
             py::arg("near").noconvert(), "(win rate, status, misfit of the quadratic).")
        .def("rate", &Field::rate, py::arg("query").noconvert(), py::arg("near").noconvert(),
             "(ratings of the tiers, shift of strong less weak, largest similarity, status).");
    module.def("accumulate_moments", &moments_of, py::arg("battles"), py::arg("axes").noconvert(),
               py::arg("num_threads"), "Moments by cell: float64[cells, moments].");
}

}  // namespace fastroute::bindings
