#include "kernels/bradley_terry.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/checkpoint.hpp"

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

double log_likelihood(const WinTable& table, const double* ratings, Checkpoint& pace) {
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
        pace.after(20 * n);
    }
    return total;
}

// Fills gradient and negative Hessian of the log-likelihood; returns the total weight.
double derivatives(const WinTable& table, const double* ratings, double* gradient, double* hessian,
                   Checkpoint& pace) {
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
        pace.after(50 * (n - i));
    }
    return total_weight;
}

// Solves hessian * step = gradient by Cholesky, in place. False if not positive definite.
bool solve(std::size_t n, double* hessian, const double* gradient, double* step, Checkpoint& pace) {
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
        pace.after((n - j) * (j + 5));
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
        pace.after(10 * (n - i));
    }
    return true;
}

}  // namespace

NewtonResult fit_bradley_terry(const WinTable& table, NewtonWorkspace& workspace, double* ratings,
                               void (*checkpoint)()) {
    const std::size_t n = table.players;
    Checkpoint pace(checkpoint);
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
        const double total_weight = derivatives(table, ratings, gradient, hessian, pace);
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
        if (!solve(n, hessian, gradient, step, pace)) return result;
        double largest_step = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            largest_step = std::max(largest_step, std::abs(step[i]));
        }

        // Newton's step; a long one is halved until the likelihood does not fall by more than
        // rounding (it is concave, so this ends).
        for (std::size_t i = 0; i < n; ++i) trial[i] = ratings[i] + step[i];
        if (2.0 * largest_step > kSafeChange) {
            const double likelihood = log_likelihood(table, ratings, pace);
            const double slack = 1e-13 * std::abs(likelihood);
            double length = 1.0;
            for (int halvings = 0; !(log_likelihood(table, trial, pace) >= likelihood - slack);
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

// Strongly connected components by Tarjan's depth-first search (1972), on a stack of its own.
bool has_finite_ratings(const WinTable& table, int* component, void (*checkpoint)()) {
    const std::size_t n = table.players;
    Checkpoint pace(checkpoint);
    std::vector<std::size_t> order(n, 0);   // of the visits, from 1; 0: not visited yet
    std::vector<std::size_t> lowest(n, 0);  // least order that is known to be in the same component
    std::vector<std::size_t> next(n, 0);    // the loser to look at next
    std::vector<std::size_t> path, open;    // open: visited, and not yet in a component
    std::size_t visited = 0;
    int components = 0;
    const auto visit = [&](std::size_t i) {
        order[i] = lowest[i] = ++visited;
        path.push_back(i);
        open.push_back(i);
        pace.after(2 * n);
    };
    std::fill_n(component, n, -1);
    for (std::size_t root = 0; root < n; ++root) {
        if (order[root] == 0) visit(root);
        while (!path.empty()) {
            const std::size_t i = path.back();
            const double* wins = table.wins + i * n;
            std::size_t j = next[i];
            for (; j < n; ++j) {
                if (i == j || !(wins[j] > 0.0)) continue;
                if (order[j] == 0) break;
                if (component[j] < 0) lowest[i] = std::min(lowest[i], order[j]);
            }
            next[i] = j;
            if (j < n) {
                visit(j);
                continue;
            }
            path.pop_back();
            if (!path.empty()) lowest[path.back()] = std::min(lowest[path.back()], lowest[i]);
            if (lowest[i] < order[i]) continue;
            while (component[i] < 0) {
                component[open.back()] = components;
                open.pop_back();
            }
            ++components;
        }
    }
    std::vector<int> numbers(static_cast<std::size_t>(components), -1);
    int numbered = 0;
    for (std::size_t i = 0; i < n; ++i) {
        int& number = numbers[static_cast<std::size_t>(component[i])];
        if (number < 0) number = numbered++;
        component[i] = number;
    }
    return components <= 1;
}

}  // namespace fastroute
