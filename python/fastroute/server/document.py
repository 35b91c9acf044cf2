"""A request's JSON, read once, of which only the model is ever rewritten.

Key order, the spelling of numbers, escapes, white space, duplicate keys and unknown fields reach
the provider as the client wrote them: they are never parsed and written again.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, NamedTuple

from fastroute.errors import InvalidInputError

_SPACE = re.compile(r"[ \t\n\r]*")
_STRICT = json.JSONDecoder()
# Python refuses to read integers of more than 4,300 digits; a proxy has no opinion on them.
_LENIENT = json.JSONDecoder(parse_int=float)


class BodyError(InvalidInputError):
    """A body that is no JSON object in UTF-8."""


class Document(NamedTuple):
    """A JSON object and where in its text the model stands.

    Attributes:
        raw: the bytes as they came.
        text: the same as text.
        fields: the members; of a key that stands twice the last, as most readers take it.
        spans: begin and end in ``text`` of the value of every top-level key "model".
    """

    raw: bytes
    text: str
    fields: dict[str, Any]
    spans: tuple[tuple[int, int], ...]

    def with_model(self, model: str) -> bytes:
        """The bytes with ``model`` for the value of every top-level "model", and nothing else
        changed. Where the model is that already, these are the very bytes that came."""
        if all(json.loads(self.text[begin:end]) == model for begin, end in self.spans):
            return self.raw
        written = json.dumps(model, ensure_ascii=False)
        parts = []
        at = 0
        for begin, end in self.spans:
            parts += [self.text[at:begin], written]
            at = end
        parts.append(self.text[at:])
        return "".join(parts).encode()


def read_document(raw: bytes) -> Document:
    """Read ``raw``. Raises BodyError, which says where the text stops being JSON."""
    if raw.startswith(codecs.BOM_UTF8):
        raise BodyError(
            "the body begins with a byte order mark, which JSON does not allow (RFC 8259, 8.1): "
            "send UTF-8 without one"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BodyError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from error
    try:
        try:
            fields, spans = _read_object(text, _STRICT)
        except (BodyError, json.JSONDecodeError):
            raise
        except ValueError:
            fields, spans = _read_object(text, _LENIENT)
    except json.JSONDecodeError as error:
        raise BodyError(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BodyError("the body is nested too deeply") from error
    return Document(raw, text, fields, tuple(spans))


def _read_object(
    text: str, decoder: json.JSONDecoder
) -> tuple[dict[str, Any], list[tuple[int, int]]]:
    """Members of the object that ``text`` is; keys and values are read by json's C code."""
    fields: dict[str, Any] = {}
    spans: list[tuple[int, int]] = []
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise BodyError('the body must be a JSON object, such as {"model": ..., ...}')
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        _check_end(text, at + 1)
        return fields, spans
    while True:
        if text[at : at + 1] != '"':
            raise json.JSONDecodeError("Expecting property name in double quotes", text, at)
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise json.JSONDecodeError("Expecting ':' delimiter", text, at)
        begin = _skip(text, at + 1)
        fields[key], at = decoder.raw_decode(text, begin)
        if key == "model":
            spans.append((begin, at))
        at = _skip(text, at)
        following = text[at : at + 1]
        if following == "}":
            _check_end(text, at + 1)
            return fields, spans
        if following != ",":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
        at = _skip(text, at + 1)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()


def _check_end(text: str, at: int) -> None:
    end = _skip(text, at)
    if end != len(text):
        raise json.JSONDecodeError("Extra data", text, end)
