"""Protocols: what a router may have been trained on, named and enforced.

``zero-shot``
    Nothing of the benchmark was trained on.
``gold``
    RouteLLM's D_gold: a fixed, hashed 10.7 % of MMLU may be trained on, and only the rest is
    scored. On other benchmarks it is the same as ``zero-shot``.
``in-domain``
    k-fold: each prompt is scored by a router trained on the other folds.

An artifact records the hashes of the prompts that it was trained on, so that the first two are
checked and not taken on trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastroute._checks import check_integer
from fastroute.artifacts import prompt_hash
from fastroute.errors import ContaminationError, InvalidInputError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.routers.base import Router
from fastroute.types import BoolArray, Float64Array, Int64Array

Protocol = Literal["zero-shot", "gold", "in-domain"]
PROTOCOLS: tuple[Protocol, ...] = ("zero-shot", "gold", "in-domain")

#: Of a thousand hashes, how many are gold: 10.7 %, RouteLLM's 1,500 of 14,042 questions.
GOLD_PER_THOUSAND = 107


def prompt_hashes(prompts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """``prompt_hash`` of each prompt, uint64[n]."""
    return np.array([prompt_hash(prompt) for prompt in prompts], dtype=np.uint64)


def is_gold(prompts: Iterable[str]) -> BoolArray:
    """Which MMLU prompts the gold protocol may train on, bool[n].

    Decided by the prompt's text alone, so the choice never changes, and is the same for equal
    prompts.
    """
    return prompt_hashes(prompts) % np.uint64(1000) < GOLD_PER_THOUSAND


def scored(benchmark: Benchmark, protocol: Protocol) -> Benchmark:
    """The prompts of ``benchmark`` that ``protocol`` scores."""
    check_protocol(protocol)
    if protocol == "gold" and benchmark.name == "mmlu":
        return benchmark.select(~is_gold(benchmark.prompts))
    return benchmark


def were_trained_on(
    prompts: Sequence[str], trained_on: Iterable[npt.NDArray[np.uint64] | None]
) -> BoolArray:
    """Which prompts are in any of the arrays of hashes, bool[n]; no prompt is hashed for none."""
    known = [hashes for hashes in trained_on if hashes is not None and len(hashes)]
    if not known:
        return np.zeros(len(prompts), dtype=np.bool_)
    return np.isin(prompt_hashes(prompts), np.concatenate(known))


def check_untrained(
    benchmark: Benchmark, trained_on: npt.NDArray[np.uint64] | None, router: str
) -> None:
    """Raise ContaminationError if any prompt of ``benchmark`` is among ``trained_on``."""
    seen = were_trained_on(benchmark.prompts, [trained_on])
    if seen.any():
        first = benchmark.ids[int(np.flatnonzero(seen)[0])]
        hint = (
            "--protocol gold scores only the part that is never trained on"
            if benchmark.name == "mmlu"
            else "use a router that was not, or leave them out with drop_trained (--drop-trained)"
        )
        raise ContaminationError(
            f"router {router!r} was trained on {int(seen.sum())} of the {len(seen)} prompts of "
            f"{benchmark.name!r} that would be scored (the first: {first!r}); {hint}"
        )


def folds(prompts: Iterable[str], count: int, seed: int = 0) -> Int64Array:
    """A fold number 0..count-1 for each prompt, int64[n]; equal prompts share a fold."""
    count = check_integer("folds", count, 2, 1_000_000)
    numbers = []
    for prompt in prompts:
        digest = hashlib.sha256(f"{seed}:{prompt_hash(prompt)}".encode()).digest()
        numbers.append(int.from_bytes(digest[:8], "little") % count)
    return np.array(numbers, dtype=np.int64)


def in_domain_win_rates(
    benchmark: Benchmark,
    fit: Callable[[Benchmark], Router],
    *,
    fold_count: int = 5,
    seed: int = 0,
) -> Float64Array:
    """Win rates of each prompt by the router that ``fit`` trained on the other folds, float64[n].

    Args:
        benchmark: what is trained and scored on.
        fit: trains a router on a part of the benchmark.
        fold_count: number of folds, at least 2.
        seed: of the folds.
    """
    number = folds(benchmark.prompts, fold_count, seed)
    win_rates = np.empty(len(benchmark), dtype=np.float64)
    for fold in range(fold_count):
        held_out = number == fold
        if held_out.all() or not held_out.any():
            raise InvalidInputError(
                f"fold {fold} of {fold_count} has {int(held_out.sum())} of {len(benchmark)} "
                "prompts; use fewer folds or more prompts"
            )
        router = fit(benchmark.select(~held_out))
        win_rates[held_out] = router.win_rates(benchmark.select(held_out).prompts)
    return win_rates


def check_protocol(protocol: str) -> None:
    """Raise InvalidInputError if ``protocol`` is not one of PROTOCOLS."""
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
