"""A request's JSON, walked over once, of which only the model is ever rewritten.

Key order, the spelling of numbers, escapes, white space, duplicate keys and unknown fields reach
the provider as the client wrote them: they are never parsed and written again. Of the members only
those that are asked for are made into objects, however long the rest is.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from fastroute._native import find_json_members
from fastroute.chat.members import member_name
from fastroute.errors import BodyError
from fastroute.types import JsonSpan

#: A longer body's messages are read one by one, and not in the event loop.
LONG_BYTES = 256 * 1024
_STRICT = json.JSONDecoder()
# What is left of \uXXXX at a cut; not of a backslash and a "u".
_CUT_ESCAPE = re.compile(rb"(?<!\\)((?:\\\\)*)\\u[0-9a-fA-F]{0,3}$")
_ESCAPED = frozenset({b'"', b"/", b"b", b"f", b"n", b"r", b"t", b"u"})
# Python refuses to read integers of more than 4,300 digits; a proxy has no opinion on them.
_LENIENT = json.JSONDecoder(parse_int=float)


class Fields(Mapping[str, Any]):
    """The members of a JSON object, each read when it is asked for; of a key that stands twice the
    last, as most readers take it."""

    def __init__(self, raw: bytes, spans: list[JsonSpan]) -> None:
        self._raw = raw
        self.spans: dict[str, JsonSpan] = {member_name(raw, span): span for span in spans}
        self._read: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """The value of ``name``, by ``read_bounded``. Raises BodyError for too deep a nesting."""
        if name not in self._read:
            span = self.spans[name]
            self._read[name] = read_bounded(self._raw, span.value_begin, span.value_end)
        return self._read[name]

    def raw(self, name: str) -> bytes:
        """The bytes of the value of ``name``."""
        span = self.spans[name]
        return copy_part(self._raw, span.value_begin, span.value_end)

    def size(self, name: str) -> int:
        """How many bytes the value of ``name`` has."""
        span = self.spans[name]
        return span.value_end - span.value_begin

    def __contains__(self, name: object) -> bool:
        return name in self.spans

    def __iter__(self) -> Iterator[str]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)


class Document:
    """A JSON object and where in its bytes the model stands."""

    def __init__(self, raw: bytes, members: list[JsonSpan]) -> None:
        self.raw = raw  #: the bytes as they came
        self.fields = Fields(raw, members)  #: the members
        #: begin and end in ``raw`` of the value of every top-level key "model".
        self.spans = tuple(
            (span.value_begin, span.value_end)
            for span in members
            if member_name(raw, span) == "model"
        )
        self._written: dict[str, bytes] = {}

    def with_model(self, model: str) -> bytes:
        """The bytes with ``model`` for the value of every top-level "model", or with that as the
        first member where there is none, and nothing else changed. Where the model is that already,
        these are the very bytes that came."""
        if self.spans and all(
            read_bounded(self.raw, begin, end) == model for begin, end in self.spans
        ):
            return self.raw
        if model not in self._written:
            written = json.dumps(model, ensure_ascii=False).encode()
            parts: list[bytes | memoryview] = []
            view, at = memoryview(self.raw), 0
            if not self.spans:
                at = self.raw.index(b"{") + 1
                parts += [view[:at], b'"model":', written, b"," if self.fields else b""]
            for begin, end in self.spans:
                parts += [view[at:begin], written]
                at = end
            parts.append(view[at:])
            self._written[model] = b"".join(parts)
        return self._written[model]


def copy_part(raw: bytes, begin: int, end: int) -> bytes:
    """``raw[begin:end]``, copied without holding up other threads, as a slice of megabytes does."""
    return b"".join([memoryview(raw)[begin:end]])


def read_document(raw: bytes) -> Document:
    """Read ``raw``. Raises BodyError, which says where the text stops being JSON."""
    fault, at, members = find_json_members(raw)
    if fault:
        raise _error(raw, fault, at)
    return Document(raw, members)


class LongValue(tuple[int]):
    """Stands for a list, an object or a number of more than LONG_BYTES; holds how many."""


def read_bounded(raw: bytes, begin: int, end: int) -> Any:
    """As ``read_json``, but in a time that does not grow with the value: of a string of more than
    LONG_BYTES the beginning and the end, a LongValue for another such value."""
    if end - begin <= LONG_BYTES:
        return read_json(raw, begin, end)
    if raw[begin : begin + 1] != b'"':
        return LongValue((end - begin,))
    half = LONG_BYTES // 2
    head, tail = raw[begin + 1 : begin + 1 + half], raw[end - 1 - half : end - 1]
    # Neither may begin or end inside an escape, which is read by twos.
    if (len(head) - len(head.rstrip(b"\\"))) % 2:
        head = head[:-1]
    after = tail.lstrip(b"\\")
    if len(after) < len(tail) or raw[end - 2 - half : end - 1 - half] == b"\\":
        # Those before it may be megabytes. What follows is part of an escape, if it can be one.
        pairs = (len(tail) - len(after)) // 2 * 2
        tail = tail[:pairs] + (after[1:] if after[:1] in _ESCAPED else after)
    return f"{_text(head)}\n{_text(tail)}"


def _text(part: bytes) -> str:
    """A part of a JSON string, without what its ends have of a character."""
    inside = _CUT_ESCAPE.sub(rb"\1", part).decode(errors="ignore")
    text = str(_STRICT.decode(f'"{inside}"'))
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")


def read_json(raw: bytes, begin: int, end: int) -> Any:
    """The value from ``begin`` to ``end`` in ``raw``. Raises BodyError if it nests too deep."""
    text = raw[begin:end].decode()
    try:
        try:
            return _STRICT.decode(text)
        except json.JSONDecodeError:
            raise
        except ValueError:
            return _LENIENT.decode(text)
    except RecursionError as error:
        raise BodyError("the body is nested too deeply") from error


def _error(raw: bytes, fault: str, at: int) -> BodyError:
    if raw.startswith(codecs.BOM_UTF8):
        return BodyError(
            "the body begins with a byte order mark, which JSON does not allow (RFC 8259, 8.1): "
            "send UTF-8 without one"
        )
    # A piece at a time: other threads wait while one is read.
    decoder = codecs.getincrementaldecoder("utf-8")()
    for begin in range(0, len(raw), LONG_BYTES):
        held = len(decoder.getstate()[0])
        try:
            decoder.decode(raw[begin : begin + LONG_BYTES], begin + LONG_BYTES >= len(raw))
        except UnicodeDecodeError as error:
            where = begin - held + error.start
            return BodyError(f"the body is not UTF-8: {error.reason} at byte {where}")
    if fault == "no_object":
        return BodyError('the body must be a JSON object, such as {"model": ..., ...}')
    if fault == "too_deep":
        return BodyError("the body is nested too deeply")
    if fault == "too_many":
        return BodyError("the body has more than 100,000 members")
    line, column, characters = 1, 1, 0
    decoder.reset()
    for begin in range(0, at, LONG_BYTES):
        text = decoder.decode(raw[begin : min(begin + LONG_BYTES, at)])
        characters += len(text)
        line += text.count("\n")
        column = len(text) - text.rfind("\n") if "\n" in text else column + len(text)
    return BodyError(
        f"the body is not JSON: {fault}: line {line} column {column} (char {characters})"
    )
