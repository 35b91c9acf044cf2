#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "bindings/arrays.hpp"
#include "bindings/register.hpp"
#include "bindings/success_estimator.hpp"
#include "bindings/token_table.hpp"
#include "kernels/choice.hpp"
#include "kernels/matrix_factorization.hpp"
#include "text/text_embedder.hpp"

namespace fastroute::bindings {
namespace {

using text::TextModel;
using text::TextReader;
using Prompts = py::typing::List<py::str>;

// Below this many bytes a text is read with the GIL held, which takes up to 0.5 ms. A thread that
// gives the lock away beside a busy one has it back 5.4 ms later (measured, Python 3.11).
constexpr std::size_t kShort = 64 * 1024;
// Longer texts are read in steps of 20 to 60 ms, between which Ctrl-C is looked for.
constexpr std::size_t kBytesPerStep = 4 * 1024 * 1024;

void check_signals() {
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

// The text's UTF-8, which the string keeps; a lone surrogate is a UnicodeEncodeError.
std::string_view utf8(py::handle prompt) {
    if (PyUnicode_Check(prompt.ptr()) == 0) throw py::type_error("not a str");
    Py_ssize_t size = 0;
    const char* bytes = PyUnicode_AsUTF8AndSize(prompt.ptr(), &size);
    if (bytes == nullptr) throw py::error_already_set();
    return {bytes, static_cast<std::size_t>(size)};
}

// The caller's argument holds the text, and text never changes: the GIL may go.
void read_to_end(TextReader& reader, std::size_t size) {
    if (size <= kShort) {
        reader.advance(std::numeric_limits<std::size_t>::max());
        return;
    }
    for (bool ended = false; !ended;) {
        {
            const py::gil_scoped_release release;
            ended = reader.advance(kBytesPerStep);
        }
        check_signals();
    }
}

// The texts of a list. The tuple holds them: another thread may change the list meanwhile.
class Texts {
  public:
    explicit Texts(const Prompts& prompts) : owner_(prompts) {
        views_.reserve(owner_.size());
        for (const py::handle prompt : owner_) views_.push_back(utf8(prompt));
    }

    std::size_t size() const { return views_.size(); }
    std::string_view operator[](std::size_t i) const { return views_[i]; }

    // Calls many(texts, first, count) for runs of texts, without the GIL, and one(i) for each text
    // so long that it is read in steps; looks for Ctrl-C in between.
    template <typename Many, typename One>
    void for_each_run(Many&& many, One&& one) const {
        for (std::size_t first = 0; first < size();) {
            if (views_[first].size() > kBytesPerStep) {
                one(first++);
                continue;
            }
            std::size_t end = first;
            std::size_t bytes = 0;
            while (end < size() && bytes + views_[end].size() <= kBytesPerStep) {
                bytes += views_[end++].size();
            }
            if (bytes <= kShort) {
                many(views_.data() + first, first, end - first);
            } else {
                const py::gil_scoped_release release;
                many(views_.data() + first, first, end - first);
            }
            check_signals();
            first = end;
        }
    }

  private:
    py::tuple owner_;
    std::vector<std::string_view> views_;
};

constexpr const char* kNotFinite = "the sum of the pieces' rows is not finite";

class TextEmbedder {
  public:
    TextEmbedder(const py::array& table, const Array<float>& scales,
                 const Array<std::uint8_t>& pieces, const Array<std::uint32_t>& piece_offsets,
                 bool lowercase, std::int32_t unknown_row, const Array<double>& class_units,
                 const Array<std::int64_t>& signal_features, const Array<float>& signal_scales)
        : table_(table),
          scales_(scales),
          model_{trie(pieces, piece_offsets),
                 &text::Unicode::tables(lowercase),
                 lowercase,
                 unknown_row,
                 token_table(table, scales, 0.0F),
                 {},
                 {}} {
        require(size(piece_offsets) == model_.table.vocabulary + 1,
                "piece_offsets is not one longer than the table");
        require(unknown_row >= -1 && (unknown_row == -1 || static_cast<std::size_t>(unknown_row) <
                                                               model_.table.vocabulary),
                "unknown_row is no row of the table");
        const double* units = pointer(class_units, 1);
        require(size(class_units) == text::kClassCount, "class_units has another length");
        std::copy_n(units, text::kClassCount, model_.class_units.begin());
        const std::int64_t* features = pointer(signal_features, 2);
        const float* factors = pointer(signal_scales, 1);
        require(size(signal_features) == size(signal_scales) && size(signal_features, 1) == 2,
                "signal_features is not [signals, 2]");
        for (std::size_t i = 0; i < size(signal_scales); ++i) {
            for (std::size_t k = 0; k < 2; ++k) {
                require(features[2 * i + k] >= 0 &&
                            static_cast<std::size_t>(features[2 * i + k]) < text::kFeatureCount,
                        "there is no such feature");
            }
            model_.signals.push_back({static_cast<std::size_t>(features[2 * i]),
                                      static_cast<std::size_t>(features[2 * i + 1]), factors[i]});
        }
    }

    const TextModel& model() const { return model_; }

    py::array_t<float> embed(const py::str& prompt) const {
        py::array_t<float> out(static_cast<py::ssize_t>(model_.width()));
        require(embed_into(utf8(prompt), out.mutable_data()), kNotFinite);
        return out;
    }

    py::array_t<float> embed_batch(const Prompts& prompts, std::size_t num_threads) const {
        const Texts texts(prompts);
        const std::size_t width = model_.width();
        py::array_t<float> out({texts.size(), width});
        float* embeddings = out.mutable_data();
        bool finite = true;
        texts.for_each_run(
            [&](const std::string_view* views, std::size_t first, std::size_t count) {
                finite &= text::embed_texts(model_, views, count, num_threads,
                                            embeddings + first * width);
            },
            [&](std::size_t i) { finite &= embed_into(texts[i], embeddings + i * width); });
        require(finite, kNotFinite);
        return out;
    }

    bool embed_into(std::string_view prompt, float* embedding) const {
        TextReader reader(model_, prompt, embedding);
        read_to_end(reader, prompt.size());
        return reader.finish(embedding);
    }

    py::array_t<std::int32_t> piece_rows(const py::str& prompt) const {
        const std::string_view view = utf8(prompt);
        std::vector<std::int32_t> rows;
        TextReader reader(model_, view, nullptr, &rows);
        read_to_end(reader, view.size());
        return py::array_t<std::int32_t>(static_cast<py::ssize_t>(rows.size()), rows.data());
    }

    py::array_t<double> features(const py::str& prompt) const {
        const std::string_view view = utf8(prompt);
        TextReader reader(model_, view, nullptr);
        read_to_end(reader, view.size());
        const text::Features features = text::features_of(reader.counts(), model_.class_units);
        return py::array_t<double>(static_cast<py::ssize_t>(features.size()), features.data());
    }

    py::array_t<std::uint64_t> class_counts(const py::str& prompt) const {
        const std::string_view view = utf8(prompt);
        TextReader reader(model_, view, nullptr);
        read_to_end(reader, view.size());
        const auto& classes = reader.counts().classes;
        return py::array_t<std::uint64_t>(static_cast<py::ssize_t>(classes.size()), classes.data());
    }

  private:
    static text::PieceTrie trie(const Array<std::uint8_t>& pieces,
                                const Array<std::uint32_t>& offsets) {
        const std::uint8_t* bytes = pointer(pieces, 1);
        const std::uint32_t* bounds = pointer(offsets, 1);
        require(size(offsets) >= 1 && bounds[0] == 0 && bounds[size(offsets) - 1] == size(pieces),
                "piece_offsets does not rise from 0 to len(pieces)");
        return {bytes, bounds, size(offsets) - 1};
    }

    py::array table_;
    Array<float> scales_;
    TextModel model_;
};

class TextScorer {
  public:
    TextScorer(std::shared_ptr<TextEmbedder> embedder, const Array<float>& pair)
        : embedder_(std::move(embedder)) {
        const float* weights = pointer(pair, 1);
        require(size(pair) == embedder_->model().width(), "the embedding has another dimension");
        pair_.assign(weights, weights + size(pair));
    }

    double win_rate(const py::str& prompt) const {
        const std::string_view view = utf8(prompt);
        double rate = 0.0;
        if (view.size() <= kShort) {
            text::text_win_rates(embedder_->model(), pair_.data(), &view, 1, 1, &rate);
            return rate;
        }
        read_long(view, &rate);
        return rate;
    }

    py::array_t<double> win_rates(const Prompts& prompts, std::size_t num_threads) const {
        const Texts texts(prompts);
        py::array_t<double> out(static_cast<py::ssize_t>(texts.size()));
        double* rates = out.mutable_data();
        texts.for_each_run(
            [&](const std::string_view* views, std::size_t first, std::size_t count) {
                text::text_win_rates(embedder_->model(), pair_.data(), views, count, num_threads,
                                     rates + first);
            },
            [&](std::size_t i) { read_long(texts[i], rates + i); });
        return out;
    }

  private:
    void read_long(std::string_view prompt, double* rate) const {
        const std::size_t width = embedder_->model().width();
        std::vector<float> embedding(width);
        *rate = std::numeric_limits<double>::quiet_NaN();
        if (embedder_->embed_into(prompt, embedding.data())) {
            pair_win_rates(pair_.data(), {embedding.data(), 1, width, width}, 1, rate);
        }
    }

    std::shared_ptr<TextEmbedder> embedder_;
    std::vector<float> pair_;
};

class TextEstimator {
  public:
    TextEstimator(std::shared_ptr<TextEmbedder> embedder,
                  std::shared_ptr<SuccessEstimator> estimator)
        : embedder_(std::move(embedder)), estimator_(std::move(estimator)) {
        require(estimator_->model().stacked.columns == embedder_->model().width(),
                "the embedding has another dimension");
    }

    SuccessNumbers estimate(const py::str& prompt) const {
        return success_numbers(estimator_->model(),
                               [&](double* probability, double* low, double* high) {
                                   return estimate_text(prompt, probability, low, high);
                               });
    }

    // The chosen model, its P(success) and dollars, and whether the estimate abstained.
    std::tuple<std::ptrdiff_t, double, double, bool> choose(
        const py::str& prompt, const TokenPriceArrays& prices, double input_tokens,
        double most_answer_tokens, double price, double most, double reserved, double share) const {
        const std::size_t m = estimator_->model().models;
        require(prices.view().count == m && m > 0, "the prices are of other models");
        std::vector<double> numbers(2 * m);
        double* quality = numbers.data();
        double* dollars = quality + m;
        const SuccessStatus status = estimate_text(prompt, quality, nullptr, nullptr);
        require(status != SuccessStatus::not_finite, "the estimate is not finite");
        const bool abstained = status == SuccessStatus::abstained;
        expected_dollars(prices.view(), input_tokens, most_answer_tokens, dollars);
        const std::ptrdiff_t chosen =
            fastroute::choose(quality, dollars, m, {price, most, reserved, share}, abstained);
        return {chosen, quality[chosen], dollars[chosen], abstained};
    }

  private:
    SuccessStatus estimate_text(const py::str& prompt, double* probability, double* low,
                                double* high) const {
        std::vector<float> embedding(embedder_->model().width());
        if (!embedder_->embed_into(utf8(prompt), embedding.data())) {
            return SuccessStatus::not_finite;
        }
        return estimate_success(estimator_->model(), embedding.data(), probability, low, high);
    }

    std::shared_ptr<TextEmbedder> embedder_;
    std::shared_ptr<SuccessEstimator> estimator_;
};

py::str normalize(const py::str& prompt, bool lowercase) {
    text::Normalizer normalizer(text::Unicode::tables(lowercase), lowercase, utf8(prompt));
    std::string out;
    do {
        normalizer.fill();
        out.append(reinterpret_cast<const char*>(normalizer.data()), normalizer.size());
        normalizer.consume(normalizer.size());
    } while (!normalizer.ended());
    return py::str(out);
}

}  // namespace

void register_text(py::module_& module) {
    module.def("text_features", &text::feature_names, "Names of the features of a text.");
    module.def(
        "code_point_classes",
        [] { return std::vector<std::string>(text::kClassNames.begin(), text::kClassNames.end()); },
        "Names of the classes of code points.");
    module.attr("unicode_version") = text::Unicode::version();
    module.def("normalize_text", &normalize, py::arg("prompt"), py::arg("lowercase"),
               "The text as a vocabulary's pieces are looked for in it.");
    py::class_<TextEmbedder, std::shared_ptr<TextEmbedder>>(
        module, "TextEmbedder", "A vocabulary and its table, from text to vectors.")
        .def(py::init<const py::array&, const Array<float>&, const Array<std::uint8_t>&,
                      const Array<std::uint32_t>&, bool, std::int32_t, const Array<double>&,
                      const Array<std::int64_t>&, const Array<float>&>(),
             py::arg("table").noconvert(), py::arg("scales").noconvert(),
             py::arg("pieces").noconvert(), py::arg("piece_offsets").noconvert(),
             py::arg("lowercase"), py::arg("unknown_row"), py::arg("class_units").noconvert(),
             py::arg("signal_features").noconvert(), py::arg("signal_scales").noconvert())
        .def("embed", &TextEmbedder::embed, py::arg("prompt"), "float32[width].")
        .def("embed_batch", &TextEmbedder::embed_batch, py::arg("prompts"), py::arg("num_threads"),
             "float32[prompts, width].")
        .def("piece_rows", &TextEmbedder::piece_rows, py::arg("prompt"),
             "Rows of the pieces, in order: int32[pieces].")
        .def("features", &TextEmbedder::features, py::arg("prompt"),
             "Values of text_features(): float64[features].")
        .def("class_counts", &TextEmbedder::class_counts, py::arg("prompt"),
             "Code points of each of code_point_classes(): uint64[classes].");
    py::class_<TextScorer>(module, "TextScorer", "Win rates of texts for one pair of models.")
        .def(py::init<std::shared_ptr<TextEmbedder>, const Array<float>&>(), py::arg("embedder"),
             py::arg("pair").noconvert())
        .def("win_rate", &TextScorer::win_rate, py::arg("prompt"),
             "NaN where the embedding is not finite or exactly orthogonal.")
        .def("win_rates", &TextScorer::win_rates, py::arg("prompts"), py::arg("num_threads"),
             "float64[prompts]; NaN as in win_rate.");
    py::class_<TextEstimator>(module, "TextEstimator", "P(success) of many models on texts.")
        .def(py::init<std::shared_ptr<TextEmbedder>, std::shared_ptr<SuccessEstimator>>(),
             py::arg("embedder"), py::arg("estimator"))
        .def("estimate", &TextEstimator::estimate, py::arg("prompt"),
             "As SuccessEstimator.estimate.")
        .def("choose", &TextEstimator::choose, py::arg("prompt"), py::arg("prices"),
             py::arg("input_tokens"), py::arg("most_answer_tokens"), py::arg("price"),
             py::arg("most_dollars"), py::arg("reserved"), py::arg("share"),
             "Chosen model, its P(success) and dollars, and whether the estimate abstained.");
}

}  // namespace fastroute::bindings
