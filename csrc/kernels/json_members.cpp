#include "kernels/json_members.hpp"

#include <bitset>
#include <cstdint>
#include <cstring>

namespace fastroute {
namespace {

class Walk {
  public:
    Walk(const char* text, std::size_t size) : text_(text), size_(size) {}

    JsonFinding members(bool array, std::vector<JsonMember>& found) {
        found.clear();
        skip_space();
        const char open = array ? '[' : '{';
        const char close = array ? ']' : '}';
        if (peek() != open) {
            return {JsonFault::no_object, at_};
        }
        ++at_;
        skip_space();
        if (peek() == close && at_ < size_) {
            ++at_;
            return end();
        }
        while (true) {
            if (found.size() == kMostJsonMembers) {
                return {JsonFault::too_many, at_};
            }
            JsonMember member{at_, at_, at_, at_};
            if (!array && !key(member)) {
                return {fault_, at_};
            }
            member.value_begin = at_;
            if (!value()) {
                return {fault_, at_};
            }
            member.value_end = at_;
            found.push_back(member);
            skip_space();
            if (at_ < size_ && text_[at_] == close) {
                ++at_;
                return end();
            }
            if (peek() != ',') {
                return {JsonFault::expected_comma, at_};
            }
            ++at_;
            skip_space();
        }
    }

  private:
    // The character here; NUL, which is no part of JSON's grammar, at the end.
    char peek() const noexcept { return at_ < size_ ? text_[at_] : '\0'; }

    bool fail(JsonFault fault) noexcept {
        fault_ = fault;
        return false;
    }

    JsonFinding end() noexcept {
        skip_space();
        return {at_ == size_ ? JsonFault::none : JsonFault::extra_data, at_};
    }

    void skip_space() noexcept {
        while (at_ < size_ && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' ||
                               text_[at_] == '\t')) {
            ++at_;
        }
    }

    // A key and its colon, up to the value.
    bool key(JsonMember& member) noexcept {
        if (peek() != '"') {
            return fail(JsonFault::expected_name);
        }
        member.key_begin = at_;
        if (!string()) {
            return false;
        }
        member.key_end = at_;
        skip_space();
        if (peek() != ':') {
            return fail(JsonFault::expected_colon);
        }
        ++at_;
        skip_space();
        return true;
    }

    // One value with all that is inside it. `objects_` tells for each open level what it is.
    bool value() noexcept {
        std::size_t depth = 0;
        while (true) {
            // Here a value must begin.
            const char first = peek();
            if (first == '{' || first == '[') {
                if (depth == kMostJsonDepth) {
                    return fail(JsonFault::too_deep);
                }
                const bool object = first == '{';
                objects_[depth] = object;
                ++at_;
                skip_space();
                if (peek() != (object ? '}' : ']')) {
                    ++depth;
                    JsonMember ignored{};
                    if (object && !key(ignored)) {
                        return false;
                    }
                    continue;
                }
                ++at_;
            } else if (first == '"') {
                if (!string()) {
                    return false;
                }
            } else if (!scalar()) {
                return false;
            }
            // Here a value has ended: close what ends with it, and go on to the next.
            while (true) {
                if (depth == 0) {
                    return true;
                }
                skip_space();
                const bool object = objects_[depth - 1];
                if (at_ < size_ && text_[at_] == (object ? '}' : ']')) {
                    ++at_;
                    --depth;
                    continue;
                }
                if (peek() != ',') {
                    return fail(JsonFault::expected_comma);
                }
                ++at_;
                skip_space();
                JsonMember ignored{};
                if (object && !key(ignored)) {
                    return false;
                }
                break;
            }
        }
    }

    bool scalar() noexcept {
        for (const char* word : {"true", "false", "null", "NaN", "Infinity", "-Infinity"}) {
            const std::size_t length = std::strlen(word);
            if (size_ - at_ >= length && std::memcmp(text_ + at_, word, length) == 0) {
                at_ += length;
                return true;
            }
        }
        const std::size_t begin = at_;
        if (peek() == '-') {
            ++at_;
        }
        if (peek() == '0') {
            ++at_;
        } else if (!digits()) {
            at_ = begin;
            return fail(JsonFault::expected_value);
        }
        // A dot or an e without digits is no part of the number, and so an error after it.
        const std::size_t whole = at_;
        if (peek() == '.') {
            ++at_;
            if (!digits()) {
                at_ = whole;
                return true;
            }
        }
        const std::size_t mantissa = at_;
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (peek() == '+' || peek() == '-') {
                ++at_;
            }
            if (!digits()) {
                at_ = mantissa;
            }
        }
        return true;
    }

    bool digits() noexcept {
        const std::size_t begin = at_;
        while (at_ < size_ && text_[at_] >= '0' && text_[at_] <= '9') {
            ++at_;
        }
        return at_ > begin;
    }

    bool string() noexcept {
        const std::size_t begin = at_++;
        while (true) {
            skip_plain();
            if (at_ >= size_) {
                at_ = begin;
                return fail(JsonFault::unterminated_string);
            }
            const auto byte = static_cast<unsigned char>(text_[at_]);
            if (byte == '"') {
                ++at_;
                return true;
            }
            if (byte == '\\') {
                if (!escape()) {
                    return false;
                }
            } else if (byte < 0x20) {
                return fail(JsonFault::control_character);
            } else if (byte < 0x80) {
                ++at_;
            } else if (!multibyte(byte)) {
                return fail(JsonFault::not_utf8);
            }
        }
    }

    // Eight bytes at a time while none of them ends, escapes or is outside printable ASCII.
    void skip_plain() noexcept {
        constexpr std::uint64_t ones = 0x0101010101010101U;
        constexpr std::uint64_t tops = 0x8080808080808080U;
        while (size_ - at_ >= 8) {
            std::uint64_t word;
            std::memcpy(&word, text_ + at_, 8);
            const std::uint64_t quote = word ^ (ones * '"');
            const std::uint64_t slash = word ^ (ones * '\\');
            const std::uint64_t special = ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
                                          ((word - ones * 0x20) & ~word) | word;
            if ((special & tops) != 0) {
                return;
            }
            at_ += 8;
        }
    }

    bool escape() noexcept {
        const std::size_t begin = at_;
        ++at_;
        const char kind = peek();
        if (kind != '\0' && std::strchr("\"\\/bfnrt", kind) != nullptr) {
            ++at_;
            return true;
        }
        if (kind != 'u' || size_ - at_ < 5) {
            at_ = begin;
            return fail(JsonFault::bad_escape);
        }
        for (int i = 1; i <= 4; ++i) {
            const char digit = text_[at_ + i];
            const bool hexadecimal = (digit >= '0' && digit <= '9') ||
                                     (digit >= 'a' && digit <= 'f') ||
                                     (digit >= 'A' && digit <= 'F');
            if (!hexadecimal) {
                at_ = begin;
                return fail(JsonFault::bad_escape);
            }
        }
        at_ += 5;
        return true;
    }

    // One character of two to four bytes, by the table of RFC 3629.
    bool multibyte(unsigned char lead) noexcept {
        std::size_t more = 0;
        unsigned char least = 0x80;
        unsigned char most = 0xBF;
        if (lead >= 0xC2 && lead <= 0xDF) {
            more = 1;
        } else if (lead >= 0xE0 && lead <= 0xEF) {
            more = 2;
            least = lead == 0xE0 ? 0xA0 : 0x80;
            most = lead == 0xED ? 0x9F : 0xBF;
        } else if (lead >= 0xF0 && lead <= 0xF4) {
            more = 3;
            least = lead == 0xF0 ? 0x90 : 0x80;
            most = lead == 0xF4 ? 0x8F : 0xBF;
        } else {
            return false;
        }
        if (size_ - at_ <= more) {
            return false;
        }
        for (std::size_t i = 1; i <= more; ++i) {
            const auto byte = static_cast<unsigned char>(text_[at_ + i]);
            if (byte < least || byte > most) {
                return false;
            }
            least = 0x80;
            most = 0xBF;
        }
        at_ += more + 1;
        return true;
    }

    const char* text_;
    std::size_t size_;
    std::size_t at_ = 0;
    JsonFault fault_ = JsonFault::none;
    std::bitset<kMostJsonDepth> objects_;
};

}  // namespace

JsonFinding find_json_members(const char* text, std::size_t size, bool array,
                              std::vector<JsonMember>& members) {
    return Walk(text, size).members(array, members);
}

}  // namespace fastroute
