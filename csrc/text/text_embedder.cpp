#include "text/text_embedder.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <memory>

#include "kernels/matrix_factorization.hpp"
#include "kernels/parallel.hpp"

namespace fastroute::text {
namespace {

constexpr std::size_t kTextsPerTask = 64;

template <typename Function>
void for_each_block(std::size_t text_count, std::size_t thread_count, Function&& function) {
    const std::size_t tasks = (text_count + kTextsPerTask - 1) / kTextsPerTask;
    parallel_for(tasks, thread_count, [&](std::size_t task) noexcept {
        const std::size_t begin = task * kTextsPerTask;
        function(begin, std::min(text_count, begin + kTextsPerTask));
    });
}

}  // namespace

TextReader::TextReader(const TextModel& model, std::string_view text, float* sum,
                       std::vector<std::int32_t>* pieces) noexcept
    : model_(model),
      normalizer_(*model.unicode, model.lowercase, text),
      sum_(sum),
      pieces_(pieces) {
    if (sum_ != nullptr) std::fill_n(sum_, model_.table.dimensions, 0.0F);
}

bool TextReader::advance(std::size_t bytes) noexcept {
    const std::size_t from = normalizer_.position();
    do {
        normalizer_.fill();
        match();
        if (normalizer_.ended()) {
            add_rows();
            return true;
        }
    } while (normalizer_.position() - from < bytes);
    return false;
}

void TextReader::match() noexcept {
    const bool ended = normalizer_.ended();
    const std::size_t needed = ended ? 1 : model_.trie.most_bytes();
    const std::uint8_t* const data = normalizer_.data();
    const std::size_t size = normalizer_.size();
    TextCounts& counts = normalizer_.counts();
    std::size_t at = 0;
    while (size - at >= needed) {
        const Match match = model_.trie.longest(data + at, size - at);
        if (match.length != 0) {
            ++counts.pieces;
            push(match.row);
            at += match.length;
            continue;
        }
        // A space that stands for itself is no character of the text.
        if (data[at] != ' ') {
            ++counts.unknown;
            if (model_.unknown_row >= 0) push(model_.unknown_row);
        }
        do {
            ++at;
        } while (at < size && (data[at] & 0xC0) == 0x80);
    }
    normalizer_.consume(at);
}

void TextReader::push(std::int32_t row) noexcept {
    if (waiting_ == kPiecesAtOnce) add_rows();
    rows_[waiting_++] = row;
    if (sum_ != nullptr) prefetch_row(model_.table, row);
}

void TextReader::add_rows() noexcept {
    if (sum_ != nullptr) add_token_rows(model_.table, rows_, waiting_, sum_);
    if (pieces_ != nullptr) pieces_->insert(pieces_->end(), rows_, rows_ + waiting_);
    waiting_ = 0;
}

bool TextReader::finish(float* embedding) noexcept {
    const std::size_t dimensions = model_.table.dimensions;
    float* const signals = embedding + dimensions;
    if (embedding != sum_) std::copy_n(sum_, dimensions, embedding);
    const Scaling scaling = scale_to_unit(embedding, dimensions);
    if (scaling != Scaling::unit || model_.signals.empty()) {
        std::fill_n(signals, model_.signals.size(), 0.0F);
        return scaling != Scaling::not_finite;
    }
    const Features features = features_of(counts(), model_.class_units);
    for (std::size_t i = 0; i < model_.signals.size(); ++i) {
        const Signal& signal = model_.signals[i];
        signals[i] =
            signal.scale * static_cast<float>(features[signal.first] * features[signal.second]);
    }
    return true;
}

bool embed_text(const TextModel& model, std::string_view text, float* embedding) noexcept {
    TextReader reader(model, text, embedding);
    reader.advance(std::numeric_limits<std::size_t>::max());
    return reader.finish(embedding);
}

bool embed_texts(const TextModel& model, const std::string_view* texts, std::size_t text_count,
                 std::size_t thread_count, float* embeddings) {
    std::atomic<bool> valid{true};
    for_each_block(text_count, thread_count, [&](std::size_t begin, std::size_t end) noexcept {
        for (std::size_t i = begin; i < end; ++i) {
            if (!embed_text(model, texts[i], embeddings + i * model.width())) {
                valid.store(false, std::memory_order_relaxed);
            }
        }
    });
    return valid.load();
}

void text_win_rates(const TextModel& model, const float* pair, const std::string_view* texts,
                    std::size_t text_count, std::size_t thread_count, double* win_rates) {
    const std::size_t width = model.width();
    const std::size_t tasks = (text_count + kTextsPerTask - 1) / kTextsPerTask;
    const auto scratch = std::make_unique<float[]>(tasks * width);
    for_each_block(text_count, thread_count, [&](std::size_t begin, std::size_t end) noexcept {
        float* const embedding = scratch.get() + begin / kTextsPerTask * width;
        for (std::size_t i = begin; i < end; ++i) {
            if (embed_text(model, texts[i], embedding)) {
                pair_win_rates(pair, {embedding, 1, width, width}, 1, win_rates + i);
            } else {
                win_rates[i] = std::numeric_limits<double>::quiet_NaN();
            }
        }
    });
}

}  // namespace fastroute::text
