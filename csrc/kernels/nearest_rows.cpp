#include "kernels/nearest_rows.hpp"

#include <algorithm>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

constexpr std::size_t kRowsAtOnce = 128;
constexpr std::size_t kLooked = 16;
constexpr std::size_t kQueriesPerTask = 16;

bool any_above(float least, const float* products) noexcept {
    int above = 0;
    for (std::size_t i = 0; i < kLooked; ++i) above |= products[i] > least ? 1 : 0;
    return above != 0;
}

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

// The nearest rows that were seen so far.
struct Found {
    std::size_t count;
    std::int32_t* nearest;
    float* products;
    std::size_t held = 0;

    void add(std::size_t row, float product) noexcept {
        if (held == count && !(product > products[count - 1])) return;
        const std::size_t place = held < count ? held++ : count - 1;
        nearest[place] = static_cast<std::int32_t>(row);
        products[place] = product;
        sink(place, nearest, products);
    }

    void scan(const MatrixView& rows, std::size_t first, std::size_t end,
              const float* query) noexcept {
        const auto dot_rows = simd::functions().dot_rows;
        float block[kRowsAtOnce];
        for (std::size_t begin = first; begin < end; begin += kRowsAtOnce) {
            const std::size_t size = std::min(kRowsAtOnce, end - begin);
            dot_rows(rows.row(begin), size, rows.stride, query, rows.columns, block);
            std::size_t i = 0;
            while (i < size) {
                // Most rows are not near enough, which a vector of them shows at once.
                if (held == count && i + kLooked <= size &&
                    !any_above(products[count - 1], block + i)) {
                    i += kLooked;
                    continue;
                }
                const std::size_t last = std::min(size, i + kLooked);
                for (; i < last; ++i) add(begin + i, block[i]);
            }
        }
    }
};

}  // namespace

void nearest_rows(const RowLists& among, const float* query, const std::int32_t* lists,
                  std::size_t list_count, std::size_t count, std::int32_t* nearest,
                  float* products) noexcept {
    if (count == 0) return;
    Found found{count, nearest, products};
    if (among.starts == nullptr) {
        found.scan(among.rows, 0, among.rows.rows, query);
    } else {
        for (std::size_t l = 0; l < list_count; ++l) {
            const std::int64_t* start = among.starts + lists[l];
            found.scan(among.rows, static_cast<std::size_t>(start[0]),
                       static_cast<std::size_t>(start[1]), query);
        }
    }
    std::fill(nearest + found.held, nearest + count, -1);
    std::fill(products + found.held, products + count, 0.0F);
}

void nearest_rows_of_many(const RowLists& among, const MatrixView& queries,
                          const std::int32_t* lists, std::size_t list_count, std::size_t count,
                          std::size_t thread_count, std::int32_t* nearest, float* products) {
    const std::size_t tasks = (queries.rows + kQueriesPerTask - 1) / kQueriesPerTask;
    parallel_for(tasks, thread_count, [&](std::size_t task) noexcept {
        const std::size_t end = std::min(queries.rows, (task + 1) * kQueriesPerTask);
        for (std::size_t i = task * kQueriesPerTask; i < end; ++i) {
            nearest_rows(among, queries.row(i), lists + i * list_count, list_count, count,
                         nearest + i * count, products + i * count);
        }
    });
}

}  // namespace fastroute
