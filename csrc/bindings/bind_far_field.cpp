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

// Rows in one of the forms that kernels read, and the arrays that hold them.
class Rows {
  public:
    Rows(py::array rows, Array<float> scales) : rows_(std::move(rows)), scales_(std::move(scales)) {
        view_ = stored_rows(rows_, scales_);
    }

    const StoredRows& view() const { return view_; }

  private:
    py::array rows_;
    Array<float> scales_;
    StoredRows view_{};
};

// The moments and all that a query needs beside them. Immutable, so threads may share it.
class Field {
  public:
    Field(const Battles& battles, const Rows& near_rows, const Rows& axes, const Rows& directions,
          Array<double> curvatures, Array<double> corner, Array<float> middle, const Rows& centres,
          const Rows& influences, Array<double> sizes, Array<double> pulls, Array<double> widths,
          Array<double> variances, Array<std::uint16_t> clusters, Array<double> gradient,
          Array<double> energies, double spread, Array<float> moments, const Rows& cell_lines,
          Array<std::int32_t> active_cells, Array<double> start, std::size_t strong,
          std::size_t weak)
        : battles_(battles),
          near_rows_(near_rows),
          axes_(axes),
          directions_(directions),
          curvatures_(std::move(curvatures)),
          corner_(std::move(corner)),
          middle_(std::move(middle)),
          centres_(centres),
          influences_(influences),
          sizes_(std::move(sizes)),
          pulls_(std::move(pulls)),
          widths_(std::move(widths)),
          variances_(std::move(variances)),
          clusters_(std::move(clusters)),
          gradient_(std::move(gradient)),
          energies_(std::move(energies)),
          moments_(std::move(moments)),
          cell_lines_(cell_lines),
          active_cells_(std::move(active_cells)),
          start_(std::move(start)),
          strong_(strong),
          weak_(weak) {
        field_.near_rows = near_rows_.view();
        field_.axes = axes_.view();
        field_.directions = directions_.view();
        field_.curvatures = pointer(curvatures_, 1);
        field_.corner = pointer(corner_, 2);
        field_.middle = pointer(middle_, 1);
        field_.centres = centres_.view();
        field_.influences = influences_.view();
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
        field_.cell_lines = cell_lines_.view();
        field_.active_cells = pointer(active_cells_, 1);
        const std::size_t tiers = battles_.view().tiers;
        const std::size_t d = battles_.view().embeddings.columns;
        const std::size_t axis_count = field_.axes.rows;
        require(field_.near_rows.rows == battles_.view().embeddings.rows &&
                    field_.near_rows.columns == d,
                "rows of the near field are of another shape than the battles");
        require(field_.axes.columns == d && field_.directions.columns == d,
                "axes and directions have another dimension than the battles");
        require(field_.directions.rows == size(curvatures_) && size(curvatures_) >= 1,
                "directions and curvatures differ");
        require(size(corner_, 1) == field_.cell_axes && field_.cell_axes <= axis_count,
                "corner is not square or has too many axes");
        const std::size_t groups = field_.centres.rows;
        require(groups >= 1 && field_.centres.columns == axis_count &&
                    field_.influences.rows == groups && field_.influences.columns == axis_count &&
                    size(sizes_) == groups && size(pulls_) == groups && size(widths_) == groups &&
                    size(middle_) == axis_count,
                "centres and what belongs to them differ");
        require(size(clusters_) == battles_.view().embeddings.rows &&
                    std::all_of(field_.clusters, field_.clusters + size(clusters_),
                                [groups](std::uint16_t cluster) { return cluster < groups; }),
                "a cluster is out of range");
        require(size(variances_) == axis_count && size(gradient_) == cell_count(tiers),
                "variances or gradient differ in length");
        require(size(energies_) == axis_count, "energies and axes differ");
        require(field_.moments.columns == moment_count(field_.cell_axes) &&
                    field_.moments.rows == size(active_cells_),
                "moments have another shape");
        require(field_.cell_lines.rows == field_.moments.rows &&
                    field_.cell_axes + field_.cell_lines.columns <= axis_count,
                "lines of the cells have another shape");
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

    // The same for each row of the queries: float32[n, axes], and whether each row has a length.
    py::typing::Tuple<py::array_t<float>, py::array_t<bool>> project_rows(
        const Array<float>& queries, std::size_t num_threads) const {
        const MatrixView rows = checked_rows(queries);
        py::array_t<float> out({rows.rows, field_.axes.rows});
        py::array_t<bool> ok(static_cast<py::ssize_t>(rows.rows));
        float* projected = out.mutable_data();
        bool* said = ok.mutable_data();
        {
            // The queries are held by the caller's arguments, and what is written is nobody's yet.
            const py::gil_scoped_release release;
            fastroute::project_rows(field_, rows, num_threads, projected, said);
        }
        return py::make_tuple(out, ok);
    }

    py::typing::Tuple<py::array_t<double>, py::array_t<bool>, py::array_t<double>> win_rates(
        const Array<float>& queries, const Array<float>& projected, const Array<std::int64_t>& near,
        std::size_t num_threads) const {
        const MatrixView rows = checked_rows(queries);
        const MatrixView axes = matrix(projected);
        require(axes.rows == rows.rows && axes.columns == field_.axes.rows,
                "projected has another shape");
        pointer(near, 2);
        require(size(near) == rows.rows, "near and queries differ in length");
        check_near(near.data(), static_cast<std::size_t>(near.size()));
        const auto count = static_cast<py::ssize_t>(rows.rows);
        py::array_t<double> rates(count), misfits(count);
        py::array_t<bool> converged(count);
        std::vector<FarFieldResult> results(rows.rows);
        {
            // The same: all arrays are held by this object and by the caller's arguments.
            const py::gil_scoped_release release;
            far_field_win_rates(field_, battles_.view(), rows, axes.data, near.data(),
                                size(near, 1), strong_, weak_, start_.data(), num_threads,
                                results.data());
        }
        for (std::size_t i = 0; i < results.size(); ++i) {
            rates.mutable_data()[i] = results[i].win_rate;
            converged.mutable_data()[i] = results[i].status == RatingStatus::converged;
            misfits.mutable_data()[i] = results[i].misfit;
        }
        return py::make_tuple(rates, converged, misfits);
    }

    // Nanoseconds of one query by stage.
    py::typing::Dict<py::str, double> stages(const Array<float>& query,
                                             const Array<float>& projected,
                                             const Array<std::int64_t>& near) const {
        FarFieldStages spent{};
        run(query, projected, near, &spent);
        py::typing::Dict<py::str, double> out;
        out["directions"] = spent.directions;
        out["near"] = spent.near;
        out["lines"] = spent.lines;
        out["cells"] = spent.cells;
        out["ratings"] = spent.ratings;
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

    MatrixView checked_rows(const Array<float>& queries) const {
        const MatrixView rows = matrix(queries);
        require(rows.columns == field_.axes.columns,
                "the embeddings have another dimension than the battles");
        return rows;
    }

    void check_near(const std::int64_t* ids, std::size_t count) const {
        const auto rows = static_cast<std::int64_t>(battles_.view().embeddings.rows);
        require(std::all_of(ids, ids + count,
                            [rows](std::int64_t id) { return -1 <= id && id < rows; }),
                "a near battle is out of range");
    }

    FarFieldResult run(const Array<float>& query, const py::object& projected,
                       const Array<std::int64_t>& near, FarFieldStages* spent = nullptr) const {
        const float* x = battles_.checked(query);
        const float* axes = nullptr;
        if (!projected.is_none()) {
            require(py::isinstance<Array<float>>(projected), "projected is no float32 array");
            const auto array = py::reinterpret_borrow<Array<float>>(projected);
            axes = pointer(array, 1);
            require(size(array) == field_.axes.rows, "projected has another length");
        }
        const std::int64_t* ids = pointer(near, 1);
        check_near(ids, size(near));
        std::vector<double>& scratch = ratings();
        scratch.assign(start_.data(), start_.data() + size(start_));
        // All arrays are held by this object and by the caller's arguments.
        const py::gil_scoped_release release;
        return far_field_win_rate(field_, battles_.view(), x, axes, ids, size(near), strong_, weak_,
                                  workspace(), scratch.data(), spent);
    }

    Battles battles_;
    Rows near_rows_, axes_, directions_;
    Array<double> curvatures_, corner_;
    Array<float> middle_;
    Rows centres_, influences_;
    Array<double> sizes_, pulls_, widths_, variances_;
    Array<std::uint16_t> clusters_;
    Array<double> gradient_, energies_;
    Array<float> moments_;
    Rows cell_lines_;
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
    py::class_<Rows>(module, "StoredRows", "Rows of float32, float16, or int8 with factors.")
        .def(py::init<py::array, Array<float>>(), py::arg("rows").noconvert(),
             py::arg("scales").noconvert());
    py::class_<Field>(module, "FarField",
                      "Moments of battles, with which a win rate costs the same for any number.")
        .def(py::init<const Battles&, const Rows&, const Rows&, const Rows&, Array<double>,
                      Array<double>, Array<float>, const Rows&, const Rows&, Array<double>,
                      Array<double>, Array<double>, Array<double>, Array<std::uint16_t>,
                      Array<double>, Array<double>, double, Array<float>, const Rows&,
                      Array<std::int32_t>, Array<double>, std::size_t, std::size_t>(),
             py::arg("battles"), py::arg("near_rows"), py::arg("axes"), py::arg("directions"),
             py::arg("curvatures").noconvert(), py::arg("corner").noconvert(),
             py::arg("middle").noconvert(), py::arg("centres"), py::arg("influences"),
             py::arg("sizes").noconvert(), py::arg("pulls").noconvert(),
             py::arg("widths").noconvert(), py::arg("variances").noconvert(),
             py::arg("clusters").noconvert(), py::arg("gradient").noconvert(),
             py::arg("energies").noconvert(), py::arg("spread"), py::arg("moments").noconvert(),
             py::arg("cell_lines"), py::arg("active_cells").noconvert(),
             py::arg("start").noconvert(), py::arg("strong"), py::arg("weak"))
        .def("project", &Field::project, py::arg("query").noconvert(),
             "The prompt along the principal axes, float32[axes]; None if it has no length.")
        .def("project_rows", &Field::project_rows, py::arg("queries").noconvert(),
             py::arg("num_threads"), "The same by row, and whether each row has a length.")
        .def("win_rates", &Field::win_rates, py::arg("queries").noconvert(),
             py::arg("projected").noconvert(), py::arg("near").noconvert(), py::arg("num_threads"),
             "(win rates, whether they converged, misfits), a row each.")
        .def("stages", &Field::stages, py::arg("query").noconvert(),
             py::arg("projected").noconvert(), py::arg("near").noconvert(),
             "Nanoseconds that a query spends in each stage.")
        .def("win_rate", &Field::win_rate, py::arg("query").noconvert(), py::arg("projected"),
             py::arg("near").noconvert(), "(win rate, status, misfit of the quadratic).")
        .def("rate", &Field::rate, py::arg("query").noconvert(), py::arg("near").noconvert(),
             "(ratings of the tiers, shift of strong less weak, largest similarity, status).");
    module.def("accumulate_moments", &moments_of, py::arg("battles"), py::arg("axes").noconvert(),
               py::arg("num_threads"), "Moments by cell: float64[cells, moments].");
}

}  // namespace fastroute::bindings
