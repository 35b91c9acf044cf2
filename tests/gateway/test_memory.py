"""Reloads leave nothing behind: the old gateway goes with its last request."""

from __future__ import annotations

import resource
import signal
import time
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway

CONFIG = '[routing]\nstrong_model = "strong"\nweak_model = "weak"\nrouter = "{router}"\n'
ROUTE = {"model": "fastroute", "messages": [{"role": "user", "content": "short"}]}
RELOADS = 50


def rss_mb(gateway: Gateway) -> float:
    pages = int(Path(f"/proc/{gateway.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def settled_mb(gateway: Gateway) -> float:
    """The least of a second: freed memory is given back a moment after a reload."""
    found = []
    for _ in range(10):
        time.sleep(0.1)
        found.append(rss_mb(gateway))
    return min(found)


def reload(gateway: Gateway, count: int) -> None:
    for _ in range(count):
        before = len(gateway.events("reloaded"))
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda n=before: len(gateway.events("reloaded")) > n)
        assert gateway.ask("POST", "/v1/route", ROUTE).status == 200


@pytest.mark.parametrize("router", ["mf", "length"])
def test_memory_is_flat_over_reloads(tmp_path: Path, router: str) -> None:
    path = gateways.write_config(tmp_path, CONFIG.format(router=router))
    with gateways.start("--config", path) as gateway:
        started = settled_mb(gateway)
        reload(gateway, 2)
        before = settled_mb(gateway)
        assert before < 1.1 * started  # 1.3 and more while the allocator keeps what was freed
        reload(gateway, RELOADS)
        assert settled_mb(gateway) < 1.05 * before
