"""The cheapest threshold that reaches a quality: what it does on other prompts, and its error."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastroute._checks import check_number, check_probabilities, check_resampling
from fastroute._progress import progress_bar
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.baselines import losses
from fastroute.evaluation.metrics.bootstrap import (
    Estimate,
    Ranked,
    check_confidence,
    estimate,
    resample_counts,
    resample_curves,
)
from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.evaluation.thresholds.choice import threshold_at
from fastroute.evaluation.thresholds.halves import split
from fastroute.routers.length import LengthRouter
from fastroute.types import BoolArray, Float64Array, IntArray

Measure = Literal["quality", "pgr"]
MEASURES: tuple[Measure, ...] = ("quality", "pgr")

#: Other splits on which the choice is repeated.
SPLITS = 20
#: Share of all prompts that the interval of a threshold may span without a warning.
WIDE = 0.2


@dataclass(frozen=True, slots=True)
class HalfResult:
    """Figures of a threshold on one half of a benchmark.

    Attributes:
        prompts: their number.
        share: share of strong calls.
        quality: mean score, in the benchmark's unit.
        reached: the part of the strong model's quality that is reached, or PGR.
        cost: mean dollars per prompt, or None without costs.
    """

    prompts: int
    share: Estimate
    quality: Estimate
    reached: Estimate
    cost: Estimate | None


@dataclass(frozen=True, slots=True)
class QualityThreshold:
    """The cheapest threshold that reaches a quality on one half, with its figures on the other.

    Attributes:
        target: as given, a part of the strong model's quality or PGR.
        measure: "quality" or "pgr", what ``target`` and ``reached`` are parts of.
        threshold: chosen on the first half; the interval is of the choice on resampled prompts.
        share: share of all prompts that are strong calls at the threshold and at the ends of its
            interval.
        splits: the least and the greatest threshold that SPLITS other splits of the benchmark give;
            None where none of them has the better strong model in both halves.
        chosen_on: the first half; the threshold was chosen on it, so its figures are optimistic.
        held_out: the second half, which took no part in the choice.
        apgr: of the router on all prompts.
        length_apgr: of the length of the prompt; None where that is the router itself.
    """

    target: float
    measure: Measure
    threshold: Estimate
    share: Estimate
    splits: tuple[float, float] | None
    chosen_on: HalfResult
    held_out: HalfResult
    apgr: Estimate
    length_apgr: float | None

    @property
    def prompts_needed(self) -> int | None:
        """Number of prompts for an interval that spans WIDE; None where it spans no more."""
        if self.share.low is None or self.share.high is None:
            return None
        times = ((self.share.high - self.share.low) / WIDE) ** 2  # width falls as 1 / sqrt(n)
        if times <= 1.0:
            return None
        needed = times * (self.chosen_on.prompts + self.held_out.prompts)
        step = 10.0 ** (math.floor(math.log10(needed)) - 1)
        return int(math.ceil(needed / step) * step)

    def warnings(self) -> list[str]:
        """Reasons not to rely on the threshold, in words."""
        found = []
        if self.held_out.reached.value < self.target:
            found.append(
                f"on the held-out half it reached {self.held_out.reached.value:.2%}, not "
                f"{self.target:.2%}"
            )
        if self.prompts_needed is not None:
            assert self.share.low is not None
            assert self.share.high is not None
            prompts = self.chosen_on.prompts + self.held_out.prompts
            found.append(
                f"the threshold is uncertain: its interval spans {self.share.low:.0%} to "
                f"{self.share.high:.0%} strong calls; about {self.prompts_needed:,} rows would "
                f"narrow that to {100 * WIDE:.0f} percentage points, and {prompts:,} were given"
            )
        return found

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on these prompts, in words."""
        return losses(self.apgr.value, self.length_apgr)


def threshold_for_quality(
    win_rates: Float64Array,
    benchmark: Benchmark,
    target: float,
    *,
    measure: Measure = "quality",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> QualityThreshold:
    """The threshold with the least cost (or fewest strong calls) that reaches ``target``.

    The benchmark is split in two by a hash of the prompts: chosen on one half, reported on the
    other, which took no part in the choice.

    Args:
        win_rates: float64[n], the router's, on the prompts of ``benchmark``.
        target: with measure "quality", the part of the strong model's mean score (0.95: 95 % of
            it); with "pgr", the part of the gap between the two models.
        measure: "quality" or "pgr".
        resamples, confidence, seed: of the intervals, 0 resamples for none; the seed is of the
            split too.
        progress: show a progress bar on standard error (needs tqdm).
    """
    resamples, seed = check_resampling(resamples, seed)
    check_confidence(confidence)
    check_target(target, measure)
    check_probabilities("win_rates", win_rates)
    if not isinstance(benchmark, Benchmark):
        raise InvalidTypeError(f"benchmark must be a Benchmark, got {type(benchmark).__name__}")
    if win_rates.shape != (len(benchmark),):
        raise InvalidInputError(f"{len(win_rates)} win rates for {len(benchmark)} prompts")
    first = split(benchmark, seed)
    halves = [(win_rates[side], benchmark.select(side)) for side in (first, ~first)]
    for _, half in halves:
        if measure == "quality" and not half.strong_quality > 0:
            raise InvalidInputError(
                f"the strong model scores {half.strong_quality:.4g} on a half of "
                f"{benchmark.name!r}; a part of that can't be a goal: use measure 'pgr' "
                "(--target-pgr), a part of the gap"
            )
    choice = _Choice(*halves[0], target, measure)
    shown = progress and resamples > 0
    with progress_bar(4 * resamples, "intervals", unit="resample", shown=shown) as advance:
        threshold = choice.threshold(resamples, confidence, seed, advance)
        on_first, on_second = (
            _on_half(w, half, threshold.value, measure, resamples, confidence, seed, advance)
            for w, half in halves
        )
        drawn = None
        if resamples:
            drawn = resample_curves(
                {"router": win_rates}, benchmark.weak, benchmark.strong, resamples=resamples,
                seed=seed, advance=advance,
            )["router"].apgr  # fmt: skip
    area = apgr(curve(win_rates, benchmark.weak, benchmark.strong))
    lengths = LengthRouter().win_rates(benchmark.prompts)
    by_length: float | None = None
    if not np.array_equal(np.argsort(win_rates, kind="stable"), np.argsort(lengths, kind="stable")):
        by_length = apgr(curve(lengths, benchmark.weak, benchmark.strong))
    return QualityThreshold(
        target, measure, threshold, _shares(win_rates, threshold),
        _other_splits(win_rates, benchmark, target, measure, seed), on_first, on_second,
        estimate(area, drawn, confidence), by_length,
    )  # fmt: skip


def check_target(target: float, measure: str) -> None:
    """Raise InvalidInputError for no number in (0, 1], or an unknown measure."""
    if measure not in MEASURES:
        raise InvalidInputError(f"measure must be 'quality' or 'pgr', got {measure!r}")
    if not 0.0 < check_number("target", target) <= 1.0:
        raise InvalidInputError(f"target must be above 0 and at most 1, got {target!r}")


class _Choice:
    """The cheapest threshold on a half that reaches a target, and on resamples of the half."""

    def __init__(
        self, win_rates: Float64Array, half: Benchmark, target: float, measure: Measure
    ) -> None:
        costs = (half.cost_weak, half.cost_strong)
        self._points = curve(win_rates, half.weak, half.strong)
        self._ranked = Ranked(win_rates, half.weak, half.strong, *costs)
        self._n, self._target, self._measure = len(half), target, measure

    def threshold(
        self, resamples: int, confidence: float, seed: int, advance: Callable[[int], None]
    ) -> Estimate:
        """The threshold, with the interval of the choices on resampled prompts."""
        value = threshold_at(self._points, int(self._chosen(np.ones((1, self._n)))[0]))
        drawn = None
        if resamples:
            chunks = []
            for counts in resample_counts(self._n, resamples, seed):
                chunks.append(self._chosen(counts))
                advance(len(counts))
            chosen, place = np.unique(np.concatenate(chunks), return_inverse=True)
            drawn = np.array([threshold_at(self._points, int(i)) for i in chosen])[place]
        return estimate(value, drawn, confidence)

    def _chosen(self, counts: Float64Array) -> IntArray:
        """The point of the curve for each row of counts, float64[b, n], of the prompts."""
        points = self._ranked
        ranked = counts[:, points.order]
        gain = points.at_group_ends(ranked * points.gain)
        spent = points.at_group_ends(ranked if points.extra is None else ranked * points.extra)
        weak = ranked @ points.weak
        strong = weak + gain[:, -1]
        goal = self._target * strong
        if self._measure == "pgr":
            goal = weak + self._target * gain[:, -1]
        # The slack is for the rounding of running sums.
        reached = weak[:, None] + gain >= (goal - 1e-12 * np.abs(strong))[:, None]
        if float(self._points.threshold[1]) >= 1.0:
            reached[:, 0] = False  # no threshold keeps a win rate of 1 from the strong model
        chosen: IntArray = np.argmin(np.where(reached, spent, np.inf), axis=1)
        return chosen


def _shares(win_rates: Float64Array, threshold: Estimate) -> Estimate:
    """Share of strong calls at a threshold, and at the ends of its interval."""

    def share(at: float | None) -> float | None:
        return None if at is None else float((win_rates >= at).mean())

    return Estimate(
        float((win_rates >= threshold.value).mean()), share(threshold.high), share(threshold.low)
    )


def _other_splits(
    win_rates: Float64Array, benchmark: Benchmark, target: float, measure: Measure, seed: int
) -> tuple[float, float] | None:
    """The least and the greatest threshold that other splits give."""
    found = []
    for other in range(seed + 1, seed + 1 + SPLITS):
        try:
            first = split(benchmark, other)
        except InvalidInputError:  # a half without a gap
            continue
        choice = _Choice(win_rates[first], benchmark.select(first), target, measure)
        found.append(choice.threshold(0, 0.95, 0, lambda _: None).value)
    return (min(found), max(found)) if found else None


def _on_half(
    win_rates: Float64Array,
    half: Benchmark,
    threshold: float,
    measure: str,
    resamples: int,
    confidence: float,
    seed: int,
    advance: Callable[[int], None],
) -> HalfResult:
    routed: BoolArray = win_rates >= threshold
    columns = [
        routed.astype(np.float64),
        np.where(routed, half.strong, half.weak),
        half.weak,
        half.strong,
    ]
    if half.cost_weak is not None and half.cost_strong is not None:
        columns.append(np.where(routed, half.cost_strong, half.cost_weak))
    stacked = np.stack(columns, axis=1)
    values = stacked.mean(axis=0)
    drawn: Float64Array | None = None
    if resamples:
        chunks = []
        for counts in resample_counts(len(half), resamples, seed):
            chunks.append(counts @ stacked / len(half))
            advance(len(counts))
        drawn = np.concatenate(chunks)

    def reached(means: Float64Array) -> Float64Array:
        quality, weak, strong = means[..., 1], means[..., 2], means[..., 3]
        if measure == "quality":
            return np.asarray(quality / np.where(strong > 0, strong, np.nan))
        gap = np.where(strong > weak, strong - weak, np.nan)
        return np.asarray((quality - weak) / gap)

    def of(column: int, scale: float = 1.0) -> Estimate:
        samples = None if drawn is None else drawn[:, column] * scale
        return estimate(float(values[column]) * scale, samples, confidence)

    return HalfResult(
        prompts=len(half),
        share=of(0),
        quality=of(1, half.scale),
        reached=estimate(
            float(reached(values)), None if drawn is None else reached(drawn), confidence
        ),
        cost=of(4) if len(columns) > 4 else None,
    )
