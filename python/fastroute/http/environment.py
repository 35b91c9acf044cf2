"""What requests take from the environment, by whichever transport: proxies and certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from fastroute.errors import DispatchError, MissingDependencyError

if TYPE_CHECKING:
    import ssl

_SCHEMES = {
    "http": "http",
    "https": "https",
    # Names are resolved by the proxy in each case, as what is behind it is often known only there.
    "socks": "socks5",  # as GNOME writes it
    "socks5": "socks5",
    "socks5h": "socks5",
}


def find_proxy(url: str) -> str | None:
    """The proxy for ``url``, such as "http://proxy:3128" or "socks5://proxy:1080"; else None.

    Read from http_proxy, https_proxy, all_proxy and no_proxy, in lower case or upper; without them
    from the system's settings on macOS and Windows. A proxy without a scheme is an HTTP proxy. A
    netrc file is never read: a key is an argument.

    Raises DispatchError for a proxy that can't be used; the message does not show it, because it
    may hold a password.
    """
    scheme, host = urlsplit(url)[:2]
    proxies = getproxies()
    variable = scheme if proxies.get(scheme) else "all"
    found = proxies.get(variable)
    if not found or proxy_bypass(host):
        return None
    kind, separator, rest = found.partition("://")
    if not separator:
        kind, rest = "http", found
    try:
        valid = bool(urlsplit(f"//{rest}").hostname) and (urlsplit(f"//{rest}").port or 1) > 0
    except ValueError:
        valid = False
    if kind.lower() not in _SCHEMES or not valid:
        raise DispatchError(
            f"the variable {variable.upper()}_PROXY is not a usable proxy (it is not shown here); "
            "give it as http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT"
        )
    return f"{_SCHEMES[kind.lower()]}://{rest}"


def missing_socks() -> MissingDependencyError:
    """The error for a SOCKS proxy without the package that speaks to it."""
    return MissingDependencyError(
        "a SOCKS proxy is set by an environment variable, and the package for it is not installed: "
        'pip install "fastroute[socks]"'
    )


def tls_context() -> ssl.SSLContext:
    """Checks certificates by the system's, or by those that SSL_CERT_FILE or SSL_CERT_DIR name."""
    import httpx2

    return httpx2.create_ssl_context()
