// The rows of a matrix that are nearest to a query, by a scan over all of them: exact, and fast for
// as many rows as prompts are usually graded (some thousands).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/matrix_view.hpp"

namespace fastroute {

// Writes the `count` rows of greatest product with the query, greatest first, of equal ones the
// lower number first, and the products. count <= rows.rows. Of NaN nothing is known.
void nearest_rows(const MatrixView& rows, const float* query, std::size_t count,
                  std::int32_t* nearest, float* products) noexcept;

// The same for many queries: [queries, count] each. The results are the same for any number of
// threads.
void nearest_rows_of_many(const MatrixView& rows, const MatrixView& queries, std::size_t count,
                          std::size_t thread_count, std::int32_t* nearest, float* products);

}  // namespace fastroute
