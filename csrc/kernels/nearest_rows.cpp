#include "kernels/nearest_rows.hpp"

#include <algorithm>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

constexpr std::size_t kRowsAtOnce = 128;
constexpr std::size_t kQueriesPerTask = 16;

// Moves what is at `place` towards the front, past what is less.
void sink(std::size_t place, std::int32_t* nearest, float* products) noexcept {
    const std::int32_t row = nearest[place];
    const float product = products[place];
    for (; place > 0 && products[place - 1] < product; --place) {
        nearest[place] = nearest[place - 1];
        products[place] = products[place - 1];
    }
    nearest[place] = row;
    products[place] = product;
}

}  // namespace

void nearest_rows(const MatrixView& rows, const float* query, std::size_t count,
                  std::int32_t* nearest, float* products) noexcept {
    if (count == 0) return;
    const auto dot_rows = simd::functions().dot_rows;
    float block[kRowsAtOnce];
    std::size_t held = 0;
    for (std::size_t begin = 0; begin < rows.rows; begin += kRowsAtOnce) {
        const std::size_t size = std::min(kRowsAtOnce, rows.rows - begin);
        dot_rows(rows.row(begin), size, rows.stride, query, rows.columns, block);
        for (std::size_t i = 0; i < size; ++i) {
            if (held == count && !(block[i] > products[count - 1])) continue;
            const std::size_t place = held < count ? held++ : count - 1;
            nearest[place] = static_cast<std::int32_t>(begin + i);
            products[place] = block[i];
            sink(place, nearest, products);
        }
    }
}

void nearest_rows_of_many(const MatrixView& rows, const MatrixView& queries, std::size_t count,
                          std::size_t thread_count, std::int32_t* nearest, float* products) {
    const std::size_t tasks = (queries.rows + kQueriesPerTask - 1) / kQueriesPerTask;
    parallel_for(tasks, thread_count, [&](std::size_t task) noexcept {
        const std::size_t end = std::min(queries.rows, (task + 1) * kQueriesPerTask);
        for (std::size_t i = task * kQueriesPerTask; i < end; ++i) {
            nearest_rows(rows, queries.row(i), count, nearest + i * count, products + i * count);
        }
    });
}

}  // namespace fastroute
