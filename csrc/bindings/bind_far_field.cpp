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

// Each of the next four holds the arrays of one part of a field, and checks that they fit together.
class Axes {
  public:
    Axes(const Rows& rows, Array<float> middle, Array<double> variances, Array<double> energies,
         double spread)
        : rows_(rows),
          middle_(std::move(middle)),
          variances_(std::move(variances)),
          energies_(std::move(energies)),
          view_{rows_.view(), pointer(middle_, 1), pointer(variances_, 1), pointer(energies_, 1),
                spread} {
        const std::size_t count = view_.rows.rows;
        require(size(middle_) == count && size(variances_) == count && size(energies_) == count,
                "middle, variances or energies and axes differ");
    }

    const FarFieldAxes& view() const { return view_; }

  private:
    Rows rows_;
    Array<float> middle_;
    Array<double> variances_, energies_;
    FarFieldAxes view_;
};

class Clusters {
  public:
    Clusters(const Rows& centres, const Rows& influences, Array<double> sizes, Array<double> pulls,
             Array<double> widths, Array<std::uint16_t> of_battle)
        : centres_(centres),
          influences_(influences),
          sizes_(std::move(sizes)),
          pulls_(std::move(pulls)),
          widths_(std::move(widths)),
          of_battle_(std::move(of_battle)),
          view_{centres_.view(),    influences_.view(),  pointer(sizes_, 1),
                pointer(pulls_, 1), pointer(widths_, 1), pointer(of_battle_, 1)} {
        const std::size_t count = view_.centres.rows;
        require(count >= 1 && view_.influences.rows == count &&
                    view_.influences.columns == view_.centres.columns && size(sizes_) == count &&
                    size(pulls_) == count && size(widths_) == count,
                "centres and what belongs to them differ");
        require(std::all_of(view_.of_battle, view_.of_battle + size(of_battle_),
                            [count](std::uint16_t cluster) { return cluster < count; }),
                "a cluster is out of range");
    }

    const FarFieldClusters& view() const { return view_; }
    std::size_t battles() const { return size(of_battle_); }

  private:
    Rows centres_, influences_;
    Array<double> sizes_, pulls_, widths_;
    Array<std::uint16_t> of_battle_;
    FarFieldClusters view_;
};

class Cells {
  public:
    Cells(std::size_t axes, Array<float> moments, const Rows& lines, Array<std::int32_t> active,
          Array<double> gradient)
        : moments_(std::move(moments)),
          lines_(lines),
          active_(std::move(active)),
          gradient_(std::move(gradient)),
          view_{axes, matrix(moments_), lines_.view(), pointer(active_, 1), pointer(gradient_, 1)} {
        require(axes <= kMostCellAxes && view_.moments.columns == moment_count(axes) &&
                    view_.moments.rows == size(active_),
                "moments have another shape");
        require(view_.lines.rows == view_.moments.rows, "lines of the cells have another shape");
        const auto cells = static_cast<std::int32_t>(size(gradient_));
        require(std::all_of(view_.active, view_.active + view_.moments.rows,
                            [cells](std::int32_t cell) { return 0 <= cell && cell < cells; }),
                "an active cell is out of range");
    }

    const FarFieldCells& view() const { return view_; }
    std::size_t count() const { return size(gradient_); }

  private:
    Array<float> moments_;
    Rows lines_;
    Array<std::int32_t> active_;
    Array<double> gradient_;
    FarFieldCells view_;
};

class Outside {
  public:
    Outside(const Rows& directions, Array<double> curvatures, Array<double> corner)
        : directions_(directions),
          curvatures_(std::move(curvatures)),
          corner_(std::move(corner)),
          view_{directions_.view(), pointer(curvatures_, 1), pointer(corner_, 2)} {
        require(view_.directions.rows == size(curvatures_) && size(curvatures_) >= 1,
                "directions and curvatures differ");
        require(size(corner_) == size(corner_, 1), "corner is not square");
    }

    const FarFieldOutside& view() const { return view_; }
    std::size_t cell_axes() const { return size(corner_); }

  private:
    Rows directions_;
    Array<double> curvatures_, corner_;
    FarFieldOutside view_;
};

// The moments and all that a query needs beside them. Immutable, so threads may share it.
class Field {
  public:
    Field(const Battles& battles, const Rows& near_rows, const Axes& axes, const Clusters& clusters,
          const Cells& cells, const Outside& outside, Array<double> start, std::size_t strong,
          std::size_t weak)
        : battles_(battles),
          near_rows_(near_rows),
          axes_(axes),
          clusters_(clusters),
          cells_(cells),
          outside_(outside),
          start_(std::move(start)),
          strong_(strong),
          weak_(weak),
          field_{near_rows_.view(), axes_.view(), clusters_.view(), cells_.view(),
                 outside_.view()} {
        const std::size_t tiers = battles_.view().tiers;
        const std::size_t d = battles_.view().embeddings.columns;
        const std::size_t count = battles_.view().embeddings.rows;
        const std::size_t axis_count = field_.axes.rows.rows;
        require(field_.near_rows.rows == count && field_.near_rows.columns == d,
                "rows of the near field are of another shape than the battles");
        require(field_.axes.rows.columns == d && field_.outside.directions.columns == d,
                "axes and directions have another dimension than the battles");
        require(outside_.cell_axes() == field_.cells.axes && field_.cells.axes <= axis_count &&
                    field_.cells.axes + field_.cells.lines.columns <= axis_count,
                "corner or lines of the cells do not fit the axes");
        require(field_.clusters.centres.columns == axis_count, "centres and axes differ");
        require(clusters_.battles() == count, "clusters and battles differ in length");
        require(cells_.count() == cell_count(tiers), "gradient and cells differ in length");
        require(size(start_) == tiers && strong < tiers && weak < tiers, "tiers differ");
        pointer(start_, 1);
    }

    py::object project(const Array<float>& query) const {
        const float* x = battles_.checked(query);
        py::array_t<float> out(static_cast<py::ssize_t>(axis_count()));
        // A few microseconds: not worth giving the GIL away.
        if (!fastroute::project(field_, x, workspace(), out.mutable_data())) return py::none();
        return out;
    }

    // The same for each row of the queries: float32[n, axes], and whether each row has a length.
    py::typing::Tuple<py::array_t<float>, py::array_t<bool>> project_rows(
        const Array<float>& queries, std::size_t num_threads) const {
        const MatrixView rows = checked_rows(queries);
        py::array_t<float> out({rows.rows, axis_count()});
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
        require(axes.rows == rows.rows && axes.columns == axis_count(),
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
    std::size_t axis_count() const { return field_.axes.rows.rows; }

    static std::vector<double>& ratings() {
        thread_local std::vector<double> scratch;
        return scratch;
    }

    MatrixView checked_rows(const Array<float>& queries) const {
        const MatrixView rows = matrix(queries);
        require(rows.columns == field_.axes.rows.columns,
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
            require(size(array) == axis_count(), "projected has another length");
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
    Rows near_rows_;
    Axes axes_;
    Clusters clusters_;
    Cells cells_;
    Outside outside_;
    Array<double> start_;
    std::size_t strong_, weak_;
    FarField field_;
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
    py::class_<Axes>(module, "FarFieldAxes", "The principal axes, and the battles along them.")
        .def(py::init<const Rows&, Array<float>, Array<double>, Array<double>, double>(),
             py::arg("rows"), py::arg("middle").noconvert(), py::arg("variances").noconvert(),
             py::arg("energies").noconvert(), py::arg("spread"));
    py::class_<Clusters>(module, "FarFieldClusters", "Clusters of the battles.")
        .def(py::init<const Rows&, const Rows&, Array<double>, Array<double>, Array<double>,
                      Array<std::uint16_t>>(),
             py::arg("centres"), py::arg("influences"), py::arg("sizes").noconvert(),
             py::arg("pulls").noconvert(), py::arg("widths").noconvert(),
             py::arg("of_battle").noconvert());
    py::class_<Cells>(module, "FarFieldCells", "Moments of the cells that hold battles.")
        .def(py::init<std::size_t, Array<float>, const Rows&, Array<std::int32_t>, Array<double>>(),
             py::arg("axes"), py::arg("moments").noconvert(), py::arg("lines"),
             py::arg("active").noconvert(), py::arg("gradient").noconvert());
    py::class_<Outside>(module, "FarFieldOutside", "What enters to first order.")
        .def(py::init<const Rows&, Array<double>, Array<double>>(), py::arg("directions"),
             py::arg("curvatures").noconvert(), py::arg("corner").noconvert());
    py::class_<Field>(module, "FarField",
                      "Moments of battles, with which a win rate costs the same for any number.")
        .def(py::init<const Battles&, const Rows&, const Axes&, const Clusters&, const Cells&,
                      const Outside&, Array<double>, std::size_t, std::size_t>(),
             py::arg("battles"), py::arg("near_rows"), py::arg("axes"), py::arg("clusters"),
             py::arg("cells"), py::arg("outside"), py::arg("start").noconvert(), py::arg("strong"),
             py::arg("weak"))
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
