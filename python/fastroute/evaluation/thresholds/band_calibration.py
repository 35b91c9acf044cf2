"""Calibration of a cascade: the band of two routers, and the map of their win rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastroute._checks import check_number, check_resampling
from fastroute._validate import check_prompts
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.cache import WinRateCache
from fastroute.evaluation.metrics.baselines import length_apgr, losses
from fastroute.evaluation.metrics.bootstrap import check_confidence
from fastroute.evaluation.metrics.latency import (
    LATENCY_PROMPTS,
    given_latency,
    measure_latency,
)
from fastroute.evaluation.scoring import score
from fastroute.evaluation.thresholds.bands import (
    BandResult,
    Goal,
    choose,
    choose_middle,
    measure_band,
    sent_on,
)
from fastroute.evaluation.thresholds.calibration import untrained
from fastroute.evaluation.thresholds.halves import split
from fastroute.policy import calibrated
from fastroute.routers.base import Router
from fastroute.routers.cascade.band import Band
from fastroute.routers.cascade.router import CascadeRouter


@dataclass(frozen=True, slots=True)
class BandCalibration:
    """A calibrated cascade, and its figures.

    Attributes:
        router: the cascade, with its band, its map and its ``calibration`` quantiles.
        goal, target: as given.
        chosen_on: figures on the prompts that the band was chosen on.
        held_out: figures on the other half, which took no part in the choice; None without scores.
        fast_ms, slow_ms: mean milliseconds of a single call of each member, or None.
        timed_prompts: number of prompts that they were measured on; 0 where they were given.
        length_apgr: of the length of the prompt on the held-out half; None without scores.
    """

    router: CascadeRouter
    goal: Goal
    target: float
    chosen_on: BandResult
    held_out: BandResult | None
    fast_ms: float | None
    slow_ms: float | None
    timed_prompts: int
    length_apgr: float | None

    def warnings(self) -> list[str]:
        """Whether the held-out half misses the goal, in words."""
        difference = self.held_out.difference if self.held_out else None
        if self.goal != "tolerance" or difference is None or difference.value >= -self.target:
            return []
        below = f"{-difference.value:.4f} below the better router's"
        return [f"on the held-out half its APGR is {below}, more than {self.target:g}"]

    def losses(self) -> list[str]:
        """The baselines that the cascade does not beat on the held-out half, in words."""
        own = self.held_out.apgr if self.held_out else None
        return losses(own.value if own else None, self.length_apgr)


def calibrate_band(
    fast: Router,
    slow: Router,
    goal: Goal,
    target: float,
    *,
    benchmark: Benchmark | None = None,
    prompts: Sequence[str] | None = None,
    latency_ms: tuple[float, float] | None = None,
    latency_prompts: int = LATENCY_PROMPTS,
    drop_trained: bool = False,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    cache: WinRateCache | None = None,
    progress: bool = False,
) -> BandCalibration:
    """The band between two routers that meets a goal; see ``thresholds.bands``.

    Args:
        fast, slow: the members.
        goal: "tolerance" (of APGR, below the better member), "share" (of prompts sent on) or
            "mean_latency_ms".
        target: of the goal: 0.005, 0.3, 5.0.
        benchmark: scored prompts; the band is chosen on one half and measured on the other.
        prompts: instead of a benchmark, texts like those to be routed; for goals without quality.
        latency_ms: milliseconds per call of the fast and the slow router; by default they are
            measured, on ``latency_prompts`` of the prompts.
        drop_trained: leave out prompts that a member was trained on instead of raising an error.
        resamples, confidence, seed: of the intervals, the halves and the timed prompts.
        cache, progress: as for ``score``.

    Raises ContaminationError for prompts that a member was trained on, InvalidInputError for
    arguments that can't be used or a goal that no band meets.
    """
    check_resampling(resamples, seed)
    check_confidence(confidence)
    _check_goal(goal, target)
    if (benchmark is None) == (prompts is None):
        raise InvalidInputError("give either benchmark or prompts")
    if benchmark is None and goal == "tolerance":
        raise InvalidInputError("goal 'tolerance' needs a benchmark: it compares quality")
    if benchmark is not None and not isinstance(benchmark, Benchmark):
        raise InvalidTypeError(f"benchmark must be a Benchmark, got {type(benchmark).__name__}")
    cascade = CascadeRouter(fast, slow)
    texts = list(benchmark.prompts) if benchmark is not None else check_prompts(prompts or ())
    keep = untrained(cascade, texts, drop_trained)
    if benchmark is not None and not keep.all():
        benchmark = benchmark.select(keep)
    texts = [text for text, kept in zip(texts, keep, strict=True) if kept]
    if latency_ms is not None:
        latency = given_latency(*latency_ms)
    else:
        latency = measure_latency(
            fast, slow, texts, count=latency_prompts, seed=seed, progress=progress
        )
    f = score(fast, texts, cache=cache, progress=progress)

    def mean_ms(band: Band | None) -> float:
        return latency.cascade_mean_ms(sent_on(band, f))

    held_out: BandResult | None = None
    length: float | None = None
    if benchmark is None:
        band = choose_middle(goal, target, f, mean_ms)
        # The map needs the slow win rates of these only.
        s = np.zeros(len(texts))
        middle = np.flatnonzero(sent_on(band, f))
        s[middle] = score(slow, [texts[i] for i in middle], cache=cache, progress=progress)
        chosen_on = measure_band(band, f, s, None, latency)
    else:
        s = score(slow, texts, cache=cache, progress=progress)
        first = split(benchmark, seed)
        halves = [benchmark.select(side) for side in (first, ~first)]
        band = choose(goal, target, f[first], s[first], halves[0], mean_ms)
        chosen_on, held_out = (
            measure_band(
                band, f[side], s[side], half, latency, all_fast=f,
                resamples=resamples, confidence=confidence, seed=seed,
            )
            for half, side in zip(halves, (first, ~first), strict=True)
        )  # fmt: skip
        length = length_apgr(halves[1].prompts, halves[1].weak, halves[1].strong)
    if band is not None:
        band = Band.fitted(band.low, band.high, f, s)
    router = CascadeRouter(fast, slow, band=band)
    win_rates = router.combine(f, s)
    known = calibrated(router.provenance, win_rates, calibrated_on=f"{len(f):,} prompts")
    router = router.with_provenance(known)
    timed = 0 if latency.rows is None else len(latency.rows)
    return BandCalibration(
        router, goal, target, chosen_on, held_out, latency.fast_mean_ms, latency.slow_mean_ms,
        timed, length,
    )  # fmt: skip


def _check_goal(goal: str, target: float) -> None:
    if goal not in ("tolerance", "share", "mean_latency_ms"):
        raise InvalidInputError(
            f"goal must be 'tolerance', 'share' or 'mean_latency_ms', got {goal!r}"
        )
    value = check_number("target", target)
    if goal == "mean_latency_ms":
        if not 0.0 < value < 1e9:
            raise InvalidInputError(f"mean_latency_ms must be above 0, got {target!r}")
    elif not 0.0 <= value <= 1.0:
        raise InvalidInputError(f"{goal} must be in 0..1, got {target!r}")
