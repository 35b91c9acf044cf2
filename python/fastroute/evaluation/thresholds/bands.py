"""The band of a cascade, chosen from both members' win rates; see ``routers.cascade.band``.

A candidate lies between two of 21 quantiles of the fast router's win rates, 5 % apart, so that the
share of prompts sent on is a multiple of 5 %. By goal:

tolerance
    The narrowest band whose APGR is at most ``tolerance`` below that of the better member; of
    equally narrow ones the one of greatest APGR.
share
    The best band that sends this share on; without scores, the middle one.
mean latency
    The best band with at most this mean latency; without scores the widest middle one.

A band that is chosen by APGR is chosen on one half of the benchmark and measured on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.areas import Areas
from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.evaluation.metrics.latency import MemberLatency
from fastroute.routers.cascade.band import Band, band_between
from fastroute.types import BoolArray, Float64Array

Goal = Literal["tolerance", "share", "mean_latency_ms"]

#: Number of steps between the quantiles that candidate bands lie between.
STEPS = 20


@dataclass(frozen=True, slots=True)
class BandResult:
    """Figures of a band on some prompts.

    Attributes:
        prompts: their number.
        share_sent_on: share of them that is sent on to the slow router.
        apgr, fast_apgr, slow_apgr: of the cascade and its members; None without scores.
        difference: APGR of the cascade less that of the better member, paired; None without scores.
        mean_ms: mean milliseconds per prompt, or None where no latency was measured.
        slow_ratio: ``mean_ms`` against the slow router alone, or None.
    """

    prompts: int
    share_sent_on: float
    apgr: Estimate | None
    fast_apgr: Estimate | None
    slow_apgr: Estimate | None
    difference: Estimate | None
    mean_ms: float | None
    slow_ratio: float | None


def ranks(band: Band | None, fast: Float64Array, slow: Float64Array) -> Float64Array:
    """Win rates, float64[n], that rank prompts as a cascade of this band does."""
    rates = fast.copy()
    if band is not None:
        middle = band.contains(fast)
        rates[middle] = band.place(slow[middle])
    return rates


def candidates(fast: Float64Array) -> Iterator[tuple[float, Band | None]]:
    """Share between quantiles, and band, of every candidate; narrow ones first."""
    yield 0.0, None
    for width in range(1, STEPS + 1):
        for first in range(STEPS - width + 1):
            band = _band(fast, first / STEPS, (first + width) / STEPS)
            if band is not None:
                yield width / STEPS, band


def choose(
    goal: Goal,
    target: float,
    fast: Float64Array,
    slow: Float64Array,
    benchmark: Benchmark,
    mean_ms: Callable[[Band | None], float] | None = None,
) -> Band | None:
    """The best band for a goal, by APGR on ``benchmark``; see the module.

    Args:
        goal, target: see the module.
        fast, slow: float64[n], win rates of the members on its prompts.
        mean_ms: with goal "mean_latency_ms", mean milliseconds of a cascade of a band.
    """

    def area(rates: Float64Array) -> float:
        return apgr(curve(rates, benchmark.weak, benchmark.strong))

    best: tuple[float, Band | None] | None = None
    least = max(area(fast), area(slow)) - target
    narrowest = None
    for share, band in candidates(fast):
        if goal == "tolerance":
            if narrowest is not None and share > narrowest:
                break
        elif goal == "share":
            if abs(share - target) > 0.5 / STEPS:
                continue
        elif mean_ms is None or mean_ms(band) > target:
            continue
        reached = area(ranks(band, fast, slow))
        if goal == "tolerance":
            # The slack is for the rounding of running sums.
            if reached < least - 1e-12:
                continue
            narrowest = share
        if best is None or reached > best[0]:
            best = reached, band
    if best is None:
        raise InvalidInputError(_why_none(goal, target, mean_ms))
    return best[1]


def choose_middle(
    goal: Goal, target: float, fast: Float64Array, mean_ms: Callable[[Band | None], float]
) -> Band | None:
    """The middle band for a share or a mean latency, without scores."""
    if goal == "share":
        return band_between(fast, 0.5 - target / 2.0, 0.5 + target / 2.0)
    if mean_ms(None) > target:
        raise InvalidInputError(_why_none(goal, target, mean_ms))
    found: Band | None = None
    for percent in range(1, 101):
        band = _band(fast, 0.5 - percent / 200.0, 0.5 + percent / 200.0)
        if band is not None:
            if mean_ms(band) > target:
                break
            found = band
    return found


def sent_on(band: Band | None, fast: Float64Array) -> BoolArray:
    """Which prompts are sent on to the slow router, bool[n]."""
    if band is None:
        return np.zeros(len(fast), dtype=np.bool_)
    return band.contains(fast)


def measure_band(
    band: Band | None,
    fast: Float64Array,
    slow: Float64Array,
    benchmark: Benchmark | None,
    latency: MemberLatency | None,
    *,
    all_fast: Float64Array | None = None,
    resamples: int = 0,
    confidence: float = 0.95,
    seed: int = 0,
) -> BandResult:
    """Figures of ``band`` on prompts with these win rates of the members, float64[n].

    ``all_fast`` has the fast win rates of all prompts among which ``latency`` was measured, where
    these are a part of them.
    """
    asked = sent_on(band, fast)
    share = float(asked.mean())
    mean_ms, ratio = None, None
    if latency is not None:
        every = asked if all_fast is None else sent_on(band, all_fast)
        mean_ms = latency.cascade_mean_ms(every, share)
        ratio = mean_ms / latency.slow_mean_ms
    if benchmark is None:
        return BandResult(len(fast), share, None, None, None, None, mean_ms, ratio)
    rates = {"cascade": ranks(band, fast, slow), "fast": fast, "slow": slow}
    areas = Areas(rates, benchmark, resamples=resamples, confidence=confidence, seed=seed)
    return BandResult(
        len(fast), share, areas.of("cascade"), areas.of("fast"), areas.of("slow"),
        areas.difference("cascade", areas.better("slow", "fast")), mean_ms, ratio,
    )  # fmt: skip


def _band(fast: Float64Array, first: float, last: float) -> Band | None:
    try:
        return band_between(fast, first, last)
    except InvalidInputError:  # ties of the fast router: no band separates these quantiles
        return None


def _why_none(goal: Goal, target: float, mean_ms: Callable[[Band | None], float] | None) -> str:
    if goal == "mean_latency_ms" and mean_ms is not None:
        return (
            f"mean_latency_ms is {target:g}, and the fast router alone takes {mean_ms(None):.3g} "
            "ms; give a greater value"
        )
    return f"no band has a {goal.replace('_', ' ')} of {target:g}; give another value"
