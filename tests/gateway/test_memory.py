"""Reloads leave nothing behind: the old gateway goes with its last request."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway
from fastroute.embedders.static import StaticEmbedder
from fastroute.routers import SimilarityWeightedRouter
from tiny_classifier import write_folder

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


def sw_ranking(folder: Path) -> None:
    """Save a router of 2,000 battles with the bundled embedder."""
    rng = np.random.default_rng(1)
    embedder = StaticEmbedder.load_default()
    router = SimilarityWeightedRouter(
        strong_model="a", weak_model="b", num_tiers=3, embedder=embedder
    )
    models = np.array(["a", "b", "c"])
    first = rng.integers(0, 3, 2000)
    second = (first + rng.integers(1, 3, 2000)) % 3
    X = rng.normal(size=(2000, embedder.dimensions)).astype(np.float32)
    winner = rng.choice(["model_a", "model_b"], 2000)
    router.fit(X, models[first].tolist(), models[second].tolist(), winner).save(folder)


MAKE: dict[str, Callable[[Path], object]] = {"bert": write_folder, "sw_ranking": sw_ranking}


@pytest.mark.parametrize("router", ["mf", "length", "random", *MAKE])
def test_memory_is_flat_over_reloads(tmp_path: Path, router: str) -> None:
    text = CONFIG.format(router=router)
    if router in MAKE:
        MAKE[router](tmp_path / "router")
        text += f'routers = ["{router}={tmp_path / "router"}"]\n'
    path = gateways.write_config(tmp_path, text)
    with gateways.start("--config", path) as gateway:
        started = settled_mb(gateway)
        reload(gateway, 2)
        before = settled_mb(gateway)
        assert before < 1.1 * started  # 1.3 and more while the allocator keeps what was freed
        reload(gateway, RELOADS)
        assert settled_mb(gateway) < 1.05 * before
