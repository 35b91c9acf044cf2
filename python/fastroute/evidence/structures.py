"""JSON values, literals and tool calls in answers, compared deeply."""

from __future__ import annotations

import ast
import json
import math
import re
import threading
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from fastroute.evidence.answer import ToolCall

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n?(.*?)```", re.DOTALL)
#: Longer values are not compared: they would hold up other requests.
MOST_CHARACTERS = 100_000
_PARSING = threading.Lock()
_MISSING = object()


def fences(text: str) -> list[str]:
    """The contents of fenced code blocks."""
    return [match.strip("\n") for match in _FENCE.findall(text)]


def find_json(text: str) -> object:
    """The JSON value of an answer: all of it, its last fence, or its outermost braces.

    Line ends inside strings, which models write, are accepted. Returns None where there is none.
    """
    if len(text) > MOST_CHARACTERS:
        return None
    start = min((i for i in (text.find("{"), text.find("[")) if i >= 0), default=-1)
    end = max(text.rfind("}"), text.rfind("]"))
    outermost = [text[start : end + 1]] if 0 <= start < end else []
    for candidate in [text.strip(), *reversed(fences(text)), *outermost]:
        try:
            return json.loads(candidate, strict=False)
        except (ValueError, RecursionError):
            continue
    return None


def read_literal(text: str) -> object:
    """The list, dict, string or other value that ``text`` writes in Python or JSON, else None."""
    text = text.strip().strip("`").strip()
    if not 0 < len(text) <= 10_000:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(parse_python(text, "eval"))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def parse_python(code: str, mode: Literal["exec", "eval"] = "exec") -> Any:
    """The syntax tree of ``code``, without the warnings that Python has for odd code.

    Raises SyntaxError, ValueError, RecursionError or MemoryError for text that is not Python.
    """
    with _PARSING, warnings.catch_warnings():  # filters are the process's: one thread at a time
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code, mode=mode)
        except SystemError as error:  # Python 3.11 counts the depth of what other threads parse
            raise RecursionError(str(error)) from error


def at_pointer(value: object, pointer: str) -> object:
    """The value at a JSON pointer (RFC 6901); None where there is none."""
    for part in pointer.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = value[int(part)] if part.isdecimal() and int(part) < len(value) else None
        else:
            return None
    return value


def same_value(a: object, b: object) -> bool:
    """Deep equality: the order of keys doesn't count, 1 equals 1.0 but not true, and the spaces at
    the ends of strings don't count. Values that are nested too deeply are never equal."""
    try:
        return _same_value(a, b)
    except RecursionError:
        return False


def _same_value(a: object, b: object) -> bool:
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        if isinstance(a, int) or isinstance(b, int):
            return a == b
        return math.isfinite(a) and math.isclose(a, b, rel_tol=1e-9)
    if isinstance(a, str) and isinstance(b, str):
        return a.strip() == b.strip()
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_same_value(a[key], b[key]) for key in a)
    if isinstance(a, (set, frozenset)) and isinstance(b, (set, frozenset)):
        return a == b
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_same_value, a, b))
    return type(a) is type(b) and a == b


def same_calls(a: Sequence[ToolCall], b: Sequence[ToolCall]) -> bool:
    """Whether two answers call the same functions with equal arguments, in any order."""
    left = list(b)
    for call in a:
        match = next((other for other in left if _same_call(call, other)), None)
        if match is None:
            return False
        left.remove(match)
    return not left


def valid_arguments(calls: Iterable[ToolCall]) -> bool:
    """Whether the arguments of every call are a JSON object."""
    return all(isinstance(_arguments(call), dict) for call in calls)


def _same_call(a: ToolCall, b: ToolCall) -> bool:
    if a.name != b.name:
        return False
    left, right = _arguments(a), _arguments(b)
    return left is not _MISSING and right is not _MISSING and same_value(left, right)


def _arguments(call: ToolCall) -> object:
    try:
        if len(call.arguments) > MOST_CHARACTERS:
            return _MISSING
        return json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        return _MISSING
