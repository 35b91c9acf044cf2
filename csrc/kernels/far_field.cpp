#include "kernels/far_field.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "kernels/parallel.hpp"
#include "simd/level.hpp"

namespace fastroute {
namespace {

constexpr double kLog2Of10 = 3.321928094887362;
// No cell may end up without weight because a quadratic dips below zero far from where it was
// fitted: true weights are at least 10^(-1 / s_max), and this keeps the likelihood's maximum
// finite.
constexpr double kLeastShare = 1e-9;

// a[0] + a[1] x + a[2] x^2.
struct Quadratic {
    double a[3];
    double misfit;

    double operator()(double x) const noexcept { return a[0] + x * (a[1] + x * a[2]); }
};

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

// Weighted least squares of y over points x, in a variable that is centred and scaled so that
// nothing is lost to rounding; ridged by a hair. Points that are all but equal give their mean and
// no slope.
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

bool scale_to_unit(const float* query, std::size_t dimensions, std::vector<float>& out) {
    float square = 0.0F;
    simd::functions().dot_rows(query, 1, dimensions, query, dimensions, &square);
    if (!(square > 0.0F) || !std::isfinite(square)) return false;
    const float factor = 1.0F / std::sqrt(square);
    out.resize(dimensions);
    for (std::size_t j = 0; j < dimensions; ++j) out[j] = query[j] * factor;
    return true;
}

// Adds up the time between calls, if anybody asked.
class Clock {
  public:
    explicit Clock(bool runs) : runs_(runs), last_(now()) {}

    void stop(double& nanoseconds) {
        if (!runs_) return;
        const auto at = now();
        nanoseconds = std::chrono::duration<double, std::nano>(at - last_).count();
        last_ = at;
    }

  private:
    std::chrono::steady_clock::time_point now() const {
        return runs_ ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point{};
    }

    bool runs_;
    std::chrono::steady_clock::time_point last_;
};

// One a thread, kept from query to query, so that a query allocates nothing.
FarFieldWorkspace& own_workspace() {
    thread_local FarFieldWorkspace scratch;
    return scratch;
}

}  // namespace

bool project(const FarField& field, const float* query, FarFieldWorkspace& workspace, float* out) {
    const StoredRows& axes = field.axes;
    if (!scale_to_unit(query, axes.columns, workspace.query)) return false;
    axes.dot(simd::functions(), 0, axes.rows, workspace.query.data(), out);
    return true;
}

FarFieldResult far_field_win_rate(const FarField& field, const TieredBattles& battles,
                                  const float* query, const float* projected,
                                  const std::int64_t* near_ids, std::size_t near_count,
                                  std::size_t strong, std::size_t weak,
                                  FarFieldWorkspace& workspace, double* ratings,
                                  FarFieldStages* stages) {
    const simd::Functions& functions = simd::functions();
    const std::size_t d = field.axes.columns;
    FarFieldResult result{RatingStatus::bad_query, 0.5, 0.0, 0.0, 0.0, 0};
    if (!scale_to_unit(query, d, workspace.query)) return result;
    const float* q = workspace.query.data();

    FarFieldStages ignored{};
    FarFieldStages& times = stages != nullptr ? *stages : ignored;
    Clock clock(stages != nullptr);

    // Rows of near battles lie anywhere in memory: the first are on their way while the prompt is
    // taken along the directions of the first-order part.
    constexpr std::size_t kAhead = 6;
    const auto fetch = [&](std::size_t k) {
        if (k >= near_count || near_ids[k] < 0) return;
        const auto id = static_cast<std::size_t>(near_ids[k]);
        field.near_rows.prefetch(id);
        __builtin_prefetch(battles.cells + id);
        __builtin_prefetch(field.clusters + id);
    };
    for (std::size_t k = 0; k < kAhead; ++k) fetch(k);
    const std::size_t axis_count = field.axes.rows;
    workspace.projected.resize(axis_count);
    float* p = workspace.projected.data();
    if (projected != nullptr) {
        std::copy_n(projected, axis_count, p);
    } else {
        field.axes.dot(functions, 0, axis_count, q, p);
    }
    workspace.directed.resize(field.directions.rows);
    field.directions.dot(functions, 0, field.directions.rows, q, workspace.directed.data());
    clock.stop(times.directions);

    // The near field: similarities of the battles that the index found.
    workspace.near.resize(near_count);
    float largest = 0.0F;
    std::size_t nearest = 0;
    float least = 1.0F;
    for (std::size_t k = 0; k < near_count; ++k) {
        fetch(k + kAhead);
        if (near_ids[k] < 0) continue;
        float& similarity = workspace.near[k];
        field.near_rows.dot(functions, static_cast<std::size_t>(near_ids[k]), 1, q, &similarity);
        if (similarity > largest) {
            largest = similarity;
            nearest = static_cast<std::size_t>(near_ids[k]);
        }
        least = std::min(least, similarity);
        ++result.near_count;
    }
    // All weights hang on the largest, so it is taken from the whole row.
    if (largest > 0.0F) battles.embeddings.dot(functions, nearest, 1, q, &largest);
    clock.stop(times.near);
    result.largest = static_cast<double>(largest);
    if (!(largest > 0.0F)) {
        result.status = RatingStatus::nothing_similar;
        return result;
    }

    // The quadratic.
    double inside = 0.0;
    for (std::size_t a = 0; a < axis_count; ++a) {
        inside += static_cast<double>(p[a]) * static_cast<double>(p[a]);
    }
    const double outside = std::max(1.0 - inside, 0.0) * field.spread;
    double within = 0.0;  // mean variance of a similarity within a cluster, along the axes
    for (std::size_t a = 0; a < axis_count; ++a) {
        within += field.variances[a] * static_cast<double>(p[a]) * static_cast<double>(p[a]);
    }
    // Three points a cluster: centre - h, centre, centre + h with h = sqrt(3) deviations.
    const std::size_t clusters = field.centres.rows;
    workspace.points.resize(3 * clusters);
    workspace.values.resize(3 * clusters);
    workspace.weights.resize(3 * clusters);
    workspace.slopes.resize(clusters);
    workspace.means.resize(clusters);
    workspace.sums.resize(std::max(clusters, field.moments.rows));
    workspace.moves.resize(std::max(clusters, field.moments.rows));
    float* middles = workspace.sums.data();
    float* points = workspace.points.data();
    float middle_of_all = 0.0F;
    functions.dot_rows(field.middle, 1, axis_count, p, axis_count, &middle_of_all);
    field.centres.dot(functions, 0, clusters, p, middles);
    field.influences.dot(functions, 0, clusters, p, workspace.moves.data());
    for (std::size_t k = 0; k < clusters; ++k) middles[k] += middle_of_all;
    for (std::size_t k = 0; k < clusters; ++k) {
        const double step = std::sqrt(3.0 * (field.widths[k] * within + outside));
        workspace.slopes[k] = step;
        const float middle = middles[k];
        points[k] = std::min(middle - static_cast<float>(step), least);
        points[clusters + k] = std::min(middle, least);
        points[2 * clusters + k] = std::min(middle + static_cast<float>(step), least);
        workspace.weights[k] = workspace.weights[2 * clusters + k] = field.sizes[k];
        workspace.weights[clusters + k] = 4.0 * field.sizes[k];
    }
    const double scale = kLog2Of10 / result.largest;
    double* values = workspace.values.data();
    functions.exp2_scaled(points, 3 * clusters, scale, values);
    const Quadratic quadratic =
        fit_quadratic(points, values, workspace.weights.data(), 3 * clusters);
    result.misfit = quadratic.misfit;

    // What the quadratic leaves, a line a cluster.
    double residual = 0.0;
    for (std::size_t k = 0; k < clusters; ++k) {
        const auto left = [&](std::size_t i) {
            return values[i] - quadratic(static_cast<double>(points[i]));
        };
        const double low = left(k);
        const double high = left(2 * clusters + k);
        const double step = workspace.slopes[k];
        workspace.means[k] = (low + 4.0 * left(clusters + k) + high) / 6.0;
        workspace.slopes[k] = step > 1e-6 ? (high - low) / (2.0 * step) : 0.0;
        residual += field.pulls[k] * workspace.means[k] +
                    workspace.slopes[k] * static_cast<double>(workspace.moves[k]);
    }
    for (std::size_t i = 0; i < near_count; ++i) {
        if (near_ids[i] < 0) continue;  // its weight is exact: nothing of it is left
        const std::size_t k = field.clusters[near_ids[i]];
        const double line =
            workspace.means[k] + workspace.slopes[k] * (static_cast<double>(workspace.near[i]) -
                                                        static_cast<double>(middles[k]));
        residual -= field.gradient[battles.cells[near_ids[i]]] * line;
    }

    clock.stop(times.lines);

    // Sums of the quadratic over the cells: one dot product a cell, with the monomials of q.
    const std::size_t m = field.cell_axes;
    workspace.features.resize(moment_count(m));
    float* feature = workspace.features.data();
    double missing = outside;  // mean square similarity outside the cells' axes
    for (std::size_t a = m; a < axis_count; ++a) {
        missing += field.energies[a] * static_cast<double>(p[a]) * static_cast<double>(p[a]);
    }
    *feature++ = static_cast<float>(quadratic.a[0] + quadratic.a[2] * missing);
    for (std::size_t a = 0; a < m; ++a) {
        *feature++ = static_cast<float>(quadratic.a[1] * static_cast<double>(p[a]));
    }
    for (std::size_t a = 0; a < m; ++a) {
        for (std::size_t b = a; b < m; ++b) {
            const double pair = static_cast<double>(p[a]) * static_cast<double>(p[b]);
            *feature++ = static_cast<float>((a == b ? 1.0 : 2.0) * quadratic.a[2] * pair);
        }
    }
    const MatrixView& moments = field.moments;
    functions.dot_rows(moments.data, moments.rows, moments.stride, workspace.features.data(),
                       moments.columns, workspace.sums.data());
    workspace.cell_sums.assign(cell_count(battles.tiers), 0.0);
    double* cell_sums = workspace.cell_sums.data();
    // And of its line along the next axes; the places of what clusters needed are free again.
    field.cell_lines.dot(functions, 0, moments.rows, p + m, workspace.moves.data());
    for (std::size_t c = 0; c < moments.rows; ++c) {
        cell_sums[field.active_cells[c]] = static_cast<double>(workspace.sums[c]) +
                                           quadratic.a[1] * static_cast<double>(workspace.moves[c]);
    }
    for (std::size_t k = 0; k < near_count; ++k) {
        if (near_ids[k] < 0) continue;
        const auto similarity = static_cast<double>(workspace.near[k]);
        double weight = 0.0;
        functions.exp2_scaled(&workspace.near[k], 1, scale, &weight);
        cell_sums[battles.cells[near_ids[k]]] += weight - quadratic(similarity);
    }
    double total = 0.0;
    for (std::size_t c = 0; c < moments.rows; ++c) {
        double& sum = cell_sums[field.active_cells[c]];
        sum = std::max(sum, kLeastShare * static_cast<double>(moments.row(c)[0]));
        total += sum;
    }

    // What lies outside the cells' axes, to first order.
    const float* directed = workspace.directed.data();
    double curved = 0.0;
    for (std::size_t k = 0; k + 1 < field.directions.rows; ++k) {
        const auto along = static_cast<double>(directed[k + 1]);
        curved += field.curvatures[k + 1] * along * along;
    }
    for (std::size_t a = 0; a < m; ++a) {
        for (std::size_t b = 0; b < m; ++b) {
            curved -=
                field.corner[a * m + b] * static_cast<double>(p[a]) * static_cast<double>(p[b]);
        }
    }
    result.shift = (quadratic.a[1] * field.curvatures[0] * static_cast<double>(directed[0]) +
                    quadratic.a[2] * curved + residual) *
                   (total > 0.0 ? 1.0 / total : 0.0);
    clock.stop(times.cells);

    if (!rate_cells(cell_sums, battles.tiers, battles.strict, workspace.ratings, ratings)) {
        result.status = RatingStatus::no_finite_rating;
        return result;
    }
    clock.stop(times.ratings);
    result.status = RatingStatus::converged;
    const double difference = ratings[strong] - ratings[weak] + result.shift;
    const double odds = std::exp(-std::abs(difference));
    result.win_rate = difference >= 0.0 ? 1.0 / (1.0 + odds) : odds / (1.0 + odds);
    return result;
}

void project_rows(const FarField& field, const MatrixView& queries, std::size_t thread_count,
                  float* out, bool* ok) {
    parallel_for(queries.rows, thread_count, [&](std::size_t i) noexcept {
        ok[i] = project(field, queries.row(i), own_workspace(), out + i * field.axes.rows);
    });
}

void far_field_win_rates(const FarField& field, const TieredBattles& battles,
                         const MatrixView& queries, const float* projected,
                         const std::int64_t* near_ids, std::size_t near_count, std::size_t strong,
                         std::size_t weak, const double* start, std::size_t thread_count,
                         FarFieldResult* results) {
    parallel_for(queries.rows, thread_count, [&](std::size_t i) noexcept {
        thread_local std::vector<double> ratings;
        ratings.assign(start, start + battles.tiers);
        results[i] = far_field_win_rate(field, battles, queries.row(i),
                                        projected + i * field.axes.rows, near_ids + i * near_count,
                                        near_count, strong, weak, own_workspace(), ratings.data());
    });
}

void accumulate_moments(const TieredBattles& battles, const MatrixView& axes,
                        std::size_t thread_count, double* out) {
    // Sums within a part and then over parts in order, so that the number of threads is no matter.
    constexpr std::size_t kMostParts = 32;
    const std::size_t rows = battles.embeddings.rows;
    const std::size_t parts = std::min(kMostParts, (rows + 1023) / 1024);
    const std::size_t m = axes.rows;
    const std::size_t width = moment_count(m);
    const std::size_t size = cell_count(battles.tiers) * width;
    std::vector<double> sums(parts * size, 0.0);
    const simd::Functions& functions = simd::functions();
    parallel_for(parts, thread_count, [&](std::size_t part) noexcept {
        const StoredRows& stored = battles.embeddings;
        for (std::size_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) {
            double* sum = sums.data() + part * size + battles.cells[i] * width;
            *sum++ += 1.0;
            float p[kMostCellAxes];
            for (std::size_t a = 0; a < m; ++a) stored.dot(functions, i, 1, axes.row(a), p + a);
            for (std::size_t a = 0; a < m; ++a) *sum++ += static_cast<double>(p[a]);
            for (std::size_t a = 0; a < m; ++a) {
                for (std::size_t b = a; b < m; ++b) {
                    *sum++ += static_cast<double>(p[a]) * static_cast<double>(p[b]);
                }
            }
        }
    });
    for (std::size_t part = 0; part < parts; ++part) {
        for (std::size_t k = 0; k < size; ++k) out[k] += sums[part * size + k];
    }
}

}  // namespace fastroute
