// Where the members of a JSON object stand in its text, without making anything of them.
//
// A gateway reads three or four members of a request and hands on the rest, which may be megabytes
// of images: making objects of all of it takes a second and thirty times its size. This walks over
// the text once (RFC 8259), checks all of it, and notes for the outermost object where each key and
// each value begins and ends. Nothing is copied or unescaped.
//
// It takes what Python's json takes, and refuses what that refuses: NaN, Infinity and -Infinity are
// values, keys may stand twice, escapes of lone surrogates are escapes, control characters in a
// string are none. Text must be UTF-8 (RFC 3629: no surrogates, no overlong forms).
#pragma once

#include <cstddef>
#include <vector>

namespace fastroute {

enum class JsonFault {
    none,
    no_object,
    expected_name,
    expected_colon,
    expected_comma,
    expected_value,
    unterminated_string,
    control_character,
    bad_escape,
    not_utf8,
    too_deep,
    too_many,
    extra_data,
};

// Offsets of bytes; a key with its quotes.
struct JsonMember {
    std::size_t key_begin;
    std::size_t key_end;
    std::size_t value_begin;
    std::size_t value_end;
};

struct JsonFinding {
    JsonFault fault;
    std::size_t at;  // where the text stops being JSON
};

// Deeper than this Python's own reader gives up.
constexpr std::size_t kMostJsonDepth = 1000;

// No request has nearly as many members or messages, and each costs its reader hundreds of bytes: a
// body of thirty megabytes could be fifteen million of them, and gigabytes.
constexpr std::size_t kMostJsonMembers = 100'000;

// The members of the object that `text` is. For a text that is an array, if `array`: its elements,
// with keys of no length. `members` is cleared first; what is in it means nothing after a fault.
JsonFinding find_json_members(const char* text, std::size_t size, bool array,
                              std::vector<JsonMember>& members);

}  // namespace fastroute
