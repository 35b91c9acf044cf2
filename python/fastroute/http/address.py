"""Addresses, keys and seconds: checked before anything is sent, and masked where they are shown."""

from __future__ import annotations

import html
import json
import math
import re
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from fastroute.errors import InvalidInputError, InvalidTypeError

#: Where OpenAI's own clients look for a key.
KEY_VARIABLE = "OPENAI_API_KEY"

_OPENAI_HOST = re.compile(r"(.+\.)?api\.openai\.com")


class Address(NamedTuple):
    """Where requests go."""

    url: str  #: what to send to
    shown: str  #: the same without its query, for messages
    is_openai: bool  #: whether the host is OpenAI's own, over TLS


def read_base_url(base_url: object, path: str, source: str = "base_url") -> Address:
    """Append ``path`` to ``base_url``; either may have a query. ``source`` names it in errors."""
    if not isinstance(base_url, str):
        raise InvalidTypeError(f"{source} must be a str, got {type(base_url).__name__}")
    if not base_url.isprintable() or " " in base_url:
        raise InvalidInputError(
            f"{source} must not have spaces or unprintable characters, got {base_url!r}"
        )
    try:
        parts = urlsplit(base_url)
        _ = parts.port  # reading it checks it
    except ValueError as error:
        raise InvalidInputError(f"{source} is not a valid URL: {error}") from error
    if "@" in parts.netloc:  # and it must not be printed
        raise InvalidInputError(f"{source} must not have a user or password; pass api_key=")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInputError(
            f"{source} must start with http:// or https:// and a host, got {base_url!r}"
        )
    path, _, query = path.partition("?")
    path = parts.path.rstrip("/") + path
    query = "&".join(part for part in (parts.query, query) if part)
    shown = urlunsplit((parts.scheme, parts.netloc, path, "", ""))
    url = urlunsplit((parts.scheme, parts.netloc, path, query, ""))
    # Plain HTTP would show the key from the environment to everybody on the way.
    is_openai = parts.scheme == "https" and _OPENAI_HOST.fullmatch(parts.hostname) is not None
    return Address(url, shown, is_openai)


def check_key(key: object, source: str) -> str:
    """Return ``key`` if a header can carry it; no message shows it."""
    if not isinstance(key, str):
        raise InvalidTypeError(f"{source} must be a str, got {type(key).__name__}")
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInputError(
            f"{source} is empty or has a space, a line end or a character outside ASCII (it is not "
            "shown here); copy the key again"
        )
    return key


def check_seconds(name: str, value: object) -> float:
    """Return ``value`` as a float if it is a finite number of seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(f"{name} must be a number of seconds, got {type(value).__name__}")
    if not (math.isfinite(value) and value > 0):
        raise InvalidInputError(f"{name} must be finite and above 0, got {value}")
    return float(value)


def spellings_of(text: str) -> tuple[str, ...]:
    """How a provider's text may spell a key or an address: as it is, escaped as in JSON (also as
    .NET, Go and Java's Gson escape it), quoted as in a URL, or escaped as in HTML."""
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
    """``text`` with ``***`` for ``key``, which some servers repeat. Shorten the text afterwards: a
    part of a key is not found."""
    for spelling in spellings_of(key) if key else ():
        text = text.replace(spelling, "***")
    return text
