// The arrays that an estimator's kernel reads, checked to fit together and held.
#pragma once

#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "bindings/arrays.hpp"
#include "kernels/choice.hpp"
#include "kernels/success_estimate.hpp"

namespace fastroute::bindings {

using SuccessNumbers = std::pair<py::array_t<double>, int>;

// [3, m], which are probability, low and high of each model, and the status; `write` fills them.
template <typename Write>
SuccessNumbers success_numbers(const SuccessModel& model, Write&& write) {
    const std::size_t m = model.models;
    py::array_t<double> out({std::size_t{3}, m});
    double* numbers = out.mutable_data();
    const SuccessStatus status = write(numbers, numbers + m, numbers + 2 * m);
    return {std::move(out), static_cast<int>(status)};
}

// Prices of candidates, checked to fit together and held.
class TokenPriceArrays {
  public:
    TokenPriceArrays(Array<double> input, Array<double> output, Array<double> answer_tokens)
        : input_(std::move(input)),
          output_(std::move(output)),
          answer_tokens_(std::move(answer_tokens)),
          view_{pointer(input_, 1), pointer(output_, 1), pointer(answer_tokens_, 1), size(input_)} {
        require(size(output_) == view_.count && size(answer_tokens_) == view_.count,
                "prices differ in length");
    }

    const TokenPrices& view() const { return view_; }

    py::array_t<double> dollars(double input_tokens, double most_answer_tokens) const {
        py::array_t<double> out(input_.shape(0));
        expected_dollars(view_, input_tokens, most_answer_tokens, out.mutable_data());
        return out;
    }

  private:
    Array<double> input_, output_, answer_tokens_;
    TokenPrices view_;
};

// Lists may be left out: `starts` is then empty.
inline RowLists row_lists(const Array<float>& rows, const Array<std::int64_t>& starts) {
    const MatrixView view = matrix(rows);
    require(view.rows <= std::numeric_limits<std::int32_t>::max(), "there are too many rows");
    const std::int64_t* bounds = pointer(starts, 1);
    const std::size_t count = size(starts);
    if (count == 0) return {view, nullptr};
    bool rising = bounds[0] == 0 && bounds[count - 1] == static_cast<std::int64_t>(view.rows);
    for (std::size_t i = 1; i < count; ++i) rising = rising && bounds[i - 1] <= bounds[i];
    require(rising, "starts does not rise from 0 to the number of rows");
    return {view, bounds};
}

// The arrays of graded prompts, which the estimator's model points to.
class GradedPromptArrays {
  public:
    GradedPromptArrays(Array<float> rows, Array<std::int64_t> starts, Array<float> centre,
                       Array<float> shared, Array<float> own, Array<double> own_count,
                       double shared_count, std::size_t count, std::size_t scanned)
        : rows_(std::move(rows)),
          centre_(std::move(centre)),
          shared_(std::move(shared)),
          own_(std::move(own)),
          starts_(std::move(starts)),
          own_count_(std::move(own_count)),
          view_{row_lists(rows_, starts_), scanned, pointer(centre_, 1), pointer(shared_, 1),
                pointer(own_, 2),          count,   shared_count,        pointer(own_count_, 1)} {
        const MatrixView& all = view_.rows.rows;
        require(size(centre_) == all.columns && size(shared_) == all.rows &&
                    size(own_) == all.rows && size(own_, 1) == size(own_count_) &&
                    count <= all.rows && scanned <= lists(),
                "the parts of the graded prompts differ");
    }

    std::size_t models() const { return size(own_count_); }
    std::size_t lists() const { return size(starts_) == 0 ? 0 : size(starts_) - 1; }
    const GradedPrompts& view() const { return view_; }

  private:
    Array<float> rows_, centre_, shared_, own_;
    Array<std::int64_t> starts_;
    Array<double> own_count_;
    GradedPrompts view_;
};

class SuccessEstimator {
  public:
    SuccessEstimator(Array<float> stacked, Array<double> at_centre, Array<float> centre,
                     Array<float> clusters, Array<float> of_clusters, std::size_t clusterings,
                     std::size_t nearest_clusters, Array<double> level, Array<double> slope,
                     Array<double> offset, Array<double> usual, Array<double> widening,
                     Array<double> widest, double edge, double most_spread,
                     std::optional<GradedPromptArrays> prompts)
        : floats_{std::move(stacked), std::move(centre), std::move(clusters),
                  std::move(of_clusters)},
          doubles_{std::move(level),    std::move(slope),  std::move(offset),   std::move(usual),
                   std::move(widening), std::move(widest), std::move(at_centre)},
          prompts_(std::move(prompts)),
          model_{size(doubles_[0]),
                 matrix(floats_[0]),
                 pointer(doubles_[6], 1),
                 pointer(floats_[1], 1),
                 matrix(floats_[2]),
                 pointer(floats_[3], 2),
                 clusterings,
                 nearest_clusters,
                 pointer(doubles_[0], 1),
                 pointer(doubles_[1], 1),
                 pointer(doubles_[2], 1),
                 pointer(doubles_[3], 1),
                 pointer(doubles_[4], 1),
                 pointer(doubles_[5], 1),
                 edge,
                 most_spread,
                 {}} {
        const std::size_t m = model_.models;
        const std::size_t d = model_.stacked.columns;
        for (std::size_t i = 0; i < 6; ++i) require(size(doubles_[i]) == m, "heads differ");
        require(model_.stacked.rows >= m + 1 && size(doubles_[6]) == model_.stacked.rows &&
                    size(floats_[1]) == d,
                "stacked, at_centre and centre differ");
        if (clusterings > 0) {
            require(model_.clusters.rows % clusterings == 0 && model_.clusters.columns == d &&
                        nearest_clusters >= 1 &&
                        nearest_clusters <= model_.clusters.rows / clusterings &&
                        size(floats_[3]) == model_.clusters.rows && size(floats_[3], 1) == m + 1,
                    "clusters have another shape");
        }
        if (prompts_) {
            model_.prompts = prompts_->view();
            require(model_.prompts.rows.rows.columns == d && prompts_->models() == m,
                    "graded prompts have another dimension");
            require(
                prompts_->lists() == 0 ||
                    (clusterings > 0 && prompts_->lists() == model_.clusters.rows / clusterings),
                "graded prompts have other lists than clusters");
        }
    }

    SuccessNumbers estimate(const Array<float>& x) const {
        const float* embedding = pointer(x, 1);
        require(size(x) == model_.stacked.columns, "the embedding has another dimension");
        // The GIL is kept: this takes a microsecond or two.
        return success_numbers(model_, [&](double* probability, double* low, double* high) {
            return estimate_success(model_, embedding, probability, low, high);
        });
    }

    // [3, n, m] and [n].
    std::pair<py::array_t<double>, py::array_t<std::uint8_t>> estimate_many(
        const Array<float>& X, std::size_t num_threads) const {
        const MatrixView embeddings = matrix(X);
        require(embeddings.columns == model_.stacked.columns,
                "the embeddings have another dimension");
        const std::size_t all = embeddings.rows * model_.models;
        py::array_t<double> out({std::size_t{3}, embeddings.rows, model_.models});
        py::array_t<std::uint8_t> statuses(X.shape(0));
        double* numbers = out.mutable_data();
        auto* status = reinterpret_cast<SuccessStatus*>(statuses.mutable_data());
        {
            const py::gil_scoped_release release;
            estimate_successes(model_, embeddings, num_threads, numbers, numbers + all,
                               numbers + 2 * all, status);
        }
        return {std::move(out), std::move(statuses)};
    }

    const SuccessModel& model() const { return model_; }

  private:
    std::vector<Array<float>> floats_;
    std::vector<Array<double>> doubles_;
    std::optional<GradedPromptArrays> prompts_;
    SuccessModel model_;
};

}  // namespace fastroute::bindings
