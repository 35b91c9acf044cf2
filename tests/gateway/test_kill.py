"""kill -9 of an upstream, and everything else, under load; what clients saw is reported."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.planned import Server

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
router = "length"
[resilience]
breaker_failures = 3
retry_budget = 0.5
[[models.strong.endpoints]]
base_url = "{dying}"
{other}
"""
BODY = {"model": "strong", "messages": [{"role": "user", "content": "hello"}]}
REQUESTS, CLIENTS = 60, 4


@contextmanager
def upstream() -> Iterator[tuple[Server, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "fakes.openai_any"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield Server(int(process.stdout.readline())), process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def load(gateway: Gateway, kill: Callable[[], None]) -> Counter[str]:
    """What the clients saw; ``kill`` is called when a third of it is done."""
    seen: Counter[str] = Counter()
    lock = threading.Lock()

    def client() -> None:
        for _ in range(REQUESTS):
            try:
                outcome = str(gateway.ask("POST", "/v1/chat/completions", BODY).status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
            with lock:
                seen[outcome] += 1

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while sum(seen.values()) < REQUESTS * CLIENTS // 3:
        time.sleep(0.005)
    kill()
    for thread in threads:
        thread.join()
    return seen


def test_with_another_endpoint_clients_see_nothing(
    upstream_server: Server, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with upstream() as (dying, process):
        other = f'[[models.strong.endpoints]]\nbase_url = "{upstream_server.base_url}"'
        text = CONFIG.format(dying=dying.base_url, other=other)
        with gateways.start("--config", gateways.write_config(tmp_path, text)) as gateway:
            seen = load(gateway, process.kill)
            record_property("clients_saw", dict(seen))
            print("kill -9 of one of two upstreams: clients saw", dict(seen))
            assert seen == {"200": REQUESTS * CLIENTS}
            assert gateway.events("retry")


def test_without_another_clients_are_told_at_once(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with upstream() as (dying, process):
        text = CONFIG.format(dying=dying.base_url, other="")
        with gateways.start("--config", gateways.write_config(tmp_path, text)) as gateway:
            seen = load(gateway, process.kill)
            record_property("clients_saw", dict(seen))
            print("kill -9 of the only upstream: clients saw", dict(seen))
            assert sum(seen.values()) == REQUESTS * CLIENTS
            # Nothing but answers, "could not be reached" and, from the breaker, "not asked".
            assert set(seen) <= {"200", "502", "503"}
            assert seen["200"] >= REQUESTS * CLIENTS // 3
            assert seen["503"] > seen["502"]
            assert gateway.events("breaker_opened")


@pytest.mark.parametrize(
    "command",
    [
        "serve_soak.py --seconds 1",
        "serve_soak.py --seconds 2 --cascade",
        "serve_fuzz.py --count 400",
        # Its bounds are for a machine without other work.
        "serve_cascade.py --count 12 --rounds 1 --most-added-ms 500 --most-closing-ms 500",
    ],
)
def test_the_benches_run(command: str) -> None:
    """A moment of the soaks, the fuzzer and the cascade's bench: CI runs more of the first two."""
    name, *arguments = command.split()
    done = subprocess.run(
        [sys.executable, str(Path(__file__).parents[2] / "bench" / name), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok" in done.stdout
