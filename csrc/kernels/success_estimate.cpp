#include "kernels/success_estimate.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

constexpr double kStandardErrors = 1.96;  // half a 95 % interval
constexpr std::size_t kPromptsPerTask = 64;

// Memory for one estimate, kept by each thread.
struct Scratch {
    std::vector<float> products, query, similarities;
    std::vector<double> parts, sums;
    std::vector<std::int32_t> nearest, clusters;
};

double square(double value) noexcept { return value * value; }

double sigmoid(double z) noexcept {
    return z >= 0.0 ? 1.0 / (1.0 + std::exp(-z)) : std::exp(z) / (1.0 + std::exp(z));
}

// parts[j] += mean over the nearest clusters of what they say of j, for each clustering.
void add_clusters(const SuccessModel& model, const float* x, Scratch& scratch) noexcept {
    const std::size_t near = model.nearest_clusters;
    const std::size_t width = model.models + 1;
    const std::size_t k = model.clusters.rows / model.clusterings;
    const double share = 1.0 / static_cast<double>(near);
    for (std::size_t first = 0; first < model.clusters.rows; first += k) {
        const std::size_t count = first == 0 ? scratch.clusters.size() : near;
        const MatrixView centres{model.clusters.row(first), k, model.clusters.columns,
                                 model.clusters.stride};
        // Those of the first clustering are kept for the neighbours.
        std::int32_t* found = first == 0 ? scratch.clusters.data() : scratch.nearest.data();
        nearest_rows({centres, nullptr}, x, nullptr, 0, count, found, scratch.similarities.data());
        for (std::size_t i = 0; i < near; ++i) {
            const std::size_t cluster = first + static_cast<std::size_t>(found[i]);
            const float* row = model.of_clusters + cluster * width;
            for (std::size_t j = 0; j < width; ++j) {
                scratch.parts[j] += share * static_cast<double>(row[j]);
            }
        }
    }
}

void add_known(float value, double& sum, double& known) noexcept {
    const bool is_known = value == value;
    sum += is_known ? static_cast<double>(value) : 0.0;
    known += is_known ? 1.0 : 0.0;
}

void mix_neighbors(const SuccessModel& model, const float* x, Scratch& scratch) noexcept {
    const GradedPrompts& prompts = model.prompts;
    const std::size_t m = model.models;
    for (std::size_t i = 0; i < prompts.rows.rows.columns; ++i) {
        scratch.query[i] = x[i] - prompts.centre[i];
    }
    std::int32_t* rows = scratch.nearest.data();
    nearest_rows(prompts.rows, scratch.query.data(), scratch.clusters.data(), prompts.scanned,
                 prompts.count, rows, scratch.similarities.data());
    // Of the values of the rows that are not NaN, each model's and then the shared one.
    std::fill(scratch.sums.begin(), scratch.sums.end(), 0.0);
    double* sums = scratch.sums.data();
    double* known = sums + m + 1;
    for (std::size_t i = 0; i < prompts.count && rows[i] >= 0; ++i) {
        const auto row = static_cast<std::size_t>(rows[i]);
        const float* own = prompts.own + row * m;
        for (std::size_t j = 0; j < m; ++j) add_known(own[j], sums[j], known[j]);
        add_known(prompts.shared[row], sums[m], known[m]);
    }
    for (std::size_t j = 0; j <= m; ++j) {
        const double count = j < m ? prompts.own_count[j] : prompts.shared_count;
        double& part = scratch.parts[j];
        if (known[j] > 0.0) part += (sums[j] - known[j] * part) / (known[j] + count);
    }
}

void resize(const SuccessModel& model, Scratch& scratch) {
    const std::size_t clusters = std::max(model.nearest_clusters, model.prompts.scanned);
    const std::size_t near = std::max(clusters, model.prompts.count);
    scratch.products.resize(model.stacked.rows);
    scratch.parts.resize(model.models + 1);
    scratch.sums.resize(2 * (model.models + 1));
    scratch.query.resize(model.stacked.columns);
    scratch.nearest.resize(near);
    scratch.clusters.resize(clusters);
    scratch.similarities.resize(near);
}

SuccessStatus estimate(const SuccessModel& model, const float* x, Scratch& scratch,
                       double* probability, double* low, double* high) noexcept {
    const std::size_t m = model.models;
    const std::size_t d = model.stacked.columns;
    simd::functions().dot_rows(model.stacked.data, model.stacked.rows, model.stacked.stride, x, d,
                               scratch.products.data());
    double spread = 0.0;
    bool zero = true;
    for (std::size_t i = 0; i < d; ++i) {
        spread += square(static_cast<double>(x[i]) - static_cast<double>(model.centre[i]));
        zero = zero && x[i] == 0.0F;
    }
    const auto product = [&](std::size_t row) {
        return static_cast<double>(scratch.products[row]) - model.at_centre[row];
    };
    for (std::size_t row = m + 1; row < model.stacked.rows; ++row) spread -= square(product(row));
    for (std::size_t j = 0; j <= m; ++j) {
        scratch.parts[j] = product(j);
        if (!std::isfinite(scratch.parts[j])) return SuccessStatus::not_finite;
    }
    if (!std::isfinite(spread)) return SuccessStatus::not_finite;
    spread = std::max(spread, 0.0);
    const bool abstained = zero || spread > model.most_spread;
    if (!abstained) {
        if (model.clusterings > 0) add_clusters(model, x, scratch);
        if (model.prompts.count > 0) mix_neighbors(model, x, scratch);
    }
    for (std::size_t j = 0; j < m; ++j) {
        double p = model.usual[j];
        double variance = model.widest[j];
        if (!abstained) {
            const double score = model.level[j] + scratch.parts[m] + scratch.parts[j];
            const double kept = std::clamp(score, model.edge, 1.0 - model.edge);
            p = sigmoid(model.slope[j] * std::log(kept / (1.0 - kept)) + model.offset[j]);
            const double usual_variance = spread * model.widening[j];
            if (usual_variance < variance) variance = usual_variance;
        }
        probability[j] = p;
        if (low == nullptr) continue;
        const double half = kStandardErrors * std::sqrt(variance);
        low[j] = std::max(p - half, 0.0);
        high[j] = std::min(p + half, 1.0);
    }
    return abstained ? SuccessStatus::abstained : SuccessStatus::estimated;
}

}  // namespace

SuccessStatus estimate_success(const SuccessModel& model, const float* x, double* probability,
                               double* low, double* high) {
    thread_local Scratch scratch;
    resize(model, scratch);
    return estimate(model, x, scratch, probability, low, high);
}

void estimate_successes(const SuccessModel& model, const MatrixView& X, std::size_t thread_count,
                        double* probability, double* low, double* high, SuccessStatus* statuses) {
    const std::size_t tasks = (X.rows + kPromptsPerTask - 1) / kPromptsPerTask;
    std::vector<Scratch> scratches(tasks);
    for (Scratch& scratch : scratches) resize(model, scratch);
    parallel_for(tasks, thread_count, [&](std::size_t task) noexcept {
        const std::size_t end = std::min(X.rows, (task + 1) * kPromptsPerTask);
        for (std::size_t i = task * kPromptsPerTask; i < end; ++i) {
            const std::size_t at = i * model.models;
            statuses[i] =
                estimate(model, X.row(i), scratches[task], probability + at, low + at, high + at);
        }
    });
}

}  // namespace fastroute
