"""What every client of an HTTP API checks: its address, its key, its seconds, an error's body."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from fastroute.errors import InvalidInputError, InvalidTypeError

#: Where OpenAI's own clients look for a key.
KEY_VARIABLE = "OPENAI_API_KEY"

_OPENAI_HOST = re.compile(r"(.+\.)?api\.openai\.com")


class Address(NamedTuple):
    """Where requests go.

    Attributes:
        url: what to send to.
        shown: the same without its query, for messages.
        is_openai: whether the host is OpenAI's own, over TLS.
    """

    url: str
    shown: str
    is_openai: bool


def read_base_url(base_url: object, path: str, source: str = "base_url") -> Address:
    """Append ``path`` to ``base_url``, which may have a query; ``source`` names it in errors."""
    if not isinstance(base_url, str):
        raise InvalidTypeError(f"{source} must be a str, got {type(base_url).__name__}")
    if not base_url.isprintable() or " " in base_url:
        raise InvalidInputError(
            f"{source} must hold no space and no unprintable character, got {base_url!r}"
        )
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # reading it checks it
    except ValueError as error:
        raise InvalidInputError(f"{source} is no web address: {error}") from error
    if "@" in parts.netloc:  # and it must not be printed
        raise InvalidInputError(f"{source} must not hold a user or password; pass api_key=")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInputError(
            f"{source} must start with http:// or https:// and a host, got {base_url!r}"
        )
    path = parts.path.rstrip("/") + path
    shown = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    url = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    # Plain HTTP would show the key from the environment to everybody on the way.
    is_openai = parts.scheme == "https" and _OPENAI_HOST.fullmatch(parts.hostname) is not None
    return Address(url, shown, is_openai)


def check_key(key: object, source: str) -> str:
    """Return ``key`` if a header can carry it; no message shows it."""
    if not isinstance(key, str):
        raise InvalidTypeError(f"{source} must be a str, got {type(key).__name__}")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            f"{source} is empty or holds a space, a line end or a character outside ASCII (it is "
            "not shown here); copy the key again"
        )
    return key


def check_seconds(name: str, value: object) -> float:
    """Return ``value`` as a float if it is a finite number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(f"{name} must be a number of seconds, got {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(f"{name} must be finite and above 0, got {value}")
    return float(value)


def error_of(body: bytes) -> dict[str, Any]:
    """The ``error`` object of an OpenAI-style body; empty if there is none."""
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    error = answer.get("error") if isinstance(answer, dict) else None
    return error if isinstance(error, dict) else {}


def spellings_of(text: str) -> tuple[str, ...]:
    """How a key or an address may stand in a provider's text: as it is, as JSON writes it, of those
    that write more of it by number (.NET, Go, Java's Gson) too, in an address, or in HTML."""
    found = (
        text,
        json.dumps(text)[1:-1],
        text.replace("/", "\\/"),
        _numbered(text, "\"&'+<>`", "{:04X}"),
        _numbered(text, "&<>", "{:04x}"),
        _numbered(text, "&'<=>", "{:04x}"),
        quote(text, safe=""),
        html.escape(text),
    )
    return tuple(dict.fromkeys(found))


def _numbered(text: str, characters: str, form: str) -> str:
    return "".join("\\u" + form.format(ord(c)) if c in characters else c for c in text)


def without_key(text: str, key: str | None) -> str:
    """``text`` with ``***`` for ``key``, which some servers repeat. Shorten it afterwards: a part
    of a key is not found."""
    for spelling in spellings_of(key) if key else ():
        text = text.replace(spelling, "***")
    return text


def words_of(body: bytes, key: str | None) -> str:
    """What an error's body says in one line of at most 300 characters, without ``key``."""
    said = error_of(body).get("message")
    text = said if isinstance(said, str) else body.decode(errors="replace")
    return " ".join(without_key(text, key).split())[:300]
