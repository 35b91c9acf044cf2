"""A provider that sends exactly the bytes it is given, and keeps exactly those that it got."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class RawUpstream:
    """One answer a connection, the last one again and again.

    An answer is a list of bytes to send and of seconds to wait; the connection is closed after it.
    """

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        self.answers: list[list[bytes | float]] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def plan(self, *answers: list[bytes | float]) -> None:
        """What to answer from now on; forgets what came before."""
        self.answers = list(answers)
        self.heads, self.bodies = [], []

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                piece = connection.recv(65536)
                if not piece:
                    return
                received += piece
            head, _, body = received.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            parts = [body]
            while sum(map(len, parts)) < length:
                parts.append(connection.recv(2**20))
            self.heads.append(head)
            self.bodies.append(b"".join(parts))
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            with suppress(OSError):  # the gateway gave up, as it may
                for part in answer:
                    if isinstance(part, bytes):
                        connection.sendall(part)
                    else:
                        time.sleep(part)


@contextmanager
def start() -> Iterator[RawUpstream]:
    """Listen until the block ends."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield RawUpstream(listener)


def send(port: int, data: bytes, *, timeout_s: float = 30.0) -> bytes:
    """Send ``data`` on a connection of its own; returns what came until it was closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def post(body: bytes, *headers: bytes, version: bytes = b"1.1") -> bytes:
    """A chat completion as the bytes of HTTP, on a connection that ends with it."""
    own = [b"host: localhost", b"content-length: %d" % len(body), b"connection: close"]
    lines = [b"POST /v1/chat/completions HTTP/" + version, *own, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
