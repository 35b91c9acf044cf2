"""Which headers pass the gateway, and which are for it alone.

By RFC 9110, 7.6.1, fields that are about one connection end here, both ways: the well-known ones
and those that ``Connection`` names. For its client the gateway is the server, for the provider it
is the client. So beside those it keeps

- of a request: credentials (they are the gateway's, the provider gets its own), cookies, what
  proxies before it say of the client's address and identity, and what a browser says of its page.
  ``Via`` is replaced by one of our own (RFC 9110, 7.6.3), which names no host of the way to here;
- of an answer: what is about the provider's host, such as how to reach it by TLS or whose pages may
  read from it.

All others pass with their bytes, in their order, repeats apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from fastroute.http.request import RawHeaders

_HOP_BY_HOP = frozenset(
    {
        *(b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate"),
        *(b"proxy-authorization", b"proxy-authentication-info", b"te", b"trailer"),
        *(b"transfer-encoding", b"upgrade"),
    }
)
_OF_THE_REQUEST = frozenset(
    {
        # Written anew.
        *(b"host", b"content-length", b"content-type", b"content-encoding", b"expect", b"via"),
        b"accept-encoding",
        # Credentials.
        *(b"authorization", b"cookie", b"apikey", b"api-key", b"x-auth-token", b"x-access-token"),
        *(b"ocp-apim-subscription-key", b"x-amz-security-token"),
        # The client, as proxies before us tell of it.
        *(b"forwarded", b"x-forwarded", b"x-real-ip", b"x-client-ip", b"x-cluster-client-ip"),
        *(b"client-ip", b"true-client-ip", b"fastly-client-ip", b"fly-client-ip", b"cdn-loop"),
        *(b"x-originating-ip", b"x-remote-ip", b"x-remote-addr", b"remote-user", b"x-remote-user"),
        *(b"x-scheme", b"x-original-host", b"x-original-uri", b"x-original-url"),
        # The page that a browser shows.
        *(b"origin", b"referer"),
    }
)
_PREFIXES_OF_THE_REQUEST = (
    *(b"x-fastroute-", b"x-forwarded-", b"x-original-forwarded-", b"cf-", b"sec-fetch-"),
    *(b"x-envoy-", b"x-appengine-", b"x-amzn-oidc-", b"x-goog-iap-", b"x-goog-authenticated-"),
)
_OF_THE_ANSWER = frozenset(
    {b"date", b"server", b"alt-svc", b"strict-transport-security", b"clear-site-data"}
)
_PREFIXES_OF_THE_ANSWER = (b"x-fastroute-", b"access-control-")
# What the server here would refuse to write.
_UNWRITABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_NO_NAME = re.compile(rb"[^!#$%&'*+.^_`|~0-9a-z-]")


@lru_cache(maxsize=1024)
def _short_passes_to_provider(name: bytes) -> bool:
    own = name in _HOP_BY_HOP or name in _OF_THE_REQUEST or name.endswith(b"-api-key")
    return not own and not name.startswith(_PREFIXES_OF_THE_REQUEST)


def _passes_to_provider(name: bytes) -> bool:
    # A cache of long names would let anybody fill the memory.
    short = len(name) < 64
    return (_short_passes_to_provider if short else _short_passes_to_provider.__wrapped__)(name)


@lru_cache(maxsize=1024)
def _passes_to_client(name: bytes) -> bool:
    own = name in _HOP_BY_HOP or name in _OF_THE_ANSWER
    return not (own or name.startswith(_PREFIXES_OF_THE_ANSWER) or _NO_NAME.search(name))


def headers_to_provider(
    headers: Iterable[tuple[bytes, bytes]], more: Mapping[str, str], version: str
) -> RawHeaders:
    """Of a client's headers, names in lower case, those that are for the provider, then ``more``,
    which go instead of those of the same name, and ``Via``. ``version`` is the client's HTTP."""
    here, named = _split(headers)
    instead = {name.encode("latin-1"): value.encode("latin-1") for name, value in more.items()}
    passed = [
        (name, value)
        for name, value in here
        if _passes_to_provider(name) and name not in named and name not in instead
    ]
    return (*passed, *instead.items(), (b"via", f"{version} fastroute".encode()))


def headers_to_client(headers: RawHeaders) -> list[tuple[bytes, bytes]]:
    """Of a provider's headers those that are for the client, names in lower case.

    One with control characters is left out: nothing may write it.
    """
    here, named = _split((name.lower(), value) for name, value in headers)
    return [
        (name, value)
        for name, value in here
        if _passes_to_client(name) and name not in named and not _UNWRITABLE.search(value)
    ]


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Those that are not about one connection, names in lower case."""
    here, named = _split((name.lower(), value) for name, value in headers)
    return [(name, value) for name, value in here if name not in _HOP_BY_HOP | named]


def _split(
    headers: Iterable[tuple[bytes, bytes]],
) -> tuple[list[tuple[bytes, bytes]], frozenset[bytes]]:
    """The headers, and the names that ``Connection`` among them calls its own."""
    here = list(headers)
    tokens = [token for name, value in here if name == b"connection" for token in value.split(b",")]
    # The length of a body never belongs to a connection, even if Connection names it.
    named = frozenset(token.strip().lower() for token in tokens) - {b"content-length"}
    return here, named
