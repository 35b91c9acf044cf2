#include "text/piece_trie.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace fastroute::text {

// Pieces [begin, end) of the sorted list agree in their first `depth` bytes.
struct PieceTrie::Range {
    std::uint32_t begin;
    std::uint32_t end;
    std::uint32_t depth;
    std::uint32_t unit;  // of the node that they go through; the root has none
};

class PieceTrie::Builder {
  public:
    Builder(const std::uint8_t* pieces, const std::uint32_t* offsets, std::size_t count)
        : pieces_(pieces), offsets_(offsets) {
        order_.reserve(count);
        for (std::uint32_t i = 0; i < count; ++i) {
            if (length(i) > 0) order_.push_back(i);
        }
        const auto before = [this](std::uint32_t a, std::uint32_t b) { return compare(a, b) < 0; };
        const auto not_before = [&](std::uint32_t a, std::uint32_t b) { return !before(a, b); };
        const auto unsorted = [&] {
            return std::adjacent_find(order_.begin(), order_.end(), not_before) != order_.end();
        };
        if (!unsorted()) return;
        std::sort(order_.begin(), order_.end(), before);
        if (unsorted()) throw std::invalid_argument("a piece stands twice");
    }

    std::size_t length(std::uint32_t piece) const { return offsets_[piece + 1] - offsets_[piece]; }

    void build(std::vector<Unit>& units, std::uint32_t& root) {
        grow(units);  // the first block stays empty
        free_from_ = 256;
        std::vector<Range> open;
        if (!order_.empty()) {
            open.push_back({0, static_cast<std::uint32_t>(order_.size()), 0, 0});
        }
        std::uint8_t labels[256];
        std::uint32_t begins[257];
        while (!open.empty()) {
            const Range range = open.back();
            open.pop_back();
            std::size_t children = 0;
            std::uint32_t at = range.begin;
            // A piece that ends here comes first, and was noted in the unit by its parent.
            if (length(order_[at]) == range.depth) ++at;
            while (at < range.end) {
                labels[children] = byte(at, range.depth);
                begins[children] = at;
                at = end_of_label(at, range.end, range.depth);
                ++children;
            }
            begins[children] = range.end;
            if (children == 0) continue;
            const std::uint32_t offset = place(units, labels, children);
            if (range.depth == 0) {
                root = offset;
            } else {
                units[range.unit].offset = offset;
            }
            for (std::size_t c = 0; c < children; ++c) {
                const std::uint32_t unit = offset ^ labels[c];
                const std::uint32_t first = order_[begins[c]];
                const bool ends = length(first) == range.depth + 1;
                units[unit] = {0, (ends ? first + 1 : 0) << 9 | 0x100U | labels[c]};
                if (!ends || begins[c] + 1 < begins[c + 1]) {
                    open.push_back({begins[c], begins[c + 1], range.depth + 1, unit});
                }
            }
        }
    }

  private:
    std::uint8_t byte(std::uint32_t at, std::uint32_t depth) const {
        return pieces_[offsets_[order_[at]] + depth];
    }

    // The first of [at, end) whose byte is another than that of `at`, in steps that double.
    std::uint32_t end_of_label(std::uint32_t at, std::uint32_t end, std::uint32_t depth) const {
        const std::uint8_t label = byte(at, depth);
        if (byte(end - 1, depth) == label) return end;
        std::uint32_t step = 1;
        while (at + step < end && byte(at + step, depth) == label) {
            at += step;
            step *= 2;
        }
        for (; step > 0; step /= 2) {
            if (at + step < end && byte(at + step, depth) == label) at += step;
        }
        return at + 1;
    }

    int compare(std::uint32_t a, std::uint32_t b) const {
        const std::size_t shorter = std::min(length(a), length(b));
        const int order = std::memcmp(pieces_ + offsets_[a], pieces_ + offsets_[b], shorter);
        if (order != 0) return order;
        return length(a) < length(b) ? -1 : length(a) > length(b) ? 1 : 0;
    }

    void grow(std::vector<Unit>& units) {
        units.resize(units.size() + 256, Unit{0, 0});
        used_.resize(used_.size() + 4);
        offset_taken_.resize(offset_taken_.size() + 4);
        fullness_.push_back(0);
    }

    bool is_used(std::uint32_t unit) const { return used_[unit >> 6] >> (unit & 63) & 1; }

    // An offset that no node has, at which all the labels' units are free; they are taken.
    std::uint32_t place(std::vector<Unit>& units, const std::uint8_t* labels, std::size_t count) {
        for (std::uint32_t block = free_from_ >> 8;; ++block) {
            while (block >= fullness_.size()) grow(units);
            if (fullness_[block] + count > 256) continue;
            // Candidates put the first label on a free unit.
            for (std::uint32_t word = 4 * block; word < 4 * block + 4; ++word) {
                for (std::uint64_t free = ~used_[word]; free != 0; free &= free - 1) {
                    const auto unit =
                        64 * word + static_cast<std::uint32_t>(std::countr_zero(free));
                    const std::uint32_t offset = unit ^ labels[0];
                    if (offset_taken_[offset >> 6] >> (offset & 63) & 1) continue;
                    bool fits = true;
                    for (std::size_t c = 1; c < count && fits; ++c) {
                        fits = !is_used(offset ^ labels[c]);
                    }
                    if (!fits) continue;
                    offset_taken_[offset >> 6] |= std::uint64_t{1} << (offset & 63);
                    for (std::size_t c = 0; c < count; ++c) {
                        const std::uint32_t taken = offset ^ labels[c];
                        used_[taken >> 6] |= std::uint64_t{1} << (taken & 63);
                    }
                    fullness_[block] += static_cast<std::uint32_t>(count);
                    // What is left of older blocks is not worth the search.
                    constexpr std::uint32_t kBlocksSearched = 4;
                    if (block > (free_from_ >> 8) + kBlocksSearched) {
                        free_from_ = (block - kBlocksSearched) << 8;
                    }
                    while (fullness_[free_from_ >> 8] >= 255) {
                        free_from_ += 256;
                        while ((free_from_ >> 8) >= fullness_.size()) grow(units);
                    }
                    return offset;
                }
            }
        }
    }

    const std::uint8_t* pieces_;
    const std::uint32_t* offsets_;
    std::vector<std::uint32_t> order_;
    std::vector<std::uint64_t> used_;          // a bit a unit
    std::vector<std::uint64_t> offset_taken_;  // a bit an offset
    std::vector<std::uint32_t> fullness_;      // units used in each block of 256
    std::uint32_t free_from_ = 0;
};

PieceTrie::PieceTrie(const std::uint8_t* pieces, const std::uint32_t* offsets, std::size_t count) {
    if (count > kMostPieces) throw std::invalid_argument("too many pieces");
    for (std::size_t i = 0; i < count; ++i) {
        if (offsets[i] > offsets[i + 1]) throw std::invalid_argument("the offsets fall");
        const std::size_t bytes = offsets[i + 1] - offsets[i];
        if (bytes > kMostBytes) throw std::invalid_argument("a piece is longer than 255 bytes");
        most_bytes_ = std::max(most_bytes_, bytes);
    }
    Builder(pieces, offsets, count).build(units_, root_);
}

}  // namespace fastroute::text
