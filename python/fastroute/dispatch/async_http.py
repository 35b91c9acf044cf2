"""The transport of the gateway: HTTP for one event loop, one attempt a request, over aiohttp.

bench/serve_clients.py measures why it is aiohttp: with many requests at once it sends several
times as many a second as httpx2, which ``HttpTransport`` uses because it serves threads too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Self

from fastroute import __version__
from fastroute.dispatch.base import AsyncResponse, Endpoint, Request, Response, status_error
from fastroute.errors import (
    DispatchError,
    MissingDependencyError,
    ProviderConnectionError,
    ProviderTimeoutError,
)

if TYPE_CHECKING:
    import aiohttp
    import yarl

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_KEPT_S = 30.0


class AsyncHttpTransport:
    """Sends from one event loop over HTTP/1.1 with kept connections. It never retries.

    Answers are asked for uncompressed, and their bytes and headers are what the provider sent.
    Redirects are not followed. A proxy from the usual variables is honoured. A stream is returned
    when its first byte is here.
    """

    def __init__(self) -> None:
        try:
            import aiohttp  # noqa: F401 - here, so that the first request does not wait for it
        except ImportError as error:
            raise MissingDependencyError(
                "AsyncHttpTransport needs aiohttp: pip install 'fastroute[serve]'"
            ) from error
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def send(self, request: Request) -> Response:
        """Not for threads. Raises DispatchError."""
        raise DispatchError(
            f"{request.path}: AsyncHttpTransport sends from an event loop only; use HttpTransport"
        )

    async def asend(self, request: Request) -> AsyncResponse:
        """Send once. Raises as ``Transport`` says, and DispatchError once closed."""
        session = self._open()
        endpoint = request.endpoint
        timeout_s = endpoint.timeout_s if request.timeout_s is None else request.timeout_s
        first_s = min(endpoint.first_byte_timeout_s or timeout_s, timeout_s)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        response = None
        try:
            which = ["first_byte_timeout_s" if first_s < timeout_s else "timeout_s"]
            with _translated(request, which):
                async with asyncio.timeout(first_s) as limit:
                    response = await session.post(
                        _url(endpoint, request.path),
                        data=request.body,
                        headers=_headers(request),
                        allow_redirects=False,
                        timeout=_timeout(min(endpoint.connect_timeout_s, first_s), timeout_s),
                    )
                    is_success = 200 <= response.status < 300
                    if request.stream and is_success:
                        pieces = response.content.iter_any()
                        first = await anext(pieces, b"")
                    else:  # the answer has begun, and has the rest of its time
                        if first_s < timeout_s:
                            limit.reschedule(end_s)
                            which[0] = "timeout_s"
                        body = await response.read()
        except BaseException:
            if response is not None:
                response.close()
            raise
        headers = {name.lower(): value for name, value in response.headers.items()}
        if not is_success:
            raise status_error(request, response.status, headers, body)
        if not request.stream:
            return AsyncResponse(response.status, headers, _once(body), request=request)

        async def close() -> None:
            response.close()

        rest = _rest(request, first, pieces)
        return AsyncResponse(response.status, headers, rest, close, request)

    def close(self) -> None:
        """Refuse further requests; ``aclose`` closes the connections."""
        self._closed = True

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _open(self) -> aiohttp.ClientSession:
        if self._closed:
            raise DispatchError("this AsyncHttpTransport is closed; make a new one")
        if self._session is None:
            import aiohttp

            # Looking for a proxy at every request costs as much as the request.
            proxied = any(os.environ.get(n) or os.environ.get(n.upper()) for n in _PROXY_VARIABLES)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=proxied,
            )
        return self._session


def never_arrived(error: DispatchError) -> bool:
    """Whether a request was certainly not seen by its provider: there was no connection."""
    import aiohttp

    cause = error.__cause__
    return isinstance(cause, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError))


def _url(endpoint: Endpoint, path: str) -> yarl.URL:
    # A query is the client's: kept in a cache, it would let anybody fill the memory.
    return _read_url(endpoint, path) if "?" in path else _known_url(endpoint, path)


def _read_url(endpoint: Endpoint, path: str) -> yarl.URL:
    import yarl

    return yarl.URL(endpoint.address(path).url, encoded=True)


_known_url = lru_cache(maxsize=1024)(_read_url)


@lru_cache(maxsize=1024)
def _timeout(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)


def _headers(request: Request) -> dict[str, str]:
    headers = {
        "content-type": "application/json",
        "accept-encoding": "identity",
        "user-agent": f"fastroute/{__version__}",
        "accept": "text/event-stream" if request.stream else "*/*",
    }
    key = request.endpoint.find_key()
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    headers.update({name.lower(): value for name, value in request.headers.items()})
    return headers


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def _rest(
    request: Request, first: bytes, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    if first:
        yield first
    with _translated(request, ["timeout_s"]):
        async for piece in pieces:
            yield piece


@contextmanager
def _translated(request: Request, limits: list[str]) -> Iterator[None]:
    """The one door: what aiohttp raises leaves as an error of ours, with aiohttp's as its cause.

    ``limits[0]`` names the time limit that holds at the moment.
    """
    import aiohttp

    try:
        yield
    except (aiohttp.ConnectionTimeoutError, aiohttp.ServerTimeoutError, TimeoutError) as error:
        endpoint = request.endpoint
        limit = limits[0]
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            limit, what = "connect_timeout_s", "no connection"
        elif limit == "timeout_s":
            timeout_s = endpoint.timeout_s if request.timeout_s is None else request.timeout_s
            what = f"no complete answer in {timeout_s:g} s"
        else:
            what = f"no first byte in {endpoint.first_byte_timeout_s:g} s"
        shown = endpoint.address(request.path).shown
        raise ProviderTimeoutError(
            f"{shown}: {what}; check that the endpoint is up, or raise {limit}"
        ) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        key = request.endpoint.find_key()
        reason = str(error) or "no reason given"
        if key is not None:
            reason = reason.replace(key, "***")
        shown = request.endpoint.address(request.path).shown
        raise ProviderConnectionError(
            f"{shown}: {type(error).__name__}: {reason}; check base_url, the network and that the "
            "endpoint is up"
        ) from error
