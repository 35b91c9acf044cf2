"""A gateway in another process, for tests."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back for a request that no client library shaped."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Gateway:
    """A running gateway, seen from the tests."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self.port = 0
        self._listening = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._listening.wait(90):  # others' tests may hold the processors
            process.kill()
            raise AssertionError("".join(self.lines))
        if not self.port:
            raise AssertionError(f"the gateway stopped: {''.join(self.lines)}")
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        self.wait_for(lambda: self.events("serving"))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.search(r"listening on http://\S+?:(\d+)\"", line)
            if found:
                self.port = int(found[1])
                self._listening.set()
        self._listening.set()

    def events(self, name: str) -> list[dict[str, Any]]:
        """The log's lines for one kind of event."""
        read = (json.loads(line) for line in list(self.lines) if line.startswith("{"))
        return [line for line in read if line["event"] == name]

    def wait_for(self, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
        """Wait until ``condition`` is true; returns what it returned."""
        end = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < end, "".join(self.lines[-20:])
            assert self.process.poll() is None or condition(), "".join(self.lines[-20:])
            time.sleep(0.02)
        return found

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; a body that is no bytes is sent as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = body if body is None or isinstance(body, bytes) else json.dumps(body)
            connection.request(method, path, sent, dict(headers or {}))
            answer = connection.getresponse()
            seen = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, seen, answer.read())
        finally:
            connection.close()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@contextmanager
def start(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    descriptors: int | None = None,
    cwd: Path | None = None,
) -> Iterator[Gateway]:
    """Run ``fastroute serve`` on a free port until the block ends, with at most ``descriptors``."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("OPENAI_")}
    limit = [] if descriptors is None else ["sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh"]
    process = subprocess.Popen(
        [*limit, sys.executable, "-P", "-m", "fastroute", "serve", "--port", "0", *arguments],
        env=inherited | dict(environment or {}),
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Gateway(process)
    finally:
        stop(process)
        assert process.stderr is not None
        process.stderr.close()


def write_config(folder: Path, text: str, name: str = "gateway.toml") -> str:
    """Write a config file; returns its path."""
    path = folder / name
    path.write_text(text, "utf-8")
    return str(path)


def stop(process: subprocess.Popen[Any]) -> None:
    """End a gateway by SIGTERM, and by force where that is not heard."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
