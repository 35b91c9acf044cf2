"""The transport over HTTP: one pool of connections, bounded retries, one door for errors."""

from __future__ import annotations

import asyncio
import datetime
import random
import threading
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

from fastroute import __version__
from fastroute.errors import (
    AnswerCutError,
    DispatchError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http.request import (
    AsyncResponse,
    RawHeaders,
    Request,
    Response,
    folded,
    may_ask_again,
    may_retry,
    status_error,
)
from fastroute.http.retry import backoff, retry_after_s

if TYPE_CHECKING:
    import httpx2

BACKOFF_S = 0.5
#: A provider that asks for a longer wait gets none: the caller can decide better.
MAX_RETRY_AFTER_S = 60.0

_MAX_CONNECTIONS = 1000
_KEPT_CONNECTIONS = 100
_KEPT_S = 30.0


class HttpTransport:
    """Sends over HTTP/1.1 with kept connections, shared by threads and by the tasks of a loop.

    No client is made before the first request. Answers are asked for uncompressed, so that bytes
    and headers are what the provider sent. Redirects are not followed. The usual variables
    (HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE) are honoured.

    A stream is returned when its first byte is here: until then it may be retried, see
    ``Endpoint.max_retries``; the wait doubles from half a second, with full jitter.
    """

    def __init__(self) -> None:
        self._client: httpx2.Client | None = None
        self._by_loop: dict[asyncio.AbstractEventLoop, _AsyncClient] = {}
        self._closed = False
        self._lock = threading.Lock()
        self._rng = random.Random()

    def send(self, request: Request) -> Response:
        """Send, with retries. Raises as ``Transport`` says, and DispatchError once closed."""
        client = self._open_client()
        attempts = 0
        while True:
            try:
                return _attempt(client, request)
            except DispatchError as error:
                attempts += 1
                wait_s = self._wait_s(request, error, attempts)
                if wait_s is None:
                    raise
            time.sleep(wait_s)

    async def asend(self, request: Request) -> AsyncResponse:
        """``send`` without blocking the event loop."""
        client = await self._open_async_client()
        attempts = 0
        while True:
            try:
                return await _attempt_async(client, request)
            except DispatchError as error:
                attempts += 1
                wait_s = self._wait_s(request, error, attempts)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)

    def close(self) -> None:
        """Close the connections of ``send``; those of ``asend`` end with their event loop."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    async def aclose(self) -> None:
        """Close the connections of ``send``, and those of ``asend`` in this event loop."""
        self.close()
        with self._lock:
            here = self._by_loop.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.closer.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _wait_s(self, request: Request, error: DispatchError, attempts: int) -> float | None:
        """Seconds before the next attempt; None if there should be none."""
        asked_s = 0.0
        if isinstance(error, ProviderStatusError):
            now = datetime.datetime.now(datetime.UTC)
            asked_s = retry_after_s(error.headers, now) or 0.0
            again = may_retry(error) and asked_s <= MAX_RETRY_AFTER_S
        else:
            again = _is_connection_trouble(error) and may_ask_again(request, error)
        if not again or attempts > request.endpoint.max_retries:
            if attempts > 1:
                error.add_note(f"after {attempts} attempts")
            return None
        return max(backoff(attempts - 1, BACKOFF_S, self._rng), asked_s)

    def _check_open(self) -> None:
        if self._closed:
            raise DispatchError("this HttpTransport is closed; make a new one")

    def _open_client(self) -> httpx2.Client:
        with self._lock:
            self._check_open()
            if self._client is None:
                import httpx2

                self._client = httpx2.Client(headers=_HEADERS, limits=_limits())
                # A transport that is dropped without close() leaves no socket open.
                weakref.finalize(self, self._client.close)
            return self._client

    async def _open_async_client(self) -> httpx2.AsyncClient:
        loop = asyncio.get_running_loop()
        with self._lock:
            self._check_open()
            found = self._by_loop.get(loop)
            if found is not None:
                return found.client
            import httpx2

            client = httpx2.AsyncClient(headers=_HEADERS, limits=_limits())
            closer = _close_with_loop(client)
            # Connections can't leave their loop: each has its own, and those of ended loops go.
            self._by_loop = {k: v for k, v in self._by_loop.items() if not k.is_closed()}
            self._by_loop[loop] = _AsyncClient(client, closer)
        await anext(closer)
        return client


class _AsyncClient(NamedTuple):
    client: httpx2.AsyncClient
    closer: AsyncGenerator[None, None]


async def _close_with_loop(client: httpx2.AsyncClient) -> AsyncGenerator[None, None]:
    """Closes ``client`` when it is closed itself, which asyncio.run does before its loop ends."""
    try:
        yield
    finally:
        await client.aclose()


_HEADERS = {
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": f"fastroute/{__version__}",
}


def _limits() -> httpx2.Limits:
    import httpx2

    return httpx2.Limits(
        max_connections=_MAX_CONNECTIONS,
        max_keepalive_connections=_KEPT_CONNECTIONS,
        keepalive_expiry=_KEPT_S,
    )


def _attempt(client: httpx2.Client, request: Request) -> Response:
    """Send once. A stream has its first byte when this returns, any other answer its last."""
    with _translated(client, request):
        prepared, end_s = _prepare(client, request)
        response = client.send(prepared, stream=True)
        headers = _headers_of(response)
        try:
            pieces = response.iter_bytes()
            if request.stream and response.is_success:
                first = next(pieces, b"")
                rest = _rest(client, request, first, pieces)
                return Response(
                    response.status_code, folded(headers), rest, response.close, headers
                )
            body = bytearray()
            with _cut(request, response, body):
                for piece in pieces:
                    body += piece
                    _check_time(request, end_s)
        except BaseException:
            response.close()
            raise
    _raise_failure(request, response.status_code, headers, bytes(body))
    whole = iter((bytes(body),))
    return Response(response.status_code, folded(headers), whole, raw_headers=headers)


async def _attempt_async(client: httpx2.AsyncClient, request: Request) -> AsyncResponse:
    with _translated(client, request):
        prepared, end_s = _prepare(client, request)
        response = await client.send(prepared, stream=True)
        headers = _headers_of(response)
        try:
            pieces = response.aiter_bytes()
            if request.stream and response.is_success:
                first = await anext(pieces, b"")
                later = _rest_async(client, request, first, pieces)
                return AsyncResponse(response.status_code, headers, later, response.aclose)
            body = bytearray()
            with _cut(request, response, body):
                async for piece in pieces:
                    body += piece
                    _check_time(request, end_s)
        except BaseException:
            await response.aclose()
            raise
    _raise_failure(request, response.status_code, headers, bytes(body))
    return AsyncResponse(response.status_code, headers, bytes(body))


def _rest(
    client: httpx2.Client, request: Request, first: bytes, pieces: Iterator[bytes]
) -> Iterator[bytes]:
    with _translated(client, request):
        if first:
            yield first
        yield from pieces


async def _rest_async(
    client: httpx2.AsyncClient, request: Request, first: bytes, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    with _translated(client, request):
        if first:
            yield first
        async for piece in pieces:
            yield piece


def _prepare(
    client: httpx2.Client | httpx2.AsyncClient, request: Request
) -> tuple[httpx2.Request, float]:
    """The request as httpx2 has it, and when its time is up on the monotonic clock."""
    import httpx2

    endpoint = request.endpoint
    headers = httpx2.Headers({"Accept": "text/event-stream" if request.stream else "*/*"})
    key = endpoint.find_key()
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    headers.update(dict(request.headers))
    named = {name for name, _ in request.raw_headers}
    kept = [pair for pair in headers.raw if pair[0].lower() not in named]
    headers = httpx2.Headers([*kept, *request.raw_headers])
    timeout_s = _timeout_s(request)
    prepared = client.build_request(
        "POST",
        endpoint.address(request.path).url,
        content=request.body,
        headers=headers,
        timeout=httpx2.Timeout(timeout_s, connect=min(endpoint.connect_timeout_s, timeout_s)),
    )
    return prepared, time.monotonic() + timeout_s


def _timeout_s(request: Request) -> float:
    return request.endpoint.timeout_s if request.timeout_s is None else request.timeout_s


def _headers_of(response: httpx2.Response) -> RawHeaders:
    return tuple((name.lower(), value) for name, value in response.headers.raw)


def _check_time(request: Request, end_s: float) -> None:
    if time.monotonic() > end_s:  # each wait was short enough, all together were not
        raise ProviderTimeoutError(
            f"{_shown(request)}: no complete answer in {_timeout_s(request):g} s; raise timeout_s"
        )


def _raise_failure(request: Request, status: int, headers: RawHeaders, body: bytes) -> None:
    if not 200 <= status < 300:
        raise status_error(request, status, headers, body)


@contextmanager
def _cut(request: Request, response: httpx2.Response, body: bytearray) -> Iterator[None]:
    """A successful answer that breaks off in its body is an AnswerCutError."""
    import httpx2

    try:
        yield
    except (httpx2.NetworkError, httpx2.RemoteProtocolError) as error:
        if not body or not response.is_success:
            raise
        raise AnswerCutError(
            f"{_shown(request)}: the answer broke off after {len(body)} bytes "
            f"({type(error).__name__}); it may have been paid for, so ask again only if you accept "
            "that, or set retry_cut_answers"
        ) from error


def _shown(request: Request) -> str:
    return request.endpoint.address(request.path).shown


@contextmanager
def _translated(client: httpx2.Client | httpx2.AsyncClient, request: Request) -> Iterator[None]:
    """The one door: what httpx2 raises leaves as an error of ours, with httpx2's as its cause."""
    import httpx2

    try:
        yield
    except httpx2.TimeoutException as error:
        connecting = isinstance(error, (httpx2.ConnectTimeout, httpx2.PoolTimeout))
        what = "no connection" if connecting else f"no answer in {_timeout_s(request):g} s"
        which = "connect_timeout_s" if connecting else "timeout_s"
        raise ProviderTimeoutError(
            f"{_shown(request)}: {what}; check that the endpoint is up, or raise {which}"
        ) from error
    except (httpx2.RequestError, httpx2.InvalidURL) as error:
        key = request.endpoint.find_key()
        reason = str(error) or "no reason given"
        if key is not None:
            reason = reason.replace(key, "***")
        raise ProviderConnectionError(
            f"{_shown(request)}: {type(error).__name__}: {reason}; check base_url, the network "
            "and that the endpoint is up"
        ) from error
    except RuntimeError as error:
        if client.is_closed:
            raise DispatchError("this HttpTransport was closed during the request") from error
        raise


def _is_connection_trouble(error: DispatchError) -> bool:
    """Whether no answer came because of the connection, and another may do better."""
    import httpx2

    cause = error.__cause__
    hopeless = (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.DecodingError)
    if isinstance(error, ProviderTimeoutError):
        return isinstance(cause, httpx2.ConnectTimeout)
    return isinstance(cause, httpx2.TransportError) and not isinstance(cause, hopeless)
