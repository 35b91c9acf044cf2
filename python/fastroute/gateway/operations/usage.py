"""Tokens of an answer: as its provider counts them, or estimated where it does not say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fastroute.chat.sse import EventDecoder

#: Of an answer that is not a stream, so much of its beginning and its end is searched for "usage".
SEARCHED_BYTES = 64 * 1024
#: A longer event of a stream is not read.
MAX_EVENT_BYTES = 4 * 2**20
#: No answer has more tokens; a greater count is a fault of the provider.
MAX_TOKENS = 10**10
#: The usual ratio for English text; see the OpenAI guide on tokens.
_BYTES_PER_TOKEN = 4

_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
_TEXT = re.compile(
    rb'"(?:content|text|delta|arguments|partial_json|thinking|reasoning_content)"\s*:\s*'
    rb'"((?:[^"\\]++|\\.)*+)"'
)
#: How many bytes of a long body are looked at, and in how many places.
_MOST_SAMPLED, _SAMPLES = 2**21, 16
_RUN = re.compile(rb"[A-Za-z0-9+/=_-]{1024,}")
_DATA = re.compile(rb'"(?:data:[^"]*|[A-Za-z0-9+/=_-]{1024,})"')
_EVENT_ENDS = (b"\n\n", b"\n\r\n")
_CANDIDATES = 8


class Usage(NamedTuple):
    """Tokens of one call to a model."""

    input_tokens: int  #: input tokens at the full price
    cached_tokens: int  #: input tokens read from the provider's prompt cache
    cache_write_tokens: int  #: input tokens written to it, where the provider counts them apart
    output_tokens: int  #: output tokens, those of reasoning included
    is_estimate: bool = False  #: whether the counts are estimates

    @property
    def all_input_tokens(self) -> int:
        """Every input token."""
        return self.input_tokens + self.cached_tokens + self.cache_write_tokens


class UsageReader:
    """Reads the usage of one answer, whose pieces may be split anywhere."""

    def __init__(self, *, is_stream: bool) -> None:
        self._is_stream = is_stream
        self._head = b""
        self._tail = bytearray()
        self._found: dict[str, Any] = {}
        self._bytes = 0
        self._text_bytes = 0

    def feed(self, piece: bytes) -> None:
        """Note the next piece."""
        if self._is_stream:
            searched = max(0, len(self._tail) - 3)
            self._tail += piece
            end = 1 + max(self._tail.rfind(mark, searched) + len(mark) - 1 for mark in _EVENT_ENDS)
            if self._tail.endswith(_EVENT_ENDS, 0, end):
                self._read_events(bytes(self._tail[:end]))
                del self._tail[:end]
            elif len(self._tail) > MAX_EVENT_BYTES:
                self._tail.clear()
            return
        self._bytes += len(piece)
        if len(self._head) < SEARCHED_BYTES:
            self._head += piece[: SEARCHED_BYTES - len(self._head)]
        self._tail += piece[-SEARCHED_BYTES:]
        if len(self._tail) > 2 * SEARCHED_BYTES:
            del self._tail[:-SEARCHED_BYTES]

    def finish(self) -> Usage | None:
        """What the provider counted, so far; None where it did not say or can't be believed."""
        if self._is_stream:
            self._read_events(bytes(self._tail) + b"\n\n")
            self._tail.clear()
        else:
            is_whole = self._bytes == len(self._head)
            found = next(_usage_of_object(self._head), None) if is_whole else None
            if found is None:  # only a part of an answer is kept, or came
                found = next(_members_named_usage(self._head, bytes(self._tail)), {})
            self._found = found
        return usage_of(self._found)

    def estimate(self, input_tokens: int) -> Usage:
        """An estimate from the text that came; what is not kept of a long answer counts as text."""
        if not self._is_stream:
            beyond = min(self._bytes - len(self._head), len(self._tail))
            kept = self._head + bytes(self._tail[len(self._tail) - beyond :])
            self._text_bytes = self._bytes - len(kept) + _text_bytes(kept)
        return Usage(input_tokens, 0, 0, -(-self._text_bytes // _BYTES_PER_TOKEN), True)

    def _read_events(self, events: bytes) -> None:
        self._text_bytes += _text_bytes(events)
        if _USAGE.search(events) is None:  # in a text its quotes would be escaped
            return
        for event in EventDecoder().feed(events):
            try:
                read = json.loads(event.data)
            except (ValueError, RecursionError):
                continue
            for holder in (read, *(_get(read, name) for name in ("response", "message"))):
                found = _get(holder, "usage")
                if isinstance(found, dict):
                    self._found |= {k: v for k, v in found.items() if v is not None}


def usage_of(found: Mapping[str, Any]) -> Usage | None:
    """The usage in an object of OpenAI's or Anthropic's; None for counts that can't be believed."""
    details = found.get("prompt_tokens_details") or found.get("input_tokens_details")
    counts = [
        found.get("prompt_tokens", found.get("input_tokens")),
        found.get("completion_tokens", found.get("output_tokens")) or 0,
        _get(details, "cached_tokens") or found.get("prompt_cache_hit_tokens") or 0,
        found.get("cache_read_input_tokens") or 0,
        found.get("cache_creation_input_tokens") or 0,
    ]
    if not all(type(count) is int and 0 <= count <= MAX_TOKENS for count in counts):
        return None
    total, output, cached, read, written = counts
    if "prompt_tokens" not in found and (read or written):  # Anthropic's input_tokens are the rest
        return Usage(total, read, written, output)
    cached = min(cached or read, total)
    return Usage(total - cached, cached, 0, output)


def estimate_input_tokens(body: bytes) -> int:
    """An estimate of the input tokens of a request; images and other data are left out.

    Of a long body samples are looked at: all of it would hold the event loop.
    """
    if len(body) <= _MOST_SAMPLED:
        return -(-len(_DATA.sub(b"", body)) // _BYTES_PER_TOKEN)
    step, size = len(body) // _SAMPLES, _MOST_SAMPLED // _SAMPLES
    samples = (body[step * i : step * i + size] for i in range(_SAMPLES))
    share = sum(len(_RUN.sub(b"", sample)) for sample in samples) / _MOST_SAMPLED
    return math.ceil(share * len(body) / _BYTES_PER_TOKEN)


def _text_bytes(raw: bytes) -> int:
    return sum(map(len, _TEXT.findall(raw)))


def _get(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _members_named_usage(head: bytes, tail: bytes) -> Iterator[dict[str, Any]]:
    """The objects named "usage" of a JSON object that are its own members, the last first.

    ``tail`` from such a member on is itself the rest of an object; ``head`` up to the end of such
    a member is the beginning of one. A "usage" inside another value, which a model may have
    written, is neither.
    """
    for found in list(_USAGE.finditer(tail))[: -_CANDIDATES - 1 : -1]:
        yield from _usage_of_object(b"{" + tail[found.start() :])
    text = head.decode(errors="replace")
    for begun in list(re.finditer(_USAGE.pattern.decode(), text))[:_CANDIDATES]:
        try:
            _, end = json.JSONDecoder().raw_decode(text, begun.end())
        except (ValueError, RecursionError):
            continue
        yield from _usage_of_object(text[:end] + "}")


def _usage_of_object(text: str | bytes) -> Iterator[dict[str, Any]]:
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(found := _get(read, "usage"), dict):
        yield found
