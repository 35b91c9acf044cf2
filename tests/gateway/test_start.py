"""A gateway says that it listens when every worker can answer, and not before or otherwise.

A router that is added to a copy of the package waits for a named pipe, so that a test decides how
long loading takes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes.gateway import stop
from router_package import copy_with_router

ROUTER = '''
"""Waits for a pipe when it is made."""

from __future__ import annotations

from pathlib import Path

from fastroute.errors import InvalidInputError
from fastroute.routers.length import LengthRouter
from fastroute.routers.spec import RouterSpec


class WaitingRouter(LengthRouter):
    """``length`` by another name."""

    name = "waiting"


def _make_waiting(pipe: str) -> WaitingRouter:
    if Path(pipe).read_text() != "go":
        raise InvalidInputError("the pipe does not say go")
    return WaitingRouter()


SPEC = RouterSpec("waiting", "waits for a pipe", _make_waiting)
'''
SLOW = '[routing]\nstrong_model = "strong"\nweak_model = "weak"\nrouters = ["waiting"]\n'
LISTENING = '"event": "listening on http://'


class Start:
    """A gateway that may not be up yet, on a port that is held for it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, port: int) -> None:
        self.process = process
        self.port = port
        self._log = log

    def said(self) -> str:
        return self._log.read_text("utf-8")

    def events(self, name: str) -> int:
        lines = [line for line in self.said().splitlines() if line.startswith("{")]
        return sum(json.loads(line)["event"] == name for line in lines)

    def wait_for(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.02)

    def refuses(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=10).close()
        except ConnectionRefusedError:
            return True
        return False


@pytest.fixture(scope="module", autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The gateways of these tests have the router ``waiting``."""
    root = copy_with_router(tmp_path_factory.mktemp("package"), "waiting", ROUTER)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(root))
        yield


@contextmanager
def starting(
    folder: Path,
    config: Path,
    *arguments: str,
    said: int | None = None,
    before: Sequence[str] = (),
) -> Iterator[Start]:
    """Start a gateway, whose standard error is a file unless it is ``said``; ``before`` comes
    before its command."""
    log = folder / "log.txt"
    with socket.socket() as held, log.open("wb") as file:
        # Bound and not listening: the gateway may bind it too, and nobody else gets it.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        command = [sys.executable, "-m", "fastroute", "serve", "--port", str(port)]
        process = subprocess.Popen(
            [*before, *command, "--config", str(config), *arguments], stderr=said or file
        )
        try:
            yield Start(process, log, port)
        finally:
            stop(process)


def slow_config(folder: Path) -> tuple[Path, Path]:
    """A config whose router waits for a pipe, and the pipe."""
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    config = folder / "gateway.toml"
    config.write_text(f'{SLOW}[routers.waiting]\npipe = "{pipe}"\n')
    return config, pipe


def test_it_listens_when_its_routers_are_loaded(tmp_path: Path) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config) as start:
        with pipe.open("w") as writer:  # waits until the router is at it
            assert LISTENING not in start.said()
            assert start.events("serving") == 0
            assert start.refuses()  # and does not let a request wait
            writer.write("go")
        start.wait_for(lambda: LISTENING in start.said())
        assert start.events("serving") == 1
        assert not start.refuses()


def test_it_listens_when_every_worker_is_ready(tmp_path: Path) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config, "--workers", "3") as start:
        for ready in range(3):
            with pipe.open("w") as writer:
                assert LISTENING not in start.said()
                assert start.refuses() == (ready == 0)
                writer.write("go")
            start.wait_for(lambda ready=ready: start.events("serving") == ready + 1)
        start.wait_for(lambda: LISTENING in start.said())
        start.process.send_signal(signal.SIGTERM)
        assert start.process.wait(timeout=20) == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reload_that_comes_early_is_not_lost(tmp_path: Path, workers: int) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config, "--workers", str(workers)) as start:
        with pipe.open("w") as writer:
            # The first worker has read the old config, and can't listen to the signal yet.
            config.write_text(SLOW.replace("waiting", "length"))
            start.process.send_signal(signal.SIGHUP)
            writer.write("go")
        start.wait_for(lambda: LISTENING in start.said())
        start.wait_for(lambda: start.events("reloaded") >= 1)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_cannot_be_loaded_ends_the_start(tmp_path: Path, workers: int) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config, "--workers", str(workers)) as start:
        with pipe.open("w") as writer:
            writer.write("stop")
        assert start.process.wait(timeout=60) == 2
        assert LISTENING not in start.said()
        assert start.said().count("the pipe does not say go") == 1
        assert "Traceback" not in start.said()
        assert start.events("serving") == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_ends_the_start(tmp_path: Path, workers: int, number: signal.Signals) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config, "--workers", str(workers)) as start:
        with pipe.open("w"):  # the router is at it, and gets nothing
            start.process.send_signal(number)
            status = start.process.wait(timeout=20)
        assert status == (0 if workers > 1 else 130 if number == signal.SIGINT else -number)
    assert LISTENING not in start.said()
    assert "Traceback" not in start.said()


@pytest.mark.parametrize("workers", [1, 2])
def test_it_runs_without_standard_streams(tmp_path: Path, workers: int) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(SLOW.replace("waiting", "length"))
    closing = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"]
    with starting(tmp_path, config, "--workers", str(workers), before=closing) as start:
        start.wait_for(lambda: not start.refuses())
        start.process.send_signal(signal.SIGTERM)
        assert start.process.wait(timeout=20) == 0


def test_a_worker_that_is_killed_while_it_loads_ends_the_start(tmp_path: Path) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config, "--workers", "2") as start:
        with pipe.open("w") as writer:
            writer.write("go")
        start.wait_for(lambda: start.events("worker started") == 2)
        lines = [json.loads(line) for line in start.said().splitlines() if line.startswith("{")]
        pids = [line["pid"] for line in lines if line["event"] == "worker started"]
        with pipe.open("w"):
            os.kill(pids[1], signal.SIGKILL)
            assert start.process.wait(timeout=60) == 1
        assert LISTENING not in start.said()
        assert start.events("worker died before it could serve") == 1


def test_a_port_taken_while_it_loads_is_an_error(tmp_path: Path) -> None:
    config, pipe = slow_config(tmp_path)
    with starting(tmp_path, config) as start, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pipe.open("w") as writer:
            other.bind(("127.0.0.1", start.port))
            other.listen()
            writer.write("go")
        assert start.process.wait(timeout=60) == 2
        assert f"can't listen on 127.0.0.1:{start.port}" in start.said()
        assert "Traceback" not in start.said()
        assert LISTENING not in start.said()


def test_it_serves_though_nobody_reads_that_it_listens(tmp_path: Path) -> None:
    config, pipe = slow_config(tmp_path)
    reader, writer = os.pipe()
    os.close(reader)
    with starting(tmp_path, config, said=writer) as start:
        os.close(writer)
        with pipe.open("w") as writer:
            writer.write("go")
        start.wait_for(lambda: not start.refuses())
        with pytest.raises(subprocess.TimeoutExpired):
            start.process.wait(timeout=1)
        start.process.send_signal(signal.SIGTERM)
        assert start.process.wait(timeout=20) == 0


def test_no_worker_outlives_the_supervisor() -> None:
    script = (
        "import socket, sys\n"
        "from fastroute.gateway.operations.workers import Supervisor\n"
        "def ready():\n"
        "    raise SystemExit(3)\n"
        "with socket.create_server(('127.0.0.1', 0)) as listener:\n"
        "    Supervisor([sys.executable, '-c', sys.argv[1]], 2, listener, 5.0).run('info', ready)\n"
    )
    # It says that it is ready, and waits; its arguments end with the pipe's number.
    worker = "import os, sys, time; os.write(int(sys.argv[-1]), b'1'); time.sleep(20)"
    process = subprocess.run(
        [sys.executable, "-c", script, worker], stderr=subprocess.PIPE, text=True, timeout=60
    )
    lines = [json.loads(line) for line in process.stderr.splitlines()]
    pids = [line["pid"] for line in lines if line["event"] == "worker started"]
    assert process.returncode == 3
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
