"""Latency of routers: single calls, alternating between two routers."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import default_rng

from fastroute._checks import check_integer
from fastroute._progress import progress_bar
from fastroute.errors import InvalidInputError
from fastroute.routers.base import Router
from fastroute.types import BoolArray, Float64Array, IntArray

#: Default number of prompts that latencies are measured on.
LATENCY_PROMPTS = 200


@dataclass(frozen=True, slots=True)
class MemberLatency:
    """Milliseconds of single calls of the two members of a cascade."""

    #: fast_ms, slow_ms: float64[n], of the same n prompts; n is 1 where they were given.
    fast_ms: Float64Array
    slow_ms: Float64Array
    #: numbers of the prompts among those of the benchmark, or None where the milliseconds were
    #: given and not measured.
    rows: IntArray | None

    @property
    def fast_mean_ms(self) -> float:
        """Mean of the fast router."""
        return float(self.fast_ms.mean())

    @property
    def slow_mean_ms(self) -> float:
        """Mean of the slow router."""
        return float(self.slow_ms.mean())

    def cascade_mean_ms(self, sent_on: BoolArray, share: float | None = None) -> float:
        """Mean of a cascade: the fast router for every prompt, and the slow one for those sent on.

        Args:
            sent_on: which of all the benchmark's prompts go on, bool[all]: of the timed ones among
                them the slow router's time is taken, because those that go on may be longer.
            share: share of prompts that go on, where it is that of a part of the benchmark.
        """
        share = float(sent_on.mean()) if share is None else share
        timed = self.slow_ms if self.rows is None else self.slow_ms[sent_on[self.rows]]
        slow = float(timed.mean()) if len(timed) else self.slow_mean_ms
        return self.fast_mean_ms + share * slow


def given_latency(fast_ms: float, slow_ms: float) -> MemberLatency:
    """Latencies that were measured elsewhere. Raises InvalidInputError unless above 0."""
    for name, value in (("fast_ms", fast_ms), ("slow_ms", slow_ms)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
            raise InvalidInputError(f"{name} must be milliseconds above 0, got {value!r}")
    return MemberLatency(np.array([float(fast_ms)]), np.array([float(slow_ms)]), None)


def measure_latency(
    fast: Router,
    slow: Router,
    prompts: Sequence[str],
    *,
    count: int = LATENCY_PROMPTS,
    seed: int = 0,
    progress: bool = False,
) -> MemberLatency:
    """Time single, alternating calls of two routers on ``count`` of the prompts, drawn by ``seed``.

    Alternating, so that load on the machine affects both. A first call of each, to warm up, is not
    counted.
    """
    count = min(check_integer("count", count, 1), len(prompts))
    rows = np.sort(default_rng(seed).choice(len(prompts), count, replace=False))
    took = np.empty((2, count))
    routers = (fast, slow)
    chosen: list[int] = rows.tolist()
    texts = [prompts[row] for row in chosen]
    for router in routers:
        router.win_rate(texts[0])
    paused = gc.isenabled()
    gc.disable()
    try:
        with progress_bar(count, "latency", shown=progress) as advance:
            for i, text in enumerate(texts):
                for j, router in enumerate(routers):
                    begin = time.perf_counter()
                    router.win_rate(text)
                    took[j, i] = time.perf_counter() - begin
                advance()
    finally:
        if paused:
            gc.enable()
    return MemberLatency(1e3 * took[0], 1e3 * took[1], rows)
