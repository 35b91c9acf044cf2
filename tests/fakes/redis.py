"""A real Redis server in another process, and a network in front of it that can be cut."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes.ports import free_port

#: What a server, or a Sentinel, says when it has begun.
_BEGUN = ("Ready to accept connections", "Sentinel ID is")


class Redis:
    """A server whose data end with its process, as in a cache without a disk.

    Args:
        folder: where it writes.
        options: of its command line.
        tls: whether its port is one for TLS.

    Raises AssertionError with what it wrote if it does not start.
    """

    def __init__(self, folder: Path, *options: str, tls: bool = False) -> None:
        found = shutil.which("redis-server") or shutil.which("valkey-server")
        if found is None:
            pytest.skip("neither redis-server nor valkey-server is installed")
        self._command = [found, *options, "--dir", str(folder)]
        if "--sentinel" not in options:
            self._command += ["--save", "", "--bind", "127.0.0.1"]
        self._port_options = ("--port", "0", "--tls-port") if tls else ("--port",)
        self._log = folder / "log"
        for attempt in range(5):
            self.port = free_port()
            try:
                self.start()
            except AssertionError:
                if attempt == 4 or "Address already in use" not in self._log.read_text():
                    raise
            else:
                return

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it, again on the same port, and wait until it answers."""
        command = [*self._command, *self._port_options, str(self.port)]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + 60
        while time.monotonic() < end and self._process.poll() is None:
            # Its own words: another program may answer at this port.
            if any(words in self._log.read_text() for words in _BEGUN):
                return
            time.sleep(0.01)
        self.kill()
        raise AssertionError(f"the server did not start: {self._log.read_text()}")

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, *words: str) -> str:
        """The reply to a command, as redis-cli writes it."""
        command = ["redis-cli", "-p", str(self.port), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout.strip()


@contextlib.contextmanager
def start(folder: Path, *options: str, tls: bool = False) -> Iterator[Redis]:
    """Run a server until the block ends."""
    server = Redis(folder, *options, tls=tls)
    try:
        yield server
    finally:
        server.kill()


class Network:
    """Carries connections to ``target``, each piece ``delay_s`` late, until it is cut; a cut one
    answers nothing, and says nothing of it."""

    def __init__(self, target: int) -> None:
        self.delay_s = 0.0
        self._target = target
        self._carries = threading.Event()
        self._carries.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """From now on bytes are dropped, and never arrive."""
        self._carries.clear()

    def restore(self) -> None:
        """Carry again; the connections from before end."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()
        self._carries.set()

    def close(self) -> None:
        self.restore()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            if self._carries.is_set():
                with contextlib.suppress(OSError):
                    server = socket.create_connection(("127.0.0.1", self._target), 1)
                    self._sockets.append(server)
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=self._copy, args=pair, daemon=True).start()
                    continue
                client.close()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                time.sleep(self.delay_s)
                if self._carries.is_set():
                    target.sendall(data)
        for end in (source, target):
            end.close()


@contextlib.contextmanager
def network(target: int) -> Iterator[Network]:
    """A network to the port ``target`` until the block ends."""
    made = Network(target)
    try:
        yield made
    finally:
        made.close()
