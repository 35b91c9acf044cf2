"""Keeps web pages of others from using a gateway that asks for no key.

A browser sends a page's request to 127.0.0.1 as readily as anywhere: without a preflight if it
looks like a form's, and with the page's own host name if that resolves to 127.0.0.1 (DNS
rebinding). A gateway with keys needs none of this: a page does not know the key.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from fastroute.gateway.protocol.replies import RefusalError

# Whoever asks for a gateway's health may know it by another name.
_OPEN_PATHS = ("/health", "/ready")
_MOST_HOST_CHARS = 255  # of a DNS name


def is_loopback(host: str) -> bool:
    """Whether ``host``, a name or an address without a port, is this machine itself."""
    return len(host) <= _MOST_HOST_CHARS and _is_loopback(host)


@lru_cache(maxsize=256)  # each request asks twice
def _is_loopback(host: str) -> bool:
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        # 127.1 is an address to the system, and none to ipaddress.
        address = ip_address(host if ":" in host else socket.inet_ntoa(socket.inet_aton(host)))
    except (OSError, ValueError):
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def refuse_other_pages(path: str, headers: Mapping[str, str], listening_host: str) -> None:
    """Raise RefusalError for a request that comes from a page of another origin.

    ``headers`` are looked up by lower-case names. ``listening_host`` is the address that the
    gateway listens on: on a loopback address only loopback names are taken for its own.
    """
    if path in _OPEN_PATHS:
        return
    host = headers.get("host", "")
    try:
        hostname = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        hostname = ""
    if is_loopback(listening_host) and not is_loopback(hostname):
        raise _refusal(f"Host is {host[:100]!r}, which is not this machine")
    origin = headers.get("origin")
    if origin is not None and _address_of(origin) != host.lower():
        raise _refusal(f"the request comes from a page of {origin[:100]!r}")
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise _refusal("the request comes from a page of another site")


def _address_of(origin: str) -> str | None:
    """Host and port of an origin, in lower case; None for "null" and for an invalid address."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _refusal(what: str) -> RefusalError:
    return RefusalError(
        403,
        "other_origin",
        f"{what}, and this gateway has no keys: other web pages may not use it. Give it keys "
        "([[keys]] in its config) to be called from elsewhere",
    )
