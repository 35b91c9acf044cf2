// Weighted least squares of a quadratic.
#pragma once

#include <cstddef>

namespace fastroute {

// a[0] + a[1] x + a[2] x^2.
struct Quadratic {
    double a[3];
    double misfit;  // root mean square of what is left over the weighted mean of y

    double operator()(double x) const noexcept { return a[0] + x * (a[1] + x * a[2]); }
};

// The quadratic through y over the points x with the least weighted squares. Points that are all
// but equal give their mean and no slope.
Quadratic fit_quadratic(const float* x, const double* y, const double* weights,
                        std::size_t count) noexcept;

}  // namespace fastroute
