"""``HttpTransport`` for event loops: what ``Controller.acompletion`` and the judge send through.

It is httpx2 like its sibling, whose errors, proxies and timeouts are then the same and which every
install has. The gateway alone has a transport over another library, ``AiohttpTransport``: with many
requests at once aiohttp sends several times as many a second (bench/serve_clients.py), which a
gateway needs and a client does not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Self

from fastroute._forking import ForkSafeLock
from fastroute.errors import DispatchError, ProviderConnectionError
from fastroute.http.environment import find_proxy, tls_context
from fastroute.http.failures import raise_for_status
from fastroute.http.httpx_client import Attempt, client_options, headers_of
from fastroute.http.request import AsyncResponse, Request
from fastroute.http.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    import httpx2


class AsyncHttpTransport:
    """As ``HttpTransport``, for the tasks of one event loop or several.

    Connections belong to their event loop, and are closed with it by ``asyncio.run`` at the latest.

    Args:
        retry: as of ``HttpTransport``.
    """

    def __init__(self, *, retry: RetryPolicy | None = None) -> None:
        self._retry = retry or RetryPolicy()
        self._by_loop: dict[asyncio.AbstractEventLoop, _LoopClients] = {}
        self._closed = False
        self._lock = ForkSafeLock()
        self._rng = random.Random()

    async def asend(self, request: Request) -> AsyncResponse:
        """Send, with retries. Raises as ``Transport`` says, and DispatchError once closed."""
        attempts = Attempts(self._retry, request, self._rng)
        while True:
            try:
                return await self._send_once(attempts.request())
            except DispatchError as error:
                wait_s = attempts.wait_s(error)
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)

    async def aclose(self) -> None:
        """Close the connections of this event loop, and refuse further requests in each."""
        with self._lock:
            self._closed = True
            here = self._by_loop.pop(asyncio.get_running_loop(), None)
        if here is not None:
            await here.closer.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send_once(self, request: Request) -> AsyncResponse:
        clients = await self._clients()
        attempt = Attempt(request)
        try:
            return await _exchange(clients.find(request), attempt)
        except ProviderConnectionError:
            if not attempt.was_stale():
                raise
        return await _exchange(clients.find(request, keep=False), Attempt(request))

    async def _clients(self) -> _LoopClients:
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._closed:
                raise DispatchError("this AsyncHttpTransport is closed; make a new one")
            found = self._by_loop.get(loop)
            if found is None:
                # Connections can't leave their loop: each has its own, and those of ended loops go.
                self._by_loop = {k: v for k, v in self._by_loop.items() if not k.is_closed()}
                found = self._by_loop[loop] = _LoopClients()
        await found.start()
        return found


class _LoopClients:
    """The clients of one event loop."""

    def __init__(self) -> None:
        self._clients: dict[tuple[str | None, bool], httpx2.AsyncClient] = {}
        self._tls = tls_context()
        self._started = False
        self.closer = self._close_with_loop()

    async def start(self) -> None:
        if not self._started:
            self._started = True
            await anext(self.closer)

    def find(self, request: Request, *, keep: bool = True) -> httpx2.AsyncClient:
        import httpx2

        key = find_proxy(request.endpoint.address("").url), keep
        if key not in self._clients:
            self._clients[key] = httpx2.AsyncClient(**client_options(key[0], self._tls, keep=keep))
        return self._clients[key]

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        """Closes the clients when it is closed itself, which asyncio.run does before it ends."""
        try:
            yield
        finally:
            while self._clients:
                await self._clients.popitem()[1].aclose()


async def _exchange(client: httpx2.AsyncClient, attempt: Attempt) -> AsyncResponse:
    """Send once. A stream has its first byte when this returns, any other answer its last."""
    with attempt.translated(client):
        response = await client.send(attempt.prepare(client, attempt.trace_async), stream=True)
        try:
            streams = attempt.begin(response)
            status, headers, pieces = (
                response.status_code,
                headers_of(response),
                response.aiter_bytes(),
            )
            if streams:
                first = await anext(pieces, b"")
                rest = _rest(client, attempt, first, pieces)
                return AsyncResponse(status, headers, rest, response.aclose)
            async for piece in pieces:
                if not attempt.add(piece):
                    await response.aclose()
                    break
        except BaseException:
            await response.aclose()
            raise
    raise_for_status(attempt.request, status, headers, attempt.body())
    return AsyncResponse(status, headers, attempt.body())


async def _rest(
    client: httpx2.AsyncClient, attempt: Attempt, first: bytes, pieces: AsyncIterator[bytes]
) -> AsyncIterator[bytes]:
    with attempt.translated(client):
        if first:
            yield first
        async for piece in pieces:
            yield piece
