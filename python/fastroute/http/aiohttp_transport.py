"""The gateway's transport: HTTP for one event loop, one attempt a request, over aiohttp.

bench/serve_clients.py measures why it is aiohttp: with many requests at once it sends several
times as many a second as httpx2. ``fastroute.resilience`` retries.
"""

from __future__ import annotations

import asyncio
import io
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from fastroute._extras import needed_for
from fastroute.errors import DispatchError, ProviderConnectionError
from fastroute.http.environment import find_proxy, missing_socks, tls_context
from fastroute.http.failures import (
    MOST_ERROR_BYTES,
    connect_timeout,
    connection_error,
    cut_error,
    late_error,
    malformed,
    raise_for_status,
    unsendable,
)
from fastroute.http.request import (
    AsyncResponse,
    Endpoint,
    Request,
    default_headers,
    without_encoding,
)

if TYPE_CHECKING:
    import ssl

    import aiohttp
    import yarl
    from multidict import CIMultiDict

_KEPT_S = 30.0
_LONG_BYTES = 2**20
#: An answer that is not a stream is held until it is whole, so that one that breaks off can still
#: become an error, but no more of it and no longer than this.
HELD_BYTES = 64 * 1024
HELD_S = 1.0
#: The same for endpoints with ``retry_cut_answers``, whose answers must be whole before they are
#: handed on.
MOST_HELD_BYTES = 32 * 2**20
#: All of a provider's headers, and each of them.
MAX_HEADER_BYTES = 64 * 1024
MAX_HEADERS = 256


class AiohttpTransport:
    """Sends from one event loop over HTTP/1.1 with kept connections. It never retries.

    Answers are asked for uncompressed; one that is compressed anyway is decompressed. Otherwise
    their bytes and headers are what the provider sent.
    Redirects are not followed. Proxies and certificates are those of
    ``fastroute.http.environment``, proxies as they are at the first request to an address.

    A stream is returned when its first byte is here; another answer when all of it is, or 64 KiB of
    it, or when its first byte is a second old. A kept connection that breaks before an answer
    begins is replaced at once by a fresh one, which counts as the same attempt.

    Args:
        max_header_bytes: the longest header of an answer; longer ones are a
            ProviderResponseError.
    """

    def __init__(self, *, max_header_bytes: int = MAX_HEADER_BYTES) -> None:
        with needed_for("AiohttpTransport"):
            import aiohttp  # noqa: F401 - here, so that the first request does not wait for it
        self._max_header_bytes = max_header_bytes
        self._sessions: dict[tuple[str | None, bool], aiohttp.ClientSession] = {}
        self._proxies: dict[str, str | None] = {}
        self._tls = tls_context()
        self._closed = False

    def check_proxy(self, endpoint: Endpoint) -> None:
        """Raise what sending to ``endpoint`` would raise for its proxy: DispatchError for one that
        can't be used, MissingDependencyError for one that needs another package."""
        proxy = find_proxy(endpoint.address("").url)
        if proxy is not None and proxy.startswith("socks"):
            _socks_connector()

    async def asend(self, request: Request) -> AsyncResponse:
        """Send once. Raises as ``Transport`` says, AnswerCutError for an interrupted answer
        before it is returned, and DispatchError once closed."""
        url, origin = _target(request)
        if origin not in self._proxies:  # looking for one costs as much as a request
            self._proxies[origin] = find_proxy(origin)
        proxy = self._proxies[origin]
        attempt = _Attempt(request)
        try:
            return await attempt.run(self._session(proxy), url, proxy)
        except ProviderConnectionError:
            if not attempt.was_stale():
                raise
        return await _Attempt(request).run(self._session(proxy, keep=False), url, proxy)

    async def aclose(self) -> None:
        """Close the connections."""
        self._closed = True
        while self._sessions:
            await self._sessions.popitem()[1].close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _session(self, proxy: str | None, *, keep: bool = True) -> aiohttp.ClientSession:
        if self._closed:
            raise DispatchError("this AiohttpTransport is closed; make a new one")
        key = (proxy if proxy is not None and proxy.startswith("socks") else None), keep
        found = self._sessions.get(key)
        if found is None:
            import aiohttp

            found = self._sessions[key] = aiohttp.ClientSession(
                connector=_connector(key[0], self._tls, keep=keep),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a netrc file would replace the endpoint's key
                max_line_size=self._max_header_bytes,
                max_field_size=self._max_header_bytes,
                max_headers=MAX_HEADERS,
            )
        return found


class _Attempt:
    """One attempt at a request, and how far it got."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._connection = _Connection()
        self._response: aiohttp.ClientResponse | None = None
        #: The time limit that holds at the moment.
        self._limit = "timeout_s"

    def was_stale(self) -> bool:
        """Whether a failed attempt used a kept connection and got nothing: the provider may have
        closed it a while ago."""
        return self._connection.reused and self._response is None

    async def run(
        self, session: aiohttp.ClientSession, url: yarl.URL, proxy: str | None
    ) -> AsyncResponse:
        """Send, and wait for the beginning of the answer."""
        request, endpoint = self.request, self.request.endpoint
        timeout_s = request.limit_s
        first_s = min(endpoint.first_byte_timeout_s or timeout_s, timeout_s)
        if first_s < timeout_s:
            self._limit = "first_byte_timeout_s"
        end_s = asyncio.get_running_loop().time() + timeout_s
        response = None
        try:
            with self._translated():
                async with asyncio.timeout(first_s) as limit:
                    _under_way.set(self._connection)
                    response = await session.request(
                        request.method,
                        url,
                        data=_in_pieces(request.body),
                        headers=_headers(request),
                        allow_redirects=False,
                        timeout=_timeout(min(endpoint.connect_timeout_s, first_s), timeout_s),
                        proxy=None if proxy is None or proxy.startswith("socks") else proxy,
                    )
                    self._response = response
                    streams = request.stream or _is_event_stream(response)
                    good = 200 <= response.status < 300
                    first = await response.content.readany() if good else b""
                    if first_s < timeout_s:  # the answer has begun, and has the rest of its time
                        limit.reschedule(end_s)
                        self._limit = "timeout_s"
                    if not good:
                        body = await _hold(b"", response.content, MOST_ERROR_BYTES, timeout_s)
                        headers = without_encoding(response.raw_headers)
                        raise_for_status(request, response.status, headers, body)
                    if not streams and not response.content.at_eof():
                        most = MOST_HELD_BYTES if endpoint.retry_cut_answers else HELD_BYTES
                        seconds = timeout_s if endpoint.retry_cut_answers else HELD_S
                        first = await _hold(first, response.content, most, seconds)
        except BaseException:
            if response is not None:
                response.close()
            raise
        headers = without_encoding(response.raw_headers)
        if response.content.at_eof():
            return AsyncResponse(response.status, headers, first, request=request)

        async def close() -> None:
            response.close()

        rest = self._rest(first, response, None if streams else end_s)
        return AsyncResponse(response.status, headers, rest, close, request)

    async def _rest(
        self, first: bytes, response: aiohttp.ClientResponse, end_s: float | None
    ) -> AsyncIterator[bytes]:
        """``first`` and what follows it; all of it until ``end_s``, or each piece in its time."""
        if first:
            yield first
        self._limit = "timeout_s"
        with self._translated():
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
    def _translated(self) -> Iterator[None]:
        """Translate aiohttp's exceptions into fastroute's; the original is the cause."""
        import aiohttp
        from aiohttp.http_exceptions import ContentEncodingError, LineTooLong

        request = self.request
        try:
            yield
        except aiohttp.ConnectionTimeoutError as error:
            raise connect_timeout(request) from error
        except (aiohttp.ServerTimeoutError, TimeoutError) as error:
            what = f"complete answer in {request.limit_s:g} s"
            if self._limit != "timeout_s":
                what = f"first byte in {request.endpoint.first_byte_timeout_s:g} s"
            raise late_error(request, what, self._limit) from error
        except aiohttp.ClientHttpProxyError as error:
            raise connection_error(request, error) from error
        except aiohttp.ClientResponseError as error:
            long = isinstance(error.__cause__, LineTooLong)
            what = "a header is too long (see max_header_bytes)" if long else error.message
            raise malformed(request, f"the answer can't be read: {what}") from error
        except aiohttp.InvalidURL as error:
            raise unsendable(request, error) from error
        except (aiohttp.ClientError, OSError) as error:
            cause = error.__cause__
            if isinstance(cause, ContentEncodingError):
                raise malformed(request, f"the answer can't be read: {cause.message}") from error
            answer = self._response
            if answer is not None and 200 <= answer.status < 300 and answer.content.total_bytes:
                raise cut_error(request, answer.content.total_bytes, error) from error
            raise connection_error(request, error) from error
        except ValueError as error:
            raise unsendable(request, error) from error


class _Connection:
    """Whether an attempt got a kept connection. Timers hold what the context variable holds for as
    long as they run, so it is no more than this."""

    __slots__ = ("reused",)

    def __init__(self) -> None:
        self.reused = False


_under_way: ContextVar[_Connection] = ContextVar("_under_way")


def _connector(socks: str | None, tls: ssl.SSLContext, *, keep: bool) -> aiohttp.BaseConnector:
    """A connector that tells the attempt under way whether it got a kept connection."""
    import aiohttp

    kind: Any = aiohttp.TCPConnector if socks is None else _socks_connector()

    used: weakref.WeakSet[Any] = weakref.WeakSet()

    class Connector(kind):  # type: ignore[misc]  # one of two classes
        async def connect(self, *arguments: Any, **options: Any) -> Any:
            connection = await super().connect(*arguments, **options)
            _under_way.get().reused = connection.protocol in used
            used.add(connection.protocol)
            return connection

    options: dict[str, Any] = {"limit": 0, "ssl": tls}
    options |= {"keepalive_timeout": _KEPT_S} if keep else {"force_close": True}
    return (
        Connector(**options) if socks is None else Connector.from_url(socks, rdns=True, **options)
    )


def _socks_connector() -> Any:
    try:
        from aiohttp_socks import ProxyConnector
    except ImportError as error:
        raise missing_socks() from error
    return ProxyConnector


class _Target(NamedTuple):
    """Where a request goes: its URL, and the part of that by which a proxy is chosen."""

    url: yarl.URL
    origin: str


def _target(request: Request) -> _Target:
    # A query is the client's: kept in a cache, it would let anybody fill the memory.
    read = _read_target if "?" in request.path else _known_target
    return read(request.endpoint, request.path)


def _read_target(endpoint: Endpoint, path: str) -> _Target:
    import yarl

    url = yarl.URL(endpoint.address(path).url, encoded=True)
    return _Target(url, f"{url.scheme}://{url.host_port_subcomponent}")


_known_target = lru_cache(maxsize=1024)(_read_target)


@lru_cache(maxsize=1024)
def _timeout(connect_s: float, read_s: float) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s)


def _headers(request: Request) -> CIMultiDict[str]:
    """The headers to send. aiohttp writes UTF-8: a value in another encoding is taken for Latin-1,
    as HTTP once had it, and becomes UTF-8."""
    from multidict import CIMultiDict

    headers = CIMultiDict(default_headers(request))
    for name, _ in request.raw_headers:
        headers.popall(name.decode("latin-1"), None)
    for name, value in request.raw_headers:
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        headers.add(name.decode("latin-1"), text)
    return headers


def _in_pieces(body: bytes) -> bytes | io.BytesIO | None:
    """``body`` as aiohttp sends it without holding up the event loop: long ones piece by piece."""
    if not body:
        return None
    return body if len(body) <= _LONG_BYTES else io.BytesIO(body)


def _is_event_stream(response: aiohttp.ClientResponse) -> bool:
    """Whether an answer comes piece by piece, even if we were not told to expect that."""
    kind: str = response.headers.get("content-type", "")
    return kind.lower().startswith("text/event-stream")


async def _hold(
    first: bytes, content: aiohttp.StreamReader, most_bytes: int, most_s: float
) -> bytes:
    """``first`` and what follows it, until the end or one of the limits."""
    parts, size = [first], len(first)
    limit = asyncio.timeout(most_s)
    try:
        async with limit:
            while size < most_bytes and (piece := await content.readany()):
                parts.append(piece)
                size += len(piece)
    except TimeoutError:
        if not limit.expired():
            raise
    return b"".join(parts)
