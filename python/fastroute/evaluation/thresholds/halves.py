"""The halves of a benchmark: a threshold is chosen on one and reported on the other."""

from __future__ import annotations

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.protocols import folds
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.types import BoolArray


def split(benchmark: Benchmark, seed: int) -> BoolArray:
    """Which prompts are in the first half, by a hash of their text, bool[n].

    Raises InvalidInputError where a half is empty, or its strong model is not the better one.
    """
    first: BoolArray = folds(benchmark.prompts, 2, seed) == 0
    if first.all() or not first.any():
        raise InvalidInputError(
            f"{len(benchmark)} prompts can't be split in two; give more distinct prompts"
        )
    for side in (first, ~first):
        weak, strong = benchmark.weak[side].mean(), benchmark.strong[side].mean()
        if not strong > weak:
            raise InvalidInputError(
                f"the strong model scores {strong * benchmark.scale:.4g} and the weak one "
                f"{weak * benchmark.scale:.4g} on a half of {benchmark.name!r} ({side.sum()} "
                "prompts): without a gap there is nothing to choose; give more prompts, or swap "
                "the pair"
            )
    return first
