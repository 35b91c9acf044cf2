"""Requests at a fixed rate, whether or not earlier ones were answered."""

from __future__ import annotations

import asyncio
import gc
import selectors
import time
from collections.abc import Callable
from typing import Any, cast

#: select takes no more files than 1024; a request that waits for a connection is late.
_MOST_CONNECTIONS = 256


class _Connection(asyncio.Protocol):
    """A connection that is kept; one request at a time."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self._received = b""
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.due:
            self._run.end(self, None)

    def send(self, raw: bytes, due: float) -> None:
        self.due = due
        self.transport.write(raw)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if end:
            at = head.lower().find(b"content-length:") + 15
            if len(body) >= int(head[at:].split(b"\r\n", 1)[0]):
                self._received = b""
                self._run.end(self, head)


class _Run:
    def __init__(self, port: int, grade: Callable[[bytes], bytes | None]) -> None:
        self.port = port
        self.taken: list[float] = []
        self.failed = self.graded = self.under_way = 0
        self._grade = grade
        self._free: list[_Connection] = []
        self._count = 0

    async def send(self, raw: bytes, due: float) -> None:
        self.under_way += 1
        while not self._free and self._count >= _MOST_CONNECTIONS:
            await asyncio.sleep(0.0001)
        connection = self._free.pop() if self._free else await self._opened()
        connection.send(raw, due)

    def end(self, connection: _Connection, head: bytes | None) -> None:
        due, connection.due = connection.due, 0.0
        if head is None or not head.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        elif due < 0:
            self.graded += 1
        else:
            self.taken.append(time.perf_counter() - due)
            grade = self._grade(head)
            if grade is not None:
                connection.send(grade, -1.0)
                return
        self.under_way -= 1
        if head is None:
            self._count -= 1
        else:
            self._free.append(connection)

    def close(self) -> None:
        for connection in self._free:
            connection.transport.close()

    async def _opened(self) -> _Connection:
        loop = asyncio.get_running_loop()
        self._count += 1
        _, made = await loop.create_connection(lambda: _Connection(self), "127.0.0.1", self.port)
        return made


def at_rate(
    port: int, raw: bytes, rate: float, seconds: float, grade: Callable[[bytes], bytes | None]
) -> tuple[list[float], int, int]:
    """Seconds of each request from when it was due, how many failed, and how many were graded.

    ``grade`` makes the next request on a connection of the head of an answer; None for none. A
    request is due every 1 / ``rate`` seconds; one that is sent late has waited since then.
    """

    async def send() -> _Run:
        run = _Run(port, grade)
        began = time.perf_counter() + 0.05
        for number in range(int(rate * seconds)):
            due = began + number / rate
            left = due - time.perf_counter()
            if left > 0:
                await asyncio.sleep(left)
            await run.send(raw, due)
        end = time.monotonic() + 30
        while run.under_way and time.monotonic() < end:
            await asyncio.sleep(0.01)
        run.failed += run.under_way
        run.close()
        await asyncio.sleep(0)
        return run

    # epoll counts milliseconds, select microseconds.
    def loop() -> Any:
        return asyncio.SelectorEventLoop(selectors.SelectSelector())

    gc.disable()
    try:
        with asyncio.Runner(loop_factory=loop) as runner:
            run = runner.run(send())
    finally:
        gc.enable()
        gc.collect()
    return run.taken, run.failed, run.graded
