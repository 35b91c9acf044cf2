"""The workers' life: without their supervisor, without disk, without a reader, in any folder."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway

CONFIG = '[routing]\nstrong_model = "strong"\nweak_model = "weak"\nrouter = "length"\n'
ROUTE = {"model": "fastroute", "messages": [{"role": "user", "content": "short"}]}


@pytest.fixture
def config(tmp_path: Path) -> str:
    return gateways.write_config(tmp_path, CONFIG)


def pids(gateway: Gateway) -> list[int]:
    return [line["pid"] for line in gateway.events("worker started")]


def ended(pid: int) -> bool:
    """Whether a process has ended; one whose parent does not ask for its status counts."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    assert callable(condition)
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_workers_end_with_a_supervisor_that_is_killed(config: str) -> None:
    with gateways.start("--config", config, "--workers", "2") as gateway:
        gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
        gateway.process.kill()
        gateway.process.wait()
        wait_until(lambda: all(map(ended, pids(gateway))))
        with socket.socket() as again:  # and the port is free
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", gateway.port))
            again.listen()


@pytest.mark.parametrize("broken", ["threshold = 5\n", "[[[", None])
def test_a_worker_that_dies_after_a_refused_reload_has_the_last_good_configuration(
    config: str, broken: str | None
) -> None:
    path = Path(config)
    path.write_text(f"{CONFIG}threshold = 0.25\n")
    with gateways.start("--config", config, "--workers", "2") as gateway:
        gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
        path.write_text(f"{CONFIG}threshold = 0.375\n")
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: len(gateway.events("reloaded")) == 2)
        path.unlink() if broken is None else path.write_text(CONFIG + broken)
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: len(gateway.events("reload refused")) == 2)
        for pid in pids(gateway)[:2]:
            os.kill(pid, signal.SIGKILL)
        gateway.wait_for(lambda: len(gateway.events("serving")) == 4)
        assert len(gateway.events("the last good configuration is used")) == 2
        said = [gateway.ask("POST", "/v1/route", ROUTE).json()["threshold"] for _ in range(8)]
        assert set(said) == {0.375}
        assert len(pids(gateway)) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_temporary_folder_ends_no_worker(config: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine mounts nothing")
    try:
        environment = {"TMPDIR": str(small)}
        arguments = ("--config", config, "--workers", "2")
        with gateways.start(*arguments, environment=environment) as gateway:
            gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
            with suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
                while True:
                    filler.write(bytes(65536))
            for _ in range(40):
                assert gateway.ask("POST", "/v1/route", ROUTE).status == 200
            assert "fastroute_requests_total" in gateway.ask("GET", "/metrics").body.decode()
            assert not gateway.events("worker died")
            os.kill(pids(gateway)[0], signal.SIGKILL)  # its successor finds no room
            gateway.wait_for(lambda: len(gateway.events("serving")) == 3)
            said = "not enough disk space for shared counts: /metrics has those of one worker"
            assert len(gateway.events(said)) == 1, "".join(gateway.lines[-8:])
            for _ in range(40):
                assert gateway.ask("POST", "/v1/route", ROUTE).status == 200
                assert gateway.ask("GET", "/metrics").status == 200
            assert len(gateway.events("worker died")) == 1
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_counts_that_outgrow_a_full_folder_end_no_process(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine mounts nothing")
    code = """
import sys
from contextlib import suppress
from fastroute.gateway.operations.logs import configure_logs
from fastroute.gateway.operations.metrics import Metrics

configure_logs("info")
metrics = Metrics()
for number in range(100):  # the files grow while there is room
    metrics.upstream_s.labels(f"model {number}").observe(1.0)
with suppress(OSError), open(f"{sys.argv[1]}/filler", "wb", buffering=0) as filler:
    while True:
        filler.write(bytes(4096))
for number in range(3000):
    metrics.requests.labels(f"/{number}", "200").inc()
    metrics.upstream_s.labels(f"model {number}").observe(1.0)
metrics.upstream_s.labels("model 7").observe(1.0)
print(next(line for line in metrics.render().decode().splitlines()
           if 'upstream_seconds_count{model="model 7"}' in line))
"""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(small)],
            capture_output=True,
            text=True,
            env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(small)},
            check=False,
        )
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
    assert done.returncode == 0, (done.returncode, done.stderr)  # -7 is SIGBUS
    assert done.stdout.split()[-1] == "3.0"
    assert done.stderr.count("what has a new label is not counted") == 1


def test_workers_run_no_module_of_the_current_folder(config: str, tmp_path: Path) -> None:
    for name in ("numpy", "aiohttp", "json", "fastroute"):
        (tmp_path / f"{name}.py").write_text("import os\nos._exit(7)\n")
    with gateways.start("--config", config, "--workers", "2", cwd=tmp_path) as gateway:
        assert gateway.ask("POST", "/v1/route", ROUTE).status == 200


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_unread_log_stops_nothing(config: str, workers: str) -> None:
    reader, writer = os.pipe()
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        command = [sys.executable, "-P", "-m", "fastroute", "serve", "--config", config]
        process = subprocess.Popen(
            [*command, "--port", str(port), "--workers", workers], stderr=writer
        )
        os.close(writer)
        try:
            gateway = object.__new__(Gateway)
            gateway.port = port

            def up() -> bool:
                with suppress(OSError):
                    return gateway.ask("GET", "/health").status == 200
                return False

            wait_until(up, 30)
            # A line has some 300 bytes, a pipe 64 KiB: nobody has read one.
            for _ in range(600):
                assert gateway.ask("POST", "/v1/route", ROUTE).status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=15) == 0
        finally:
            process.kill()
            process.wait()
            os.close(reader)


def test_lines_that_nobody_reads_are_counted_and_dropped() -> None:
    script = (
        "import logging, os, time\n"
        "from fastroute.gateway.operations.logs import MAX_QUEUED, configure_logs, log\n"
        "configure_logs('info')\n"
        "for number in range(3 * MAX_QUEUED):\n"
        "    log('line', number=number, more='a' * 100)\n"
        "print('written', flush=True)\n"
        "input()\n"
        "log('last')\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "written\n"
    lines = []
    process.stdin.write("\n")
    process.stdin.close()
    lines = [json.loads(line) for line in process.stderr]
    assert process.wait(timeout=10) == 0
    dropped = sum(line["lines"] for line in lines if line["event"] == "log lines dropped")
    events = [line["event"] for line in lines]
    assert dropped > 0
    assert events.count("line") + events.count("last") + dropped == 3 * 10_000 + 1
    process.stdout.close()
    process.stderr.close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_every_line_of_the_log_is_json(config: str, workers: str) -> None:
    with gateways.start("--config", config, "--workers", workers) as gateway:
        gateway.ask("POST", "/v1/route", ROUTE)
        gateway.ask("POST", "/v1/route", b"{")
        with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
            connection.sendall(b"\x16\x03\x01\x00 not HTTP\r\n\r\n")
            connection.recv(65536)
        Path(config).write_text("[[[")
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reload refused"))
        if workers == "2":
            os.kill(pids(gateway)[0], signal.SIGKILL)
            gateway.wait_for(lambda: len(gateway.events("serving")) == 3)
        gateway.signal(signal.SIGTERM)
        assert gateway.process.wait(timeout=20) == 0
        lines = list(gateway.lines)
    assert [line for line in lines if not re.fullmatch(r"\{.*\}\n", line)] == []
    for line in lines:
        json.loads(line)


def test_warnings_and_uncaught_exceptions_are_lines_too() -> None:
    script = (
        "import threading, warnings\n"
        "from fastroute.gateway.operations.logs import configure_logs\n"
        "configure_logs('info')\n"
        "warnings.warn('take care')\n"
        "thread = threading.Thread(target=lambda: 1 / 0)\n"
        "thread.start(); thread.join()\n"
        "raise ValueError('the end')\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], capture_output=True, text=True, check=False
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [line.get("error") for line in lines] == [None, "ZeroDivisionError", "ValueError"]
    assert "take care" in lines[0]["event"]
