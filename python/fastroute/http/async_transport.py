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
from typing import TYPE_CHECKING, Any, Self

from fastroute import __version__
from fastroute.errors import (
    AnswerCutError,
    DispatchError,
    MissingDependencyError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderTimeoutError,
)
from fastroute.http.request import AsyncResponse, Endpoint, Request, Response, status_error

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from multidict import CIMultiDict

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
_KEPT_S = 30.0


#: An answer that is no stream is held until it is whole, so that one that breaks off can still be
#: told by an error, but no more of it and no longer than this.
HELD_BYTES = 64 * 1024
HELD_S = 1.0
#: The same for endpoints with ``retry_cut_answers``, whose answers must be whole before they are
#: handed on.
MOST_HELD_BYTES = 32 * 2**20
#: No error's body is longer.
MOST_ERROR_BYTES = 8 * 2**20
#: All of a provider's headers, and each of them.
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 256


class AsyncHttpTransport:
    """Sends from one event loop over HTTP/1.1 with kept connections. It never retries.

    Answers are asked for uncompressed, and their bytes and headers are what the provider sent.
    Redirects are not followed. A proxy from the usual variables is honoured. A stream is returned
    when its first byte is here, another answer when all of it is, or 64 KiB of it, or when its
    first byte is a second old.

    Args:
        max_header_bytes: the longest header of an answer; longer ones are a
            ProviderResponseError.
    """

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        try:
            import aiohttp  # noqa: F401 - here, so that the first request does not wait for it
        except ImportError as error:
            raise MissingDependencyError(
                "AsyncHttpTransport needs aiohttp: pip install 'fastroute[serve]'"
            ) from error
        self._max_header_bytes = max_header_bytes
        self._session: aiohttp.ClientSession | None = None
        self._closed = False

    def send(self, request: Request) -> Response:
        """Not for threads. Raises DispatchError."""
        raise DispatchError(
            f"{request.path}: AsyncHttpTransport sends from an event loop only; use HttpTransport"
        )

    async def asend(self, request: Request) -> AsyncResponse:
        """Send once. Raises as ``Transport`` says, AnswerCutError for an answer that breaks off
        before it is returned, and DispatchError once closed."""
        session = self._open()
        endpoint = request.endpoint
        timeout_s = endpoint.timeout_s if request.timeout_s is None else request.timeout_s
        first_s = min(endpoint.first_byte_timeout_s or timeout_s, timeout_s)
        loop = asyncio.get_running_loop()
        end_s = loop.time() + timeout_s
        response = None
        try:
            which = ["first_byte_timeout_s" if first_s < timeout_s else "timeout_s"]
            with _translated(request, which) as begun:
                async with asyncio.timeout(first_s) as limit:
                    response = await session.post(
                        _url(endpoint, request.path),
                        data=request.body,
                        headers=_headers(request),
                        allow_redirects=False,
                        timeout=_timeout(min(endpoint.connect_timeout_s, first_s), timeout_s),
                    )
                    begun.append(response)
                    streams = request.stream or _is_event_stream(response)
                    first = b""
                    if 200 <= response.status < 300:
                        first = await response.content.readany()
                    if first_s < timeout_s:  # the answer has begun, and has the rest of its time
                        limit.reschedule(end_s)
                        which[0] = "timeout_s"
                    if not 200 <= response.status < 300:
                        raise status_error(
                            request, response.status, response.raw_headers, await _error(response)
                        )
                    if not streams and not response.content.at_eof():
                        most = MOST_HELD_BYTES if endpoint.retry_cut_answers else HELD_BYTES
                        seconds = timeout_s if endpoint.retry_cut_answers else HELD_S
                        first = await _hold(first, response.content, most, seconds)
        except BaseException:
            if response is not None:
                response.close()
            raise
        headers = response.raw_headers
        if response.content.at_eof():
            return AsyncResponse(response.status, headers, first, request=request)

        async def close() -> None:
            response.close()

        rest = _rest(request, first, response, None if streams else end_s)
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
                request_class=_exact_request(),
                max_line_size=self._max_header_bytes,
                max_field_size=self._max_header_bytes,
                max_headers=MAX_HEADERS,
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


def _headers(request: Request) -> CIMultiDict[str]:
    from multidict import CIMultiDict

    headers = CIMultiDict(
        {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"fastroute/{__version__}",
            "accept": "text/event-stream" if request.stream else "*/*",
        }
    )
    key = request.endpoint.find_key()
    if key is not None:
        headers["authorization"] = f"Bearer {key}"
    headers.update(request.headers)
    # What UTF-8 can't tell stays as surrogates: see _exact_request.
    raw = [
        (n.decode("latin-1"), v.decode("utf-8", "surrogateescape")) for n, v in request.raw_headers
    ]
    for name, _ in raw:
        headers.popall(name, None)
    headers.extend(raw)
    return headers


@lru_cache(maxsize=1)
def _exact_request() -> type[aiohttp.ClientRequest]:
    """A request of aiohttp's whose headers may hold bytes that are no UTF-8: aiohttp itself leaves
    surrogates, which stand for them, out."""
    import aiohttp

    class ExactRequest(aiohttp.ClientRequest):
        async def write_bytes(
            self, writer: Any, conn: Any, content_length: int | None = None
        ) -> None:
            head = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
            if not head.isascii():
                line = bytes(writer._headers_buf).partition(b"\r\n")[0]
                exact = head.encode("utf-8", "surrogateescape")
                writer._headers_buf = line + b"\r\n" + exact + b"\r\n"
            await super().write_bytes(writer, conn, content_length)

    return ExactRequest


def _is_event_stream(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer comes piece by piece, even if we were not told to expect that."""
    kind: str = response.headers.get("content-type", "")
    return kind.lower().startswith("text/event-stream")


async def _hold(
    first: bytes, content: aiohttp.StreamReader, most_bytes: int, most_s: float
) -> bytes:
    """``first`` and what follows it, until the end or one of the limits."""
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(most_s) as limit:
            while size < most_bytes and (piece := await content.readany()):
                parts.append(piece)
                size += len(piece)
    except TimeoutError:
        if not limit.expired():
            raise
    return b"".join(parts)


async def _error(response: aiohttp.ClientResponse) -> bytes:
    """The body of an error. Raises ValueError for one without end."""
    parts, size = [], 0
    while piece := await response.content.readany():
        parts.append(piece)
        size += len(piece)
        if size > MOST_ERROR_BYTES:
            raise ValueError(f"the body of the error is longer than {MOST_ERROR_BYTES} bytes")
    return b"".join(parts)


async def _rest(
    request: Request, first: bytes, response: aiohttp.ClientResponse, end_s: float | None
) -> AsyncIterator[bytes]:
    """``first`` and what follows it; all of it until ``end_s``, or each piece in its time."""
    if first:
        yield first
    with _translated(request, ["timeout_s"]) as begun:
        begun.append(response)
        while True:
            if end_s is None:
                piece = await response.content.readany()
            else:
                async with asyncio.timeout_at(end_s):
                    piece = await response.content.readany()
            if not piece:
                return
            yield piece


@contextmanager
def _translated(request: Request, limits: list[str]) -> Iterator[list[aiohttp.ClientResponse]]:
    """The one door: what aiohttp raises leaves as an error of ours, with aiohttp's as its cause.

    ``limits[0]`` names the time limit that holds at the moment. Gives a list for the response, once
    there is one.
    """
    import aiohttp

    begun: list[aiohttp.ClientResponse] = []
    try:
        yield begun
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
    except aiohttp.ClientResponseError as error:
        long = isinstance(error.__cause__, aiohttp.http_exceptions.LineTooLong)
        what = "a header is too long" if long else "what came is no HTTP/1.1"
        raise ProviderResponseError(
            f"{request.endpoint.address(request.path).shown}: {what}; raise max_header_bytes, or "
            "look at what the endpoint sends",
            body=b"",
        ) from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if begun and 200 <= begun[0].status < 300 and begun[0].content.total_bytes:
            raise AnswerCutError(
                f"{request.endpoint.address(request.path).shown}: the answer broke off after "
                f"{begun[0].content.total_bytes} bytes ({type(error).__name__}); it may have been "
                "paid for, so ask again only if you accept that, or set retry_cut_answers"
            ) from error
        key = request.endpoint.find_key()
        reason = str(error) or "no reason given"
        if key is not None:
            reason = reason.replace(key, "***")
        shown = request.endpoint.address(request.path).shown
        raise ProviderConnectionError(
            f"{shown}: {type(error).__name__}: {reason}; check base_url, the network and that the "
            "endpoint is up"
        ) from error
