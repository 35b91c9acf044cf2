"""HTTP/1.1 as the gateway speaks it with its clients: uvicorn's, with limits and two old habits.

- Headers are limited in number, length and time.
- A client of HTTP/1.0 knows no chunks: an answer without a length ends with its connection, and is
  reset where it broke off, because nothing else would tell it from a whole one.
- A client may close its half of the connection after its request and still gets the answer.
  Whether it closed all of it can't be seen from that: it is asked by ``100 Continue``, which every
  client of HTTP/1.1 must be ready for (RFC 9110, 15.2), and which the system of one that left
  answers by a reset. HTTP/1.0 has nothing like it, so there, and once the answer has begun, the
  end of the client's half means that it left.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

if TYPE_CHECKING:
    from asyncio import TimerHandle

    from uvicorn._types import ASGI3Application, ASGISendEvent

MAX_HEADERS = 128
MAX_HEADER_BYTES = 64 * 1024
#: Seconds for a connection to send the whole head of its first request.
HEAD_TIMEOUT_S = 30.0
#: When a client that closed its half is asked whether it is still there: often enough at first to
#: let go of the provider soon, and then every few seconds.
_ASKED_AFTER_S = (0.0, 0.05, 0.2, 1.0)
_ASKED_EVERY_S = 5.0
_RESET = struct.pack("ii", 1, 0)


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1 with a limit on headers and on the time that they take."""

    _header_bytes = 0
    _in_head = True
    _head_timer: TimerHandle | None = None
    _half_closed = False

    def connection_made(
        self,
        transport: asyncio.Transport,  # type: ignore[override] # narrowed as uvicorn narrows it
    ) -> None:
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._half_closed = False
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        self._header_bytes = 0
        self._in_head = True
        if self._head_timer is None:  # a later request on the same connection
            self._start_timer()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(name + value)
        if self._in_head:  # a trailer is no header: it must not pass for, say, Authorization
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def _count(self, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES or len(self.headers) >= MAX_HEADERS:
            # httptools makes a parser error of it, and uvicorn a 400 and a closed connection.
            raise ValueError("too many or too long headers")

    def _start_timer(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def eof_received(self) -> bool:  # type: ignore[override] # uvicorn's says None, asyncio's this
        """Whether the connection stays open for the answer."""
        cycle = self.cycle
        waits = cycle is not None and not (cycle.more_body or cycle.response_started)
        if not waits or cycle.scope["http_version"] == "1.0":
            return False
        self._half_closed = True
        self._ask_whether_there(0)
        return True

    def _ask_whether_there(self, times: int) -> None:
        if not self._half_closed or self.transport.is_closing() or self.cycle.response_started:
            return
        if not self.pipeline:  # else it could land in the middle of an earlier answer
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        more = times + 1
        wait_s = _ASKED_AFTER_S[more] if more < len(_ASKED_AFTER_S) else _ASKED_EVERY_S
        self.loop.call_later(wait_s, self._ask_whether_there, more)

    def on_response_complete(self) -> None:
        was_last = not self.pipeline
        super().on_response_complete()
        if self._half_closed and was_last:  # nothing more can come
            self.transport.close()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if cycle.scope["http_version"] == "1.0":
            _end_with_connection(cycle)
        super()._start_asgi_task(cycle, app)


def _end_with_connection(cycle: RequestResponseCycle) -> None:
    """Let an answer without a length end with its connection (RFC 9112, 6.3)."""
    send, run = cycle.send, cycle.run_asgi
    ends_with_connection = False
    cycle.waiting_for_100_continue = False  # nor does HTTP/1.0 know that (RFC 9110, 10.1.1)

    async def send_unchunked(message: ASGISendEvent) -> None:
        nonlocal ends_with_connection
        if message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message.get("headers", [])}
            ends_with_connection = b"content-length" not in names
            if ends_with_connection:
                cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and ends_with_connection:
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    async def run_and_reset(app: Any) -> None:
        async def checked(scope: Any, receive: Any, asgi_send: Any) -> None:
            await app(scope, receive, asgi_send)
            if ends_with_connection and not cycle.response_complete:
                connection: socket.socket | None = cycle.transport.get_extra_info("socket")
                if connection is not None:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

        await run(checked)

    # uvicorn makes these objects itself, and leaves no other way to them.
    cycle.send = send_unchunked  # type: ignore[method-assign] # no other way, as above
    cycle.run_asgi = run_and_reset  # type: ignore[method-assign] # no other way, as above
