"""HTTP/1.1 as the gateway speaks it with its clients: aiohttp's server, with limits around it.

Servers measured on two cores, a body of 150 bytes read and one of 230 answered (microseconds of
processor time a request): aiohttp 25, uvicorn 22, granian 37, hypercorn 120. aiohttp was chosen:
with public interfaces only it keeps the bytes of headers, ignores offers to upgrade, queues at most
32 requests of a connection and stops reading then, and it is the client library too.

What it leaves open is closed by a protocol in front of it:

- connections are limited to what the process has descriptors for: the one that is idle for longest
  makes room for a new one;
- the head of a request is limited in size and, as is an idle connection, in time;
- a client that does not read its answer is disconnected.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from fastroute.gateway.operations.logs import log

MAX_HEADERS = 128
#: Of the request line, and of each header.
MAX_HEADER_BYTES = 32 * 1024
#: What a connection may send before a request of it is complete up to its body.
MAX_HEAD_BYTES = 1024 * 1024
#: Seconds that a connection may be idle, or take for the head of a request. Proxies that keep
#: connections, such as nginx (60 s), must close them first.
IDLE_S = 75.0
#: Seconds in which a client must read something of an answer that waits for it.
STALLED_S = 60.0
#: Seconds in which what is left of a refused body is read and thrown away, so that the client sees
#: the refusal before the connection ends.
LINGER_S = 1.0
#: Descriptors kept for other things than connections: files, pipes, the listener.
_SPARE_DESCRIPTORS = 48
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n"
    b"content-length: 0\r\n\r\n"
)
_RESET = struct.pack("ii", 1, 0)

# aiohttp logs an error for each malformed request, though the client made it.
_SILENT = logging.getLogger("fastroute.gateway.http")
_SILENT.setLevel(logging.CRITICAL)

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Server:
    """Serves ``handler`` on one socket. Make it in a running event loop.

    Args:
        handler: answers one request; it is cancelled when its client leaves.
        stalled_s: as STALLED_S.
        idle_s: as IDLE_S.
    """

    def __init__(
        self, handler: Handler, *, idle_s: float = IDLE_S, stalled_s: float = STALLED_S
    ) -> None:
        self.stalled_s = stalled_s
        self.max_connections = _max_connections()
        self._handler = handler
        self._http = web.Server(
            self._answer,
            handler_cancellation=True,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=idle_s,
            lingering_time=LINGER_S,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
        )
        self._connections: dict[asyncio.BaseTransport, _Connection] = {}
        self._idle: dict[_Connection, None] = {}  # the longest idle first
        self._tasks: set[asyncio.Task[object]] = set()
        self._full = 0
        self._listening: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Accept connections. Raises OSError if ``listener`` can't listen."""
        listener.listen(2048)  # uvloop's server would not raise it
        loop = asyncio.get_running_loop()
        is_local = listener.family == socket.AF_UNIX
        self._listening = await (loop.create_unix_server if is_local else loop.create_server)(
            lambda: _Connection(self, self._http()), sock=listener, backlog=2048
        )

    async def stop(self, timeout_s: float) -> None:
        """Accept no more connections, close idle ones, and end requests after ``timeout_s``."""
        if self._listening is not None:
            self._listening.close()
        asyncio.get_running_loop().call_later(timeout_s, self._cancel)
        await self._http.shutdown(timeout_s + 1.0)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        transport, task = request.transport, asyncio.current_task()
        connection = self._connections.get(transport) if transport is not None else None
        if connection is None or task is None:
            raise asyncio.CancelledError  # the client left before its request was looked at
        self._tasks.add(task)
        self._idle.pop(connection, None)
        connection.begin()
        try:
            return await self._handler(request)
        finally:
            self._tasks.discard(task)
            if transport in self._connections:
                connection.end()
                self._idle[connection] = None

    def add(self, connection: _Connection, transport: asyncio.Transport) -> None:
        """Take a connection up, in place of an idle one if there are too many."""
        if len(self._connections) >= self.max_connections:
            self._make_room(transport)
        self._connections[transport] = connection
        self._idle[connection] = None

    def remove(self, connection: _Connection, transport: asyncio.Transport) -> None:
        """Forget a connection that was closed."""
        self._connections.pop(transport, None)
        self._idle.pop(connection, None)

    def _make_room(self, new: asyncio.Transport) -> None:
        self._full += 1
        if self._full & (self._full - 1) == 0:  # a line each time it has doubled
            log(
                "too many connections: the longest idle are closed, or new ones refused",
                logging.WARNING,
                max_connections=self.max_connections,
                times=self._full,
            )
        for oldest in list(self._idle)[:1]:
            del self._idle[oldest]
            oldest.close()
            return
        new.write(_FULL)
        new.close()

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()


class _Connection(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol for it."""

    def __init__(self, server: Server, http: web.RequestHandler) -> None:
        self._server = server
        self._http = http
        self._transport: asyncio.Transport
        self._head_bytes = 0
        self._is_busy = False
        self._stalled: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """A request is being answered."""
        self._is_busy = True

    def end(self) -> None:
        """It has been answered."""
        self._is_busy = False
        self._head_bytes = 0

    def close(self) -> None:
        """End the connection when what was written has been sent."""
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is not a subclass
        self._http.connection_made(transport)
        self._server.add(self, self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._server.remove(self, self._transport)
        self._http.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._is_busy:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._transport.abort()
                return
        self._http.data_received(data)

    def eof_received(self) -> None:
        self._http.eof_received()  # and the connection ends: a client that is done has left

    def pause_writing(self) -> None:
        self._http.pause_writing()
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self._server.stalled_s, self._transport.abort)

    def resume_writing(self) -> None:
        self._stop_timer()
        self._http.resume_writing()

    def _stop_timer(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


def cut_off(request: web.BaseRequest) -> None:
    """End the connection of ``request``, whose answer broke off, so that its client can tell.

    The end of a connection is the end of an answer to a client of HTTP/1.0 (RFC 9112, 6.3): there
    the connection is reset.
    """
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None and request.version.minor == 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.close()


def _max_connections() -> int:
    """Half of the descriptors that the process may have: each may need one to a provider."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 65536
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return max(8, (min(soft, most) - _SPARE_DESCRIPTORS) // 2)
