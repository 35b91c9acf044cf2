"""What the test servers share: a process of its own, plans, and every way to misbehave.

A server is a subclass of ``PlannedHandler`` in a module whose ``__main__`` calls ``serve``. Tests
start it by ``start`` and plan what happens to the next requests, one behaviour each::

    with start("fakes.openai_chat") as server:
        server.plan({"kind": "status", "status": 429, "headers": {"Retry-After": "1"}})
        ...  # the next request gets that answer, those after it are served as usual
        assert server.requests()[0]["model"] == "tiny"

Kinds of plan that every server knows: ``status`` (``status``, ``headers``, ``message``, ``code``,
``raw`` body), ``stall`` (``seconds``), ``trickle`` (``seconds`` between pieces), ``reset`` (no
answer), ``cut`` (half an answer), ``garbage`` (``raw`` body with status 200). In the texts of a
plan ``<authorization>`` and ``<host>`` stand for the request's own: a provider that repeats them.
"""

from __future__ import annotations

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
from pathlib import Path
from typing import Any, ClassVar


class Server:
    """A running server, seen from the tests."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.base_url = f"http://127.0.0.1:{port}/v1"

    def plan(self, *behaviours: dict[str, Any]) -> None:
        """Behaviours of the next requests, one each; replaces an older plan."""
        self._ask("POST", "/plan", behaviours)

    def requests(self) -> list[dict[str, Any]]:
        """Every request so far: its JSON body, plus ``headers`` (lower case), ``path``, ``at``,
        ``raw`` (the body as it came), ``port`` (of the client), ``gave_up`` (the client left)."""
        seen: list[dict[str, Any]] = self._ask("GET", "/requests")
        return seen

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class View:
    """A server as one test sees it: the requests since the test began, and no old plan."""

    def __init__(self, server: Server) -> None:
        self.base_url = server.base_url
        self.plan = server.plan
        self._server = server
        self._before = len(server.requests())
        server.plan()

    def requests(self) -> list[dict[str, Any]]:
        return self._server.requests()[self._before :]


@contextmanager
def start(module: str, *arguments: str) -> Iterator[Server]:
    """Run ``module`` as a server in another process until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=Path(__file__).parents[1],  # where "fakes" is found
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


class PlannedHandler(BaseHTTPRequestHandler):
    """Records requests and follows plans; a subclass says what a usual answer is."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    path_served = "/v1"
    lock = threading.Lock()
    plan: ClassVar[list[dict[str, Any]]] = []  # shared by all connections on purpose
    seen: ClassVar[list[dict[str, Any]]] = []

    def usual(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        """The answer to ``body``, as JSON."""
        raise NotImplementedError

    def special(self, _behaviour: dict[str, Any], _body: dict[str, Any]) -> bool:
        """Answer a request that is not usual; False if it is."""
        return False

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        with self.lock:
            self.answer(json.dumps(self.seen).encode())

    def do_POST(self) -> None:
        at = time.monotonic()
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        if self.path == "/plan":
            with self.lock:
                self.plan[:] = body
            self.answer(b"{}")
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.record: dict[str, Any] = {
            **body,
            "headers": headers,
            "path": self.path,
            "at": at,
            "raw": raw.decode(),
            "port": self.client_address[1],
            "gave_up": False,
        }
        with self.lock:
            self.seen.append(self.record)
            behaviour = self.plan.pop(0) if self.plan else {"kind": "usual"}
        for name in ("authorization", "host"):
            behaviour = _told(behaviour, f"<{name}>", headers.get(name, ""))
        try:
            self._behave(behaviour, body)
        except (BrokenPipeError, ConnectionResetError):  # the client gave up, as it should
            self.record["gave_up"] = True
            self.close_connection = True

    def _behave(self, behaviour: dict[str, Any], body: dict[str, Any]) -> None:
        kind = behaviour["kind"]
        if self.path.partition("?")[0] != self.path_served:
            self.fail(404, f"no such path: {self.path}")
        elif kind == "status":
            self.fail(
                behaviour["status"],
                behaviour.get("message", "as planned"),
                behaviour.get("code"),
                behaviour.get("headers", {}),
                behaviour.get("raw"),
            )
        elif kind == "trickle":
            self.begin(200, 100)
            for _ in range(100):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(behaviour["seconds"])
        elif kind == "reset":
            self.reset()
        elif kind == "garbage":
            self.answer(behaviour["raw"].encode())
        elif not self.special(behaviour, body):
            if kind == "stall":
                time.sleep(behaviour["seconds"])
            answer = self.usual(behaviour, body)
            if kind == "cut":
                self.begin(200, len(answer))
                self.wfile.write(answer[: len(answer) // 2])
                self.close_connection = True
            else:
                self.answer(answer)

    def reset(self) -> None:
        # No linger: the client sees a reset and not a clean end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def fail(
        self,
        status: int,
        message: str,
        code: str | None = None,
        headers: dict[str, str] | None = None,
        raw: str | None = None,
    ) -> None:
        error = {"error": {"message": message, "type": "planned", "code": code}}
        body = json.dumps(error).encode() if raw is None else raw.encode()
        self.begin(status, len(body), headers)
        self.wfile.write(body)

    def answer(self, body: bytes) -> None:
        self.begin(200, len(body))
        self.wfile.write(body)

    def begin(
        self,
        status: int,
        length: int | None,
        headers: dict[str, str] | None = None,
        kind: str = "application/json",
    ) -> None:
        """Status and headers; without a length the body comes in chunks."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()


def _told(plan: Any, word: str, value: str) -> Any:
    if isinstance(plan, dict):
        return {name: _told(entry, word, value) for name, entry in plan.items()}
    return plan.replace(word, value) if isinstance(plan, str) else plan


class _Server(ThreadingHTTPServer):
    request_queue_size = 64  # many threads of a test may come at once


def serve(handler: type[PlannedHandler]) -> None:
    """Print the port, and serve until standard input ends."""
    server = _Server(("127.0.0.1", 0), handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
