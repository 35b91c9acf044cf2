// The rows of a matrix that are nearest to a query, by a scan over all of them, or over those of
// some lists: exact, and fast for as many rows as prompts are usually graded.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix_view.hpp"

namespace fastroute {

// Rows in lists, one list after another: list l has the rows starts[l] to starts[l + 1] - 1.
struct RowLists {
    MatrixView rows;
    const std::int64_t* starts;  // [lists + 1]; null where there are no lists
};

// Writes the `count` rows of greatest product with the query, greatest first, of equal ones that
// which is scanned first, and the products. Scans the given lists in their order, or all rows where
// there are no lists. Where too few rows are found, the others are -1. Of NaN nothing is known.
void nearest_rows(const RowLists& among, const float* query, const std::int32_t* lists,
                  std::size_t list_count, std::size_t count, std::int32_t* nearest,
                  float* products) noexcept;

// The same for many queries, with lists [queries, list_count]: [queries, count] each. The results
// are the same for any number of threads.
void nearest_rows_of_many(const RowLists& among, const MatrixView& queries,
                          const std::int32_t* lists, std::size_t list_count, std::size_t count,
                          std::size_t thread_count, std::int32_t* nearest, float* products);

}  // namespace fastroute
