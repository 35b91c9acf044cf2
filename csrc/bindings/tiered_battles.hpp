// Battles as Python hands them over: the arrays that they look into, held alive, and checked.
#pragma once

#include <pybind11/numpy.h>

#include <algorithm>
#include <utility>

#include "bindings/arrays.hpp"
#include "kernels/similarity_weighting.hpp"

namespace fastroute::bindings {

const char* name(RatingStatus status);

// Rows of float32, float16, or int8 with a factor a row; `scales` is looked at for int8 only.
inline StoredRows stored_rows(const py::array& rows, const Array<float>& scales) {
    require(rows.ndim() == 2, "wrong number of dimensions");
    require((rows.flags() & py::array::c_style) != 0, "not C-contiguous");
    const auto itemsize = static_cast<std::size_t>(rows.itemsize());
    require(reinterpret_cast<std::uintptr_t>(rows.data()) % itemsize == 0, "not aligned");
    require(rows.dtype().byteorder() != '>', "not in this machine's byte order");
    StoredRows stored{nullptr, nullptr, nullptr, nullptr, size(rows, 0), size(rows, 1)};
    const char kind = rows.dtype().kind();
    if (kind == 'f' && itemsize == 4) {
        stored.floats = static_cast<const float*>(rows.data());
    } else if (kind == 'f' && itemsize == 2) {
        stored.halves = static_cast<const std::uint16_t*>(rows.data());
    } else if (kind == 'i' && itemsize == 1) {
        stored.bytes = static_cast<const std::int8_t*>(rows.data());
        stored.scales = pointer(scales, 1);
        require(size(scales) == stored.rows, "rows and scales differ in length");
    } else {
        require(false, "rows are float32, float16 or int8");
    }
    return stored;
}

// Immutable, so threads may share it.
class Battles {
  public:
    Battles(py::array embeddings, Array<std::uint16_t> cells, std::size_t tiers, bool strict,
            Array<float> scales)
        : embeddings_(std::move(embeddings)), cells_(std::move(cells)), scales_(std::move(scales)) {
        battles_ = {stored_rows(embeddings_, scales_), pointer(cells_, 1), tiers, strict};
        require(battles_.embeddings.rows >= 1, "there are no battles");
        require(size(cells_) == battles_.embeddings.rows, "embeddings and cells differ in length");
        require(tiers >= 1 && cell_count(tiers) <= 65535, "num_tiers is not in 1..180");
        const std::size_t limit = cell_count(tiers);
        require(std::all_of(battles_.cells, battles_.cells + size(cells_),
                            [limit](std::uint16_t cell) { return cell < limit; }),
                "a cell is out of range");
    }

    const TieredBattles& view() const { return battles_; }

    const float* checked(const Array<float>& query) const {
        const float* x = pointer(query, 1);
        require(size(query) == battles_.embeddings.columns,
                "the embedding has another dimension than the battles");
        return x;
    }

  private:
    py::array embeddings_;
    Array<std::uint16_t> cells_;
    Array<float> scales_;
    TieredBattles battles_{};
};

}  // namespace fastroute::bindings
