#include <pybind11/pybind11.h>
#include <pybind11/typing.h>

#include <string_view>
#include <vector>

#include "bindings/register.hpp"
#include "kernels/json_members.hpp"

namespace fastroute::bindings {
namespace {

namespace py = pybind11;

// Giving the lock away costs about as much as walking over this many bytes.
constexpr std::size_t kShort = 16 * 1024;

const char* name_of(JsonFault fault) {
    switch (fault) {
        case JsonFault::none:
            return "";
        case JsonFault::no_object:
            return "no_object";
        case JsonFault::expected_name:
            return "Expecting property name in double quotes";
        case JsonFault::expected_colon:
            return "Expecting ':' delimiter";
        case JsonFault::expected_comma:
            return "Expecting ',' delimiter";
        case JsonFault::expected_value:
            return "Expecting value";
        case JsonFault::unterminated_string:
            return "Unterminated string starting at";
        case JsonFault::control_character:
            return "Invalid control character at";
        case JsonFault::bad_escape:
            return "Invalid escape";
        case JsonFault::not_utf8:
            return "not_utf8";
        case JsonFault::too_deep:
            return "too_deep";
        case JsonFault::too_many:
            return "too_many";
        case JsonFault::extra_data:
            return "Extra data";
    }
    return "";
}

using Span = py::typing::Tuple<py::int_, py::int_, py::int_, py::int_>;
using Finding = py::typing::Tuple<py::str, py::int_, py::typing::List<Span>>;

// (fault, where, [(key_begin, key_end, value_begin, value_end), ...])
Finding json_members(const py::bytes& text, bool array) {
    const auto view = static_cast<std::string_view>(text);
    std::vector<JsonMember> members;
    JsonFinding finding{};
    if (view.size() <= kShort) {
        finding = find_json_members(view.data(), view.size(), array, members);
    } else {
        // The caller's argument holds the bytes, and bytes never change.
        const py::gil_scoped_release release;
        finding = find_json_members(view.data(), view.size(), array, members);
    }
    py::typing::List<Span> found;
    if (finding.fault == JsonFault::none) {
        for (const JsonMember& m : members) {
            found.append(py::make_tuple(m.key_begin, m.key_end, m.value_begin, m.value_end));
        }
    }
    return py::make_tuple(name_of(finding.fault), finding.at, found);
}

}  // namespace

void register_json_members(py::module_& module) {
    module.def("json_members", &json_members, py::arg("text"), py::arg("array"),
               "Where the members of a JSON object stand: (fault, at, spans).");
}

}  // namespace fastroute::bindings
