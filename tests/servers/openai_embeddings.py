"""A real HTTP server that speaks OpenAI's ``POST /v1/embeddings``, and misbehaves when told to.

Tests start it as a process of its own::

    with start() as server:
        server.plan({"kind": "status", "status": 429, "headers": {"Retry-After": "1"}})
        ...  # the next request gets that answer, those after it are served as usual
        assert server.requests()[0]["input"] == ["a prompt"]

Kinds of plan: ``status`` (``status``, ``headers``, ``message``, ``code``, ``raw`` body), ``stall``
(``seconds``), ``trickle`` (``seconds`` between pieces), ``reset`` (no answer), ``cut`` (half an
answer), ``garbage`` (``raw`` body with status 200), ``reverse`` (data out of order, ``index``
right), ``dimensions`` (``dimensions``), ``fewer``, ``same_index``, ``no_index``, ``ragged``,
``value`` (``value`` in place of the first vector), ``base64``.

By itself: ``python openai_embeddings.py [DIMENSIONS]`` prints the port and serves until its
standard input ends.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DEFAULT_DIMENSIONS = 8


def vector_of(text: str, dimensions: int = DEFAULT_DIMENSIONS) -> list[float]:
    """The vector served for ``text``: from its SHA-256, exact in float32."""
    blocks = (hashlib.sha256(f"{i}:{text}".encode()).digest() for i in range(dimensions))
    return [(struct.unpack("<H", block[:2])[0] - 32768) / 32768 for block in blocks]


class Server:
    """A running server, seen from the tests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def plan(self, *behaviours: dict[str, Any]) -> None:
        """Behaviours of the next requests, one each; replaces an older plan."""
        self._ask("POST", "/plan", behaviours)

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far: its JSON body, plus ``headers`` (lower case), ``path``, ``at``."""
        seen: list[dict[str, Any]] = self._ask("GET", "/requests")
        return seen

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


@contextmanager
def start(dimensions: int = DEFAULT_DIMENSIONS) -> Iterator[Server]:
    """Run the server in another process until the block ends."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(dimensions)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Server(int(process.stdout.readline()))
    finally:
        process.stdin.close()  # the server ends with it, and so it can't outlive the tests
        process.wait(timeout=10)
        process.stdout.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    dimensions = DEFAULT_DIMENSIONS
    lock = threading.Lock()
    plan: list[dict[str, Any]] = []  # noqa: RUF012  (shared by all connections on purpose)
    seen: list[dict[str, Any]] = []  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.lock:
            self._answer(json.dumps(self.seen).encode())

    def do_POST(self) -> None:
        at = time.monotonic()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/plan":
            with self.lock:
                self.plan[:] = body
            self._answer(b"{}")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.lock:
            self.seen.append({**body, "headers": headers, "path": self.path, "at": at})
            behaviour = self.plan.pop(0) if self.plan else {"kind": "usual"}
        try:
            self._behave(behaviour, body)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
            self.close_connection = True

    def _behave(self, behaviour: dict[str, Any], body: dict[str, Any]) -> None:
        kind = behaviour["kind"]
        if self.path.partition("?")[0] != "/v1/embeddings":
            self._fail(404, f"no such path: {self.path}")
        elif any(not text for text in body["input"]):
            self._fail(400, "input must not be an empty string")
        elif kind == "status":
            self._fail(
                behaviour["status"],
                behaviour.get("message", "as planned"),
                behaviour.get("code"),
                behaviour.get("headers", {}),
                behaviour.get("raw"),
            )
        elif kind == "stall":
            time.sleep(behaviour["seconds"])
            self._answer(self._embeddings(behaviour, body))
        elif kind == "trickle":
            self._start(200, 100)
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(behaviour["seconds"])
        elif kind == "reset":
            # No linger: the client sees a reset and not a clean end.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        elif kind == "cut":
            answer = self._embeddings(behaviour, body)
            self._start(200, len(answer))
            self.wfile.write(answer[: len(answer) // 2])
            self.close_connection = True
        elif kind == "garbage":
            self._answer(behaviour["raw"].encode())
        else:
            self._answer(self._embeddings(behaviour, body))

    def _embeddings(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        kind = behaviour["kind"]
        dimensions = behaviour.get("dimensions", body.get("dimensions", self.dimensions))
        data: list[dict[str, Any]] = []
        for i, text in enumerate(body["input"]):
            vector: Any = vector_of(text, dimensions)
            if kind == "base64" or body.get("encoding_format") == "base64":
                vector = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
            data.append({"object": "embedding", "index": i, "embedding": vector})
        if kind == "reverse":
            data.reverse()
        elif kind == "fewer":
            data.pop()
        elif kind == "same_index":
            data[-1]["index"] = 0
        elif kind == "no_index":
            del data[-1]["index"]
        elif kind == "ragged":
            data[-1]["embedding"] = data[-1]["embedding"][:-1]
        elif kind == "value":
            data[0]["embedding"] = behaviour["value"]
        return json.dumps({"object": "list", "data": data, "model": body["model"]}).encode()

    def _fail(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        raw: str | None = None,
    ) -> None:
        error = {"error": {"message": message, "type": "planned", "code": code}}
        body = json.dumps(error).encode() if raw is None else raw.encode()
        self._start(status, len(body), headers)
        self.wfile.write(body)

    def _answer(self, body: bytes) -> None:
        self._start(200, len(body))
        self.wfile.write(body)

    def _start(self, status: int, length: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # many threads of a test may come at once


def main() -> None:
    if len(sys.argv) > 1:
        _Handler.dimensions = int(sys.argv[1])
    server = _Server(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
