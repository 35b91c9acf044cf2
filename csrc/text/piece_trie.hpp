// A vocabulary's pieces as a double-array trie (Aoe 1989), for the longest one that a text begins
// with.
//
// A node's children stand at offset ^ byte. One step reads one unit of eight bytes, and checks its
// label only: children of two nodes never share a unit, as each node has an offset of its own.
// Units 0 to 255 stay empty, for nodes without children.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fastroute::text {

struct Match {
    std::int32_t row;    // -1: no piece
    std::size_t length;  // bytes
};

class PieceTrie {
  public:
    static constexpr std::size_t kMostPieces = (1U << 23) - 1;
    static constexpr std::size_t kMostBytes = 255;  // of one piece

    // Piece i is pieces[offsets[i]] to pieces[offsets[i + 1] - 1]; the offsets must rise. An empty
    // piece is one that no text reaches. Throws std::invalid_argument for a piece that stands
    // twice, is too long, or for too many of them.
    PieceTrie(const std::uint8_t* pieces, const std::uint32_t* offsets, std::size_t count);

    // The longest piece at the start of `text`.
    Match longest(const std::uint8_t* text, std::size_t size) const noexcept {
        Match match{-1, 0};
        std::uint32_t offset = root_;
        for (std::size_t i = 0; i < size; ++i) {
            const Unit unit = units_[offset ^ text[i]];
            if ((unit.tag & 0x1FF) != (0x100U | text[i])) break;
            if (unit.tag >> 9 != 0) match = {static_cast<std::int32_t>(unit.tag >> 9) - 1, i + 1};
            offset = unit.offset;
        }
        return match;
    }

    // Bytes of the longest piece, at least 4, which is a code point's most.
    std::size_t most_bytes() const noexcept { return most_bytes_; }
    std::size_t memory_bytes() const noexcept { return units_.size() * sizeof(Unit); }

  private:
    struct Unit {
        std::uint32_t offset;
        std::uint32_t tag;  // row + 1 (23 bits; 0: no piece ends here), in use (1), label (8)
    };
    struct Range;
    class Builder;

    std::vector<Unit> units_;
    std::uint32_t root_ = 0;
    std::size_t most_bytes_ = 4;
};

}  // namespace fastroute::text
