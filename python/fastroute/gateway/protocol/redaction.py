"""Masks the gateway's keys and addresses in errors and headers of providers.

A provider's error may repeat the request that it got, with its Authorization header or its URL.
Bodies of successful answers pass as they are.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable

from fastroute.errors import InvalidInputError
from fastroute.gateway.protocol.replies import HeaderList
from fastroute.http.request import Endpoint

#: Shorter keys, such as the "EMPTY" that a local server is given, may be words of any text.
MIN_KEY_CHARACTERS = 8


class Redaction:
    """Masks, with an equal number of asterisks, what belongs to ``endpoints``: keys, and in errors
    addresses other than OpenAI's own."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        keys: set[str] = set()
        addresses: set[str] = set()
        for endpoint in endpoints:
            # A key or an address that can't be used is reported when it is used.
            with contextlib.suppress(InvalidInputError):
                key = endpoint.find_key() or ""
                if len(key) >= MIN_KEY_CHARACTERS:
                    keys.add(key)
                address = endpoint.address("")
                if not address.is_openai:
                    host = address.shown.partition("//")[2].partition("/")[0]
                    addresses |= {address.url, address.shown, f"//{host}"}
                    if "." in host or ":" in host:  # else it may be any word
                        addresses.add(host)
        self._keys = _as_written(keys)
        self._addresses = _as_written(addresses)

    def error(self, body: bytes) -> bytes:
        """The body of an error."""
        return _mask(_mask(body, self._keys), self._addresses)

    def headers(self, headers: HeaderList, *, of_error: bool = False) -> HeaderList:
        """The headers of an answer. A redirect, which names an address, is an error here."""
        masked = [(name, _mask(value, self._keys)) for name, value in headers]
        return [(name, self.error(value)) for name, value in masked] if of_error else masked


def _as_written(texts: set[str]) -> tuple[bytes, ...]:
    """``texts``, and how JSON writes them, the longest first: a shorter one may be a part of it."""
    written = {form for text in texts for form in (text, json.dumps(text)[1:-1])}
    escaped = {text.replace("/", "\\/") for text in texts}
    return tuple(text.encode() for text in sorted(written | escaped, key=len, reverse=True))


def _mask(text: bytes, secrets: tuple[bytes, ...]) -> bytes:
    for secret in secrets:
        text = text.replace(secret, b"*" * len(secret))
    return text
