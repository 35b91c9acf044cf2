"""Takes what is the gateway's alone out of providers' answers: its keys, and where they are.

A provider's error may repeat the request that it got, with its Authorization header. The gateway's
key must not reach a client that way, whatever the answer's status, whole or in a stream. Addresses
are taken out of errors only, of those in a stream too: elsewhere a model may well write about one.
What is taken out is covered by as many asterisks, so lengths stay what they were.
"""

from __future__ import annotations

import contextlib
import json
import re
from bisect import bisect_right
from collections.abc import Iterable
from urllib.parse import urlsplit

from fastroute.errors import InvalidInputError
from fastroute.gateway.protocol.replies import HeaderList
from fastroute.http.address import spellings_of
from fastroute.http.request import Endpoint

_BLANK_LINE = re.compile(rb"(\r?\n\r?\n)")
# Inside a text of JSON the quotes would be escaped.
_IS_ERROR = re.compile(rb'"error"\s*:\s*["{]|^event:\s*error', re.MULTILINE)
#: Shorter keys, such as the "EMPTY" that a server of one's own is given, may be words of an answer:
#: they are taken out of errors only, and below half of it not at all.
LEAST_CHARACTERS = 16
#: How much of an event that has not ended is remembered, to tell whether it is an error.
_REMEMBERED_BYTES = 4096


class Redaction:
    """What is taken out of the answers of ``endpoints``: ``keys`` everywhere, ``addresses`` in
    errors."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        keys: dict[bytes, None] = {}
        addresses: dict[bytes, None] = {}
        for endpoint in endpoints:
            # A key or an address that can't be used is told of when it should be.
            with contextlib.suppress(InvalidInputError):
                key = endpoint.find_key() or ""
                spelled = dict.fromkeys(_spellings_of_key(key))
                if len(key) >= LEAST_CHARACTERS:
                    keys |= spelled
                elif len(key) >= LEAST_CHARACTERS // 2:
                    addresses |= spelled
            with contextlib.suppress(InvalidInputError):
                addresses |= dict.fromkeys(_spellings_of_address(endpoint))
        # The longest first: a shorter one may be a part of it.
        self.keys = tuple(sorted(keys, key=len, reverse=True))
        self.addresses = tuple(sorted(addresses, key=len, reverse=True))
        # Each of the others has one of these in it.
        self.signs = tuple(a for a in addresses if not any(b in a for b in addresses if b != a))
        self.characters = frozenset(b"".join([*self.keys, *self.addresses]))
        self._sorted = sorted({*self.keys, *self.addresses})
        self._first_characters = frozenset(known[0] for known in self._sorted)
        self._most_begun = max(map(len, self._sorted), default=1) - 1

    def error(self, body: bytes) -> bytes:
        """The body of an error."""
        return _cover(_cover(body, self.keys), self.addresses)

    def headers(self, headers: HeaderList, *, of_error: bool = False) -> HeaderList:
        """The headers of an answer. A redirect, which names an address, is an error here."""
        if of_error:
            return [(name, self.error(value)) for name, value in headers]
        return [(name, _cover(value, self.keys)) for name, value in headers]

    def begun(self, piece: bytes) -> int:
        """How many bytes at the end may be the beginning of what must not be handed on."""
        if not piece or piece[-1] not in self.characters:
            return 0
        end = piece[-self._most_begun :]
        for at, character in enumerate(end):
            if character in self._first_characters:
                part = end[at:]
                after = bisect_right(self._sorted, part)  # what it is the beginning of, if any
                if after < len(self._sorted) and self._sorted[after].startswith(part):
                    return len(part)
        return 0

    def answer(self) -> AnswerRedaction:
        """For one answer that is no error by its status; it may be a stream, or hold an error."""
        return AnswerRedaction(self)


class AnswerRedaction:
    """Goes with one answer, whose pieces may be split anywhere."""

    def __init__(self, redaction: Redaction) -> None:
        self._all = redaction
        self._held = b""  # what may be the beginning of a key or an address, or of a longer one
        self._event = b""  # the end of what was handed on of an event that has not ended

    def feed(self, piece: bytes) -> bytes:
        """What of ``piece``, and of what was held back before, can be handed on."""
        piece = self._held + piece
        covered = self._covered(piece)
        kept = len(piece) - self._all.begun(piece)
        cut = kept < len(piece) and covered[kept - 1 : kept] == b"*"
        if cut and self._covered(piece[:kept]) != covered[:kept]:
            # The end of a whole one looked like a beginning.
            piece = covered
            kept = len(piece) - self._all.begun(piece)
        self._held = piece[kept:]
        return self._handed_on(covered[:kept])

    def finish(self) -> bytes:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, b""
        return self._handed_on(self._covered(held))

    def _covered(self, piece: bytes) -> bytes:
        piece = _cover(piece, self._all.keys)
        if not any(sign in piece for sign in self._all.signs):
            return piece
        events = _BLANK_LINE.split(self._event + piece)
        covered = [
            _cover(event, self._all.addresses) if _IS_ERROR.search(event) else event
            for event in events
        ]
        return b"".join(covered)[len(self._event) :]

    def _handed_on(self, piece: bytes) -> bytes:
        """``piece``; the end of it that belongs to an event under way is remembered."""
        if self._all.addresses and piece:
            recent = (self._event + piece[-_REMEMBERED_BYTES:])[-_REMEMBERED_BYTES:]
            self._event = recent[max(recent.rfind(b"\n\n"), recent.rfind(b"\n\r\n")) + 1 :]
        return piece


def _cover(text: bytes, taken_out: tuple[bytes, ...]) -> bytes:
    for known in taken_out:
        if known in text:
            text = text.replace(known, b"*" * len(known))
    return text


def _spellings_of_key(key: str) -> list[bytes]:
    spellings = spellings_of(key)
    # An error may quote another, as JSON within JSON.
    return [s.encode() for s in (*spellings, *(json.dumps(s)[1:-1] for s in spellings))]


def _spellings_of_address(endpoint: Endpoint) -> list[bytes]:
    """Where an endpoint is, as its errors may say it; nothing of OpenAI's own, which all know."""
    address = endpoint.address("")
    if address.is_openai:
        return []
    parts = urlsplit(address.url)
    found = [address.url, address.shown, f"//{parts.netloc}"]
    if "." in parts.netloc or ":" in parts.netloc:  # else it may be any word
        found.append(parts.netloc)
    if "=" in parts.query:
        found.append(parts.query)
    return [spelling.encode() for text in found for spelling in spellings_of(text)]
