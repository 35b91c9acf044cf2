// One hot kernel, so many times, for an instruction counter: hot_kernels KERNEL CALLS.
// bench/instructions.py builds this, counts twice and divides the difference.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "kernels/far_field.hpp"
#include "kernels/matrix_factorization.hpp"
#include "kernels/similarity_weighting.hpp"
#include "simd/level.hpp"

namespace {

constexpr std::size_t kBattles = 4096;
constexpr std::size_t kDimensions = 384;
constexpr std::size_t kTiers = 10;
constexpr std::size_t kAxes = 256;
constexpr std::size_t kCellAxes = 16;
constexpr std::size_t kLines = 112;
constexpr std::size_t kRank = 256;
constexpr std::size_t kClusters = 256;
constexpr std::size_t kNear = 128;

std::mt19937 generator(7);

// Unit rows around one direction, so that all similarities are positive.
std::vector<float> unit_rows(std::size_t rows, std::size_t columns) {
    std::normal_distribution<float> normal(0.5F, 1.0F);
    std::vector<float> made(rows * columns);
    for (std::size_t r = 0; r < rows; ++r) {
        float* row = made.data() + r * columns;
        float square = 0.0F;
        for (std::size_t j = 0; j < columns; ++j) {
            row[j] = normal(generator);
            square += row[j] * row[j];
        }
        for (std::size_t j = 0; j < columns; ++j) row[j] /= std::sqrt(square);
    }
    return made;
}

// Rows as bytes with a factor each, as fit rounds them.
struct Bytes {
    Bytes(const std::vector<float>& values, std::size_t row_count, std::size_t column_count)
        : bytes(values.size()), scales(row_count), rows(row_count), columns(column_count) {
        for (std::size_t r = 0; r < rows; ++r) {
            const float* row = values.data() + r * columns;
            float most = 0.0F;
            for (std::size_t j = 0; j < columns; ++j) most = std::max(most, std::abs(row[j]));
            scales[r] = most / 127.0F;
            for (std::size_t j = 0; j < columns; ++j) {
                bytes[r * columns + j] = static_cast<std::int8_t>(std::lround(row[j] / scales[r]));
            }
        }
    }

    fastroute::StoredRows view() const {
        return {nullptr, nullptr, bytes.data(), scales.data(), rows, columns};
    }

    std::vector<std::int8_t> bytes;
    std::vector<float> scales;
    std::size_t rows, columns;
};

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) return 2;
    const std::string_view kernel(arguments[1]);
    const long calls = std::atol(arguments[2]);
    const std::vector<float> rows = unit_rows(kBattles, kDimensions);
    const std::vector<float> query = unit_rows(1, kDimensions);
    std::vector<std::uint16_t> cells(kBattles);
    for (std::uint16_t& cell : cells) {
        const std::size_t a = generator() % kTiers;
        const std::size_t b = (a + 1 + generator() % (kTiers - 1)) % kTiers;
        cell = static_cast<std::uint16_t>(a * kTiers + b);
    }
    const fastroute::TieredBattles battles{
        {rows.data(), nullptr, nullptr, nullptr, kBattles, kDimensions},
        cells.data(),
        kTiers,
        false};
    std::vector<double> ratings(kTiers);
    double checksum = 0.0;
    if (kernel == "mf") {
        const fastroute::MatrixView one{query.data(), 1, kDimensions, kDimensions};
        for (long i = 0; i < calls; ++i) {
            double rate = 0.0;
            fastroute::pair_win_rates(rows.data(), one, 1, &rate);
            checksum += rate;
        }
    } else if (kernel == "exact") {
        fastroute::SimilarityWorkspace workspace;
        for (long i = 0; i < calls; ++i) {
            ratings.assign(kTiers, 0.0);
            fastroute::rate_tiers(battles, query.data(), 1, workspace, ratings.data());
            checksum += ratings[0];
        }
    } else if (kernel == "far_field") {
        const Bytes near_rows(rows, kBattles, kDimensions);
        const Bytes axes(unit_rows(kAxes, kDimensions), kAxes, kDimensions);
        const Bytes directions(unit_rows(1 + kRank, kDimensions), 1 + kRank, kDimensions);
        const Bytes centres(unit_rows(kClusters, kAxes), kClusters, kAxes);
        const std::vector<float> middle(kAxes, 0.0F);
        const std::vector<double> sizes(kClusters, 16.0), pulls(kClusters, 0.1);
        const std::vector<double> widths(kClusters, 1.0), gradient(fastroute::cell_count(kTiers));
        const std::vector<std::uint16_t> clusters(kBattles);
        const std::vector<double> curvatures(1 + kRank, 0.0), corner(kCellAxes * kCellAxes, 0.0);
        const std::vector<double> energies(kAxes, 1e-3);
        const std::size_t width = fastroute::moment_count(kCellAxes);
        std::vector<float> moments;
        std::vector<std::int32_t> active;
        for (std::size_t cell = 0; cell < kTiers * kTiers; ++cell) {
            if (cell / kTiers == cell % kTiers) continue;
            active.push_back(static_cast<std::int32_t>(cell));
            moments.push_back(45.0F);
            moments.insert(moments.end(), width - 1, 0.5F);
        }
        const Bytes lines(unit_rows(active.size(), kLines), active.size(), kLines);
        const fastroute::FarField field{
            near_rows.view(),
            {axes.view(), middle.data(), energies.data(), energies.data(), 1e-3},
            {centres.view(), centres.view(), sizes.data(), pulls.data(), widths.data(),
             clusters.data()},
            {kCellAxes,
             {moments.data(), active.size(), width, width},
             lines.view(),
             active.data(),
             gradient.data()},
            {directions.view(), curvatures.data(), corner.data()}};
        std::vector<std::int64_t> near(kNear);
        std::iota(near.begin(), near.end(), 0);
        fastroute::FarFieldWorkspace workspace;
        for (long i = 0; i < calls; ++i) {
            ratings.assign(kTiers, 0.0);
            checksum +=
                fastroute::far_field_win_rate(field, battles, query.data(), nullptr, near.data(),
                                              kNear, 0, kTiers - 1, workspace, ratings.data())
                    .win_rate;
        }
    } else {
        return 2;
    }
    std::printf("%.*s %f\n", static_cast<int>(fastroute::simd::active_level().size()),
                fastroute::simd::active_level().data(), checksum);
    return std::isfinite(checksum) ? 0 : 1;
}
