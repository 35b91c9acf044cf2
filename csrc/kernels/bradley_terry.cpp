#include "kernels/bradley_terry.hpp"

#include <algorithm>
#include <cmath>

namespace fastroute {
namespace {

constexpr int kMostIterations = 100;
// Newton squares the error at each step: after a step this short it is far below 1e-8.
constexpr double kShortStep = 1e-6;
// The likelihood's third derivative along a direction u is at most max |u_i - u_j| times its second
// (so it is for the logarithm of the sigmoid). A full Newton step that changes no difference by
// more than this is within a factor of two of the quadratic model all along, and so goes uphill.
constexpr double kSafeChange = 0.5;

// log(sigmoid(x)), without overflow.
double log_sigmoid(double x) noexcept {
    return x >= 0.0 ? -std::log1p(std::exp(-x)) : x - std::log1p(std::exp(x));
}

double sigmoid(double x) noexcept {
    return x >= 0.0 ? 1.0 / (1.0 + std::exp(-x)) : std::exp(x) / (1.0 + std::exp(x));
}

double log_likelihood(const WinTable& table, const double* ratings) noexcept {
    const std::size_t n = table.players;
    double total = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
            const double weight = table.wins[i * n + j];
            if (i != j && weight > 0.0) total += weight * log_sigmoid(ratings[i] - ratings[j]);
        }
        if (table.anchor_wins != nullptr) {
            total += table.anchor_wins[i] * log_sigmoid(-ratings[i]);
            total += table.anchor_losses[i] * log_sigmoid(ratings[i]);
        }
    }
    return total;
}

// Fills gradient and negative Hessian of the log-likelihood; returns the total weight.
double derivatives(const WinTable& table, const double* ratings, double* gradient,
                   double* hessian) noexcept {
    const std::size_t n = table.players;
    std::fill_n(gradient, n, 0.0);
    std::fill_n(hessian, n * n, 0.0);
    double total_weight = 0.0;
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = i + 1; j < n; ++j) {
            const double won = table.wins[i * n + j];
            const double lost = table.wins[j * n + i];
            if (won + lost <= 0.0) continue;
            total_weight += won + lost;
            // Both probabilities by themselves: 1 - p has no digits left where p is near 1.
            const double p = sigmoid(ratings[i] - ratings[j]);
            const double q = sigmoid(ratings[j] - ratings[i]);
            const double slope = won * q - lost * p;
            const double curvature = (won + lost) * p * q;
            gradient[i] += slope;
            gradient[j] -= slope;
            hessian[i * n + i] += curvature;
            hessian[j * n + j] += curvature;
            hessian[i * n + j] -= curvature;
            hessian[j * n + i] -= curvature;
        }
        if (table.anchor_wins != nullptr) {
            const double won = table.anchor_wins[i];
            const double lost = table.anchor_losses[i];
            total_weight += won + lost;
            const double p = sigmoid(-ratings[i]);
            const double q = sigmoid(ratings[i]);
            gradient[i] -= won * q - lost * p;
            hessian[i * n + i] += (won + lost) * p * q;
        }
    }
    return total_weight;
}

// Solves hessian * step = gradient by Cholesky, in place. False if not positive definite.
bool solve(std::size_t n, double* hessian, const double* gradient, double* step) noexcept {
    for (std::size_t j = 0; j < n; ++j) {
        double* row_j = hessian + j * n;
        double pivot = row_j[j];
        for (std::size_t k = 0; k < j; ++k) pivot -= row_j[k] * row_j[k];
        if (!(pivot > 0.0)) return false;
        row_j[j] = std::sqrt(pivot);
        for (std::size_t i = j + 1; i < n; ++i) {
            double* row_i = hessian + i * n;
            double sum = row_i[j];
            for (std::size_t k = 0; k < j; ++k) sum -= row_i[k] * row_j[k];
            row_i[j] = sum / row_j[j];
        }
    }
    for (std::size_t i = 0; i < n; ++i) {
        double sum = gradient[i];
        for (std::size_t k = 0; k < i; ++k) sum -= hessian[i * n + k] * step[k];
        step[i] = sum / hessian[i * n + i];
    }
    for (std::size_t i = n; i-- > 0;) {
        double sum = step[i];
        for (std::size_t k = i + 1; k < n; ++k) sum -= hessian[k * n + i] * step[k];
        step[i] = sum / hessian[i * n + i];
    }
    return true;
}

}  // namespace

NewtonResult fit_bradley_terry(const WinTable& table, NewtonWorkspace& workspace, double* ratings) {
    const std::size_t n = table.players;
    workspace.gradient.resize(n);
    workspace.hessian.resize(n * n);
    workspace.step.resize(n);
    workspace.trial.resize(n);
    double* gradient = workspace.gradient.data();
    double* hessian = workspace.hessian.data();
    double* step = workspace.step.data();
    double* trial = workspace.trial.data();

    if (n == 1 && table.anchor_wins == nullptr) return {true, 0, 0.0};  // any rating will do
    NewtonResult result{false, 0, 0.0};
    while (result.iterations < kMostIterations) {
        ++result.iterations;
        const double total_weight = derivatives(table, ratings, gradient, hessian);
        double largest_slope = 0.0;
        double trace = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            largest_slope = std::max(largest_slope, std::abs(gradient[i]));
            trace += hessian[i * n + i];
        }
        result.gradient_norm = largest_slope / total_weight;
        if (!std::isfinite(result.gradient_norm)) return result;
        if (table.anchor_wins == nullptr) {
            // Only differences matter, so the Hessian is singular along (1, ..., 1). The gradient
            // has no part in that direction; any curvature put there leaves the step as it is.
            const double curvature = trace / static_cast<double>(n * n);
            for (std::size_t i = 0; i < n * n; ++i) hessian[i] += curvature;
        }
        if (!solve(n, hessian, gradient, step)) return result;
        double largest_step = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            largest_step = std::max(largest_step, std::abs(step[i]));
        }

        // Newton's step; a long one is halved until the likelihood does not fall by more than
        // rounding (it is concave, so this ends).
        for (std::size_t i = 0; i < n; ++i) trial[i] = ratings[i] + step[i];
        if (2.0 * largest_step > kSafeChange) {
            const double likelihood = log_likelihood(table, ratings);
            const double slack = 1e-13 * std::abs(likelihood);
            double length = 1.0;
            for (int halvings = 0; !(log_likelihood(table, trial) >= likelihood - slack);
                 ++halvings) {
                if (halvings == 60) return result;
                length *= 0.5;
                for (std::size_t i = 0; i < n; ++i) trial[i] = ratings[i] + length * step[i];
            }
        }
        std::copy_n(trial, n, ratings);
        if (largest_step <= kShortStep) {
            result.converged = true;
            return result;
        }
    }
    return result;
}

bool has_finite_ratings(const WinTable& table, int* component) {
    const std::size_t n = table.players;
    const auto reach = [&](std::size_t from, bool forward) {
        std::vector<char> reached(n, 0);
        std::vector<std::size_t> todo{from};
        reached[from] = 1;
        while (!todo.empty()) {
            const std::size_t i = todo.back();
            todo.pop_back();
            for (std::size_t j = 0; j < n; ++j) {
                const double weight = forward ? table.wins[i * n + j] : table.wins[j * n + i];
                if (i != j && reached[j] == 0 && weight > 0.0) {
                    reached[j] = 1;
                    todo.push_back(j);
                }
            }
        }
        return reached;
    };
    std::fill_n(component, n, -1);
    int groups = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if (component[i] >= 0) continue;
        const std::vector<char> below = reach(i, true);
        const std::vector<char> above = reach(i, false);
        for (std::size_t j = 0; j < n; ++j) {
            if (below[j] != 0 && above[j] != 0) component[j] = groups;
        }
        ++groups;
    }
    return groups <= 1;
}

}  // namespace fastroute
