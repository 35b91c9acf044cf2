"""Kernels in forked children and in many threads at once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from battle_factory import SyntheticBattles
from fastroute import _native
from fastroute.embedders import CachedEmbedder, StaticEmbedder
from fastroute.routers import CascadeRouter, LengthRouter, SimilarityWeightedRouter

# Python 3.12 and later warn of any fork while a second thread lives, which the pool's does.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


def _work() -> dict[str, Callable[[int], np.ndarray]]:
    """Kernels that share the pool, by name: each maps a number of threads to its answer."""
    rng = np.random.default_rng(6)
    pair, X = rng.normal(size=65).astype(np.float32), rng.normal(size=(3000, 65)).astype(np.float32)
    table = rng.integers(-127, 128, size=(40, 65)).astype(np.int8)
    scales = rng.uniform(0.01, 0.1, 40).astype(np.float32)
    offsets = np.arange(0, 4001, 10, dtype=np.int64)
    ids = rng.integers(0, 40, 4000).astype(np.int32)
    unit = np.abs(X) / np.linalg.norm(X, axis=1, keepdims=True)
    cells = rng.integers(0, 21, 3000).astype(np.uint16)
    battles = _native.TieredBattles(unit, cells, 3, False)
    query = np.abs(pair)
    return {
        "mf": lambda n: _native.pair_win_rates(pair, X, n),
        "mf of many models": lambda n: _native.model_deltas(X[:5], X, n),
        "token bags": lambda n: _native.embed_token_bags(table, scales, ids, offsets, n),
        "sw_ranking": lambda n: battles.weights_by_cell(query, n),
    }


WORK = _work()


def _in_a_child(check: Callable[[], bool]) -> None:
    """Run ``check`` in a forked child, which must say True within 20 seconds."""
    child = os.fork()
    if child == 0:
        good = False
        try:
            good = check()
        finally:
            os._exit(0 if good else 1)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    pytest.fail("the forked child hangs")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_a_working_pool() -> None:
    wanted = {name: work(2) for name, work in WORK.items()}  # so that the parent has its workers
    for _ in range(5):
        _in_a_child(
            lambda: all(
                np.array_equal(work(num_threads), wanted[name])
                for name, work in WORK.items()
                for num_threads in (2, 1, 4)
            )
        )
    for name, work in WORK.items():  # and the parent's still works
        np.testing.assert_array_equal(work(2), wanted[name])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_grandchild_too_and_a_fork_while_the_pool_is_busy() -> None:
    work = WORK["sw_ranking"]
    wanted = work(2)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            work(2)

    thread = threading.Thread(target=keep_busy)
    thread.start()
    try:

        def grandchild() -> bool:
            if not np.array_equal(work(2), wanted):
                return False
            _in_a_child(lambda: np.array_equal(work(3), wanted))
            return True

        for _ in range(5):
            _in_a_child(grandchild)
    finally:
        stop.set()
        thread.join()


@pytest.mark.usefixtures("simd_level")
def test_eight_threads_at_once() -> None:
    wanted = {name: work(1) for name, work in WORK.items()}
    wrong: list[Any] = []
    start = threading.Barrier(8)

    def run(number: int) -> None:
        start.wait()
        for i in range(20):
            for name, work in WORK.items():
                if not np.array_equal(work(1 + (number + i) % 4), wanted[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_level_changed_in_the_middle_never_tears_a_call() -> None:
    before = _native.simd_level()
    wanted = set()
    for level in _native.simd_levels():
        _native.use_simd_level(level)
        wanted.add(WORK["mf"](1).tobytes())
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for level in _native.simd_levels():
                _native.use_simd_level(level)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(200):
            assert WORK["mf"](1).tobytes() in wanted
    finally:
        stop.set()
        thread.join()
        _native.use_simd_level(before)


def test_routers_of_several_sizes_share_a_threads_scratch(
    battles: SyntheticBattles, small_battles: SyntheticBattles
) -> None:
    routers = [
        SimilarityWeightedRouter(
            strong_model=data.strong, weak_model=data.weak, num_tiers=num_tiers, strict=strict
        ).fit(data.embeddings, data.model_a, data.model_b, data.winner)
        for data, num_tiers in ((battles, 10), (small_battles, 2), (small_battles, 8))
        for strict in (False, True)
    ]
    prompts = [battles.prompts] * 2 + [small_battles.prompts] * 4
    wanted = [r.win_rates_from_embeddings(X) for r, X in zip(routers, prompts, strict=True)]
    for i in np.random.default_rng(0).integers(0, len(routers), 60):
        np.testing.assert_array_equal(routers[i].win_rates_from_embeddings(prompts[i]), wanted[i])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("holder", ["cascade", "cached embedder"])
def test_a_lock_that_another_thread_holds_at_a_fork_is_free_in_the_child(holder: str) -> None:
    if holder == "cascade":
        router = CascadeRouter(LengthRouter(), LengthRouter(50.0), band=(0.0, 1.0))
        lock, work = router._lock, lambda: router.win_rate("hello") > 0.0
    else:
        embedder = CachedEmbedder(StaticEmbedder.load_default(), max_entries=4)
        lock, work = embedder._cache._lock, lambda: bool(embedder.embed("hello").any())
    assert work()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        held.wait()
        _in_a_child(work)
    finally:
        done.set()
        thread.join()
    assert work()  # and the parent's lock works on
