#include "kernels/quadratic_fit.hpp"

#include <algorithm>
#include <cmath>

namespace fastroute {
namespace {

// Solves the symmetric positive definite 3 x 3 system in place, by Gauss's elimination.
void solve3(double (&m)[3][4]) noexcept {
    for (int i = 0; i < 3; ++i) {
        for (int k = i + 1; k < 3; ++k) {
            const double factor = m[k][i] / m[i][i];
            for (int j = i; j < 4; ++j) m[k][j] -= factor * m[i][j];
        }
    }
    for (int i = 2; i >= 0; --i) {
        for (int j = i + 1; j < 3; ++j) m[i][3] -= m[i][j] * m[j][3];
        m[i][3] /= m[i][i];
    }
}

}  // namespace

// In a variable that is centred and scaled so that nothing is lost to rounding; ridged by a hair.
Quadratic fit_quadratic(const float* x, const double* y, const double* weights,
                        std::size_t count) noexcept {
    constexpr std::size_t kLanes = 8;  // independent sums, which the compiler can vectorise
    float lowest = x[0];
    float highest = x[0];
    for (std::size_t i = 1; i < count; ++i) {
        lowest = std::min(lowest, x[i]);
        highest = std::max(highest, x[i]);
    }
    const double centre = 0.5 * (static_cast<double>(lowest) + static_cast<double>(highest));
    const double half = 0.5 * (static_cast<double>(highest) - static_cast<double>(lowest));
    if (half < 1e-4) {
        double sum = 0.0;
        double total = 0.0;
        for (std::size_t i = 0; i < count; ++i) {
            sum += weights[i] * y[i];
            total += weights[i];
        }
        return {{sum / total, 0.0, 0.0}, 0.0};
    }
    const double inverse = 1.0 / half;
    double sums[9][kLanes] = {};
    const auto add = [&](std::size_t i, std::size_t lane) {
        const double t = (static_cast<double>(x[i]) - centre) * inverse;
        const double w = weights[i];
        const double u = w * t * t;
        sums[0][lane] += w * t;
        sums[1][lane] += u;
        sums[2][lane] += u * t;
        sums[3][lane] += u * t * t;
        sums[4][lane] += w * y[i];
        sums[5][lane] += w * t * y[i];
        sums[6][lane] += u * y[i];
        sums[7][lane] += w * y[i] * y[i];
        sums[8][lane] += w;
    };
    std::size_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
    }
    for (; i < count; ++i) add(i, 0);
    double s[9] = {};
    for (int k = 0; k < 9; ++k) {
        for (std::size_t lane = 0; lane < kLanes; ++lane) s[k] += sums[k][lane];
    }
    const double n = s[8];
    const double ridge = 1e-9 * n;
    double system[3][4] = {
        {n, s[0], s[1], s[4]}, {s[0], s[1] + ridge, s[2], s[5]}, {s[1], s[2], s[3] + ridge, s[6]}};
    solve3(system);
    const double b0 = system[0][3];
    const double b1 = system[1][3] * inverse;
    const double b2 = system[2][3] * inverse * inverse;
    const double left = s[7] - b0 * s[4] - system[1][3] * s[5] - system[2][3] * s[6];
    return {{b0 - centre * (b1 - centre * b2), b1 - 2.0 * centre * b2, b2},
            std::sqrt(std::max(left, 0.0) * n) / s[4]};
}

}  // namespace fastroute
