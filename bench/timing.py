"""Clocks. Whatever is compared is measured in turns, so that a busy machine slows both sides."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """As ``timeit`` does: a collection would be charged to whoever happens to run."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def interleaved_us(
    functions: Mapping[str, Callable[[Any], object]], items: Sequence[Any], *, rounds: int = 1
) -> dict[str, npt.NDArray[np.float64]]:
    """Microseconds that each function takes on each item: float64[items], the best of ``rounds``.

    All functions see one item before the next, in an order drawn anew each time: who comes
    second finds the item in the cache. They should share nothing else, such as a table.
    """
    names = list(functions)
    best = {name: np.full(len(items), np.inf) for name in names}
    shuffle = random.Random(0).shuffle
    clock = time.perf_counter_ns
    with no_garbage_collection():
        for _ in range(rounds):
            for i, item in enumerate(items):
                shuffle(names)
                for name in names:
                    function = functions[name]
                    begin = clock()
                    function(item)
                    elapsed = clock() - begin
                    best[name][i] = min(best[name][i], elapsed / 1e3)
    return best


def interleaved_loops_us(
    functions: Mapping[str, Callable[[Any], object]], items: Sequence[Any], *, rounds: int
) -> dict[str, float]:
    """Median over ``rounds`` of the mean microseconds a call in a loop over ``items``.

    For what takes about as long as reading the clock. The loop itself is part of the time.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    clock = time.perf_counter_ns
    with no_garbage_collection():
        for _ in range(rounds):
            for name, function in functions.items():
                begin = clock()
                for item in items:
                    function(item)
                taken[name].append((clock() - begin) / 1e3 / len(items))
    return {name: float(np.median(values)) for name, values in taken.items()}
