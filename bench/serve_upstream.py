"""A mock of a model's API that is faster than anything measured against it.

One process, one event loop, HTTP/1.1 with kept connections over plain asyncio, no framework. By
itself: ``python bench/serve_upstream.py [--errors P --stalls P --cuts P --seed N]`` prints the
port and serves until its standard input ends. ``GET /count`` tells how many requests came for
each ``x-request-number`` header, and ``GET /seen``, by model and that number, how many calls came,
how many were not refused, and when (``time.monotonic()``) the connection of an unanswered one was
closed.

Every answer is "Paris"; with ``--differ P`` a share P of them is another city. ``--delays A B``
waits ``delay_s`` before each answer: between A and B seconds, by model and number.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import ClassVar, cast

_ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "mock",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris is the capital of France."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28},
}
BODY = json.dumps(_ANSWER).encode()
STALL_S = 3.0
_EVENTS = [
    f'data: {{"id":"c","object":"chat.completion.chunk","choices":[{{"index":0,"delta":'
    f'{{"content":"word{i} "}},"finish_reason":null}}]}}\n\n'.encode()
    for i in range(20)
] + [
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
_ERROR = b'{"error":{"message":"mock failure","type":"server_error","code":null}}'


def _whole(status: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    return f"{head}\r\n\r\n".encode() + body


_USUAL = _whole("200 OK", BODY)
_OTHERS = [
    _whole("200 OK", BODY.replace(b"Paris", city))
    for city in (b"Lyon", b"Nice", b"Lille", b"Nantes", b"Toulouse")
]
_MODEL = re.compile(rb'"model": ?"([\w-]+)"')
_FAILED = _whole("500 Internal Server Error", _ERROR)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_CHUNKS = [f"{len(event):x}\r\n".encode() + event + b"\r\n" for event in _EVENTS]


def delay_s(model: str, number: str, delays: tuple[float, float]) -> float:
    """The seconds that ``model`` waits before it answers a request."""
    return random.Random(f"{model} {number}").uniform(*delays)


class Upstream(asyncio.Protocol):
    """One connection; requests are answered in order."""

    errors = stalls = cuts = differ = 0.0
    delays = (0.0, 0.0)
    rng = random.Random(0)
    numbers: ClassVar[Counter[str]] = Counter()
    calls: ClassVar[Counter[str]] = Counter()
    accepted: ClassVar[Counter[str]] = Counter()
    closed_s: ClassVar[dict[str, float]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self.received = bytearray()
        self.unanswered: str | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if self.unanswered is not None:
            self.closed_s[self.unanswered] = time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.received += data
        while True:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self.received[:end])
            lower = head.lower()
            length = 0
            at = lower.find(b"\r\ncontent-length:")
            if at >= 0:
                length = int(lower[at + 17 :].split(b"\r\n", 1)[0])
            if len(self.received) < end + 4 + length:
                return
            body = bytes(self.received[end + 4 : end + 4 + length])
            del self.received[: end + 4 + length]
            self._answer(lower, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /count"):
            self.transport.write(_whole("200 OK", json.dumps(self.numbers).encode()))
            return
        if head.startswith(b"get /seen"):
            seen = {"calls": self.calls, "accepted": self.accepted, "closed_s": self.closed_s}
            self.transport.write(_whole("200 OK", json.dumps(seen).encode()))
            return
        at = head.find(b"\r\nx-request-number:")
        number = ""
        if at >= 0:
            number = head[at + 19 :].split(b"\r\n", 1)[0].strip().decode()
            self.numbers[number] += 1
        found = _MODEL.search(body)
        model = found[1].decode() if found else ""
        call = f"{model} {number}"
        self.calls[call] += 1
        stream = b'"stream":true' in body.replace(b" ", b"")
        luck = self.rng.random()
        if luck < self.errors:
            self.transport.write(_FAILED)
            return
        self.accepted[call] += 1
        wait_s = delay_s(model, number, self.delays) if self.delays[1] else 0.0
        if luck < self.errors + self.stalls:
            wait_s += STALL_S
        if wait_s and not self.errors + self.stalls <= luck < self.errors + self.stalls + self.cuts:
            self.unanswered = call
            asyncio.get_running_loop().call_later(wait_s, self._usual, stream)
        elif luck < self.errors + self.stalls + self.cuts:
            if stream:
                self.transport.write(_STREAM_HEAD + b"".join(_CHUNKS[:5]))
            else:
                self.transport.write(_USUAL[:-20])
            self.transport.close()
        else:
            self._usual(stream)

    def _usual(self, stream: bool) -> None:
        if self.transport.is_closing():  # the client gave a stalled request up
            return
        self.unanswered = None
        if stream:
            self.transport.write(_STREAM_HEAD + b"".join(_CHUNKS) + b"0\r\n\r\n")
        else:
            differs = self.differ > 0 and self.rng.random() < self.differ
            self.transport.write(self.rng.choice(_OTHERS) if differs else _USUAL)


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=wait_for_end, daemon=True).start()
    await ended.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("errors", "stalls", "cuts", "differ"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    parser.add_argument("--delays", type=float, nargs=2, default=(0.0, 0.0))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    Upstream.differ, Upstream.delays = options.differ, tuple(options.delays)
    Upstream.errors, Upstream.stalls, Upstream.cuts = options.errors, options.stalls, options.cuts
    Upstream.rng = random.Random(options.seed)
    with suppress(ImportError):
        import uvloop

        uvloop.install()
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
