"""Thresholds for a share of strong calls, or for a quality, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastroute._checks import check_number, check_probabilities, check_resampling
from fastroute._progress import progress_bar
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.protocols import folds
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.bootstrap import (
    Estimate,
    check_confidence,
    estimate,
    resample_counts,
)
from fastroute.evaluation.metrics.curve import Curve
from fastroute.types import Float64Array

Measure = Literal["quality", "pgr"]
MEASURES: tuple[Measure, ...] = ("quality", "pgr")


@dataclass(frozen=True, slots=True)
class ShareThreshold:
    """A threshold for a share of strong calls.

    Attributes:
        target_share: the share that was asked for.
        threshold: win rates from it on are strong calls; the interval says how much it depends on
            which prompts happened to be drawn.
        share: share of strong calls at ``threshold.value``; ties may keep it from the target.
        prompts: number of win rates that it was found on.
    """

    target_share: float
    threshold: Estimate
    share: Estimate
    prompts: int


@dataclass(frozen=True, slots=True)
class HalfResult:
    """What a threshold did on one half of a benchmark.

    Attributes:
        prompts: their number.
        share: share of strong calls.
        quality: mean score, in the benchmark's unit.
        reached: the reached part of what was asked for: of the strong model's quality, or PGR.
        cost: mean dollars a prompt, or None without costs.
    """

    prompts: int
    share: Estimate
    quality: Estimate
    reached: Estimate
    cost: Estimate | None


@dataclass(frozen=True, slots=True)
class QualityThreshold:
    """The cheapest threshold that reaches a quality on one half, and what it did on the other.

    Attributes:
        target: what was asked for, as a part of the strong model's quality or as PGR.
        measure: "quality" or "pgr", what ``target`` and ``reached`` are parts of.
        threshold: chosen on the first half.
        chosen_on: the first half; it was chosen on, so its figures flatter.
        held_out: the second half, by which to judge.
    """

    target: float
    measure: Measure
    threshold: float
    chosen_on: HalfResult
    held_out: HalfResult


def threshold_for_share(
    win_rates: Float64Array,
    share: float,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: bool = False,
) -> ShareThreshold:
    """The threshold whose share of strong calls is nearest to ``share``.

    Args:
        win_rates: float64[n], of prompts like those to come, and not of training prompts.
        share: wanted share of strong calls, 0..1.
        resamples, confidence, seed: of the intervals; 0 resamples for none.
        progress: show a progress bar on standard error (needs tqdm).
    """
    resamples, seed = check_resampling(resamples, seed)
    check_confidence(confidence)
    check_share(share)
    check_probabilities("win_rates", win_rates)
    n = len(win_rates)
    falling = -np.sort(-win_rates)
    threshold, achieved = _nearest(falling, np.ones(n), share)
    thresholds, shares = None, None
    if resamples:
        drawn = []
        with progress_bar(resamples, "intervals", unit="resample", shown=progress) as advance:
            for chunk in resample_counts(n, resamples, seed):
                for counts in chunk:
                    reached = float(counts[falling >= threshold].sum()) / n
                    drawn.append((_nearest(falling, counts, share)[0], reached))
                    advance()
        thresholds, shares = np.array(drawn, dtype=np.float64).T
    return ShareThreshold(
        share,
        estimate(threshold, thresholds, confidence),
        estimate(achieved, shares, confidence),
        n,
    )


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
        seed: of the split and the intervals.
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
    first = folds(benchmark.prompts, 2, seed) == 0
    if first.all() or not first.any():
        raise InvalidInputError(
            f"{len(benchmark)} prompts can't be split in two; give more distinct prompts"
        )
    halves = [(win_rates[side], benchmark.select(side)) for side in (first, ~first)]
    for _, half in halves:
        if not half.strong_quality > half.weak_quality:
            raise InvalidInputError(
                f"the strong model scores {half.strong_quality:.4g} and the weak one "
                f"{half.weak_quality:.4g} on a half of {benchmark.name!r} ({len(half)} prompts): "
                "without a gap there is nothing to choose; give more prompts, or swap the pair"
            )
        if measure == "quality" and not half.strong_quality > 0:
            raise InvalidInputError(
                f"the strong model scores {half.strong_quality:.4g} on a half of "
                f"{benchmark.name!r}, and a part of that is no goal; take a part of the gap, "
                "measure 'pgr' (--target-pgr)"
            )
    threshold = _cheapest(*halves[0], target, measure)
    shown = progress and resamples > 0
    with progress_bar(2 * resamples, "intervals", unit="resample", shown=shown) as advance:
        on_first, on_second = (
            _on_half(w, half, threshold, measure, resamples, confidence, seed, advance)
            for w, half in halves
        )
    return QualityThreshold(target, measure, threshold, on_first, on_second)


def shortest_between(low: float, high: float) -> float:
    """A number in (low, high] with few digits: the same decisions, easier to write down."""
    for digits in range(2, 17):
        short = round(high, digits)
        if short > high:
            short = round(short - 10.0**-digits, digits)
        if low < short <= high:
            return short
    return high


def threshold_at(points: Curve, i: int) -> float:
    """The threshold with few digits that makes the strong calls of point ``i`` of an exact curve.

    It is 0 where all prompts are strong calls: whatever the win rate, not only those seen here.
    """
    values = points.threshold
    if i + 1 == len(values):
        return 0.0
    return shortest_between(float(values[i + 1]), min(float(values[i]), 1.0))


def check_share(share: float) -> None:
    """Raise InvalidInputError if ``share`` is not a number in 0..1."""
    if not 0.0 <= check_number("share", share) <= 1.0:
        raise InvalidInputError(f"share must be in 0..1, got {share!r}")


def check_target(target: float, measure: str) -> None:
    """Raise InvalidInputError for no number in (0, 1], or a measure that there is not."""
    if measure not in MEASURES:
        raise InvalidInputError(f"measure must be 'quality' or 'pgr', got {measure!r}")
    if not 0.0 < check_number("target", target) <= 1.0:
        raise InvalidInputError(f"target must be above 0 and at most 1, got {target!r}")


def _nearest(falling: Float64Array, counts: Float64Array, share: float) -> tuple[float, float]:
    """Threshold, and its share, for win rates by falling value with the given counts."""
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    shares = np.cumsum(counts)[last] / counts.sum()
    values = falling[last]
    drawn = np.diff(shares, prepend=0.0) > 0
    shares, values = shares[drawn], values[drawn]
    above = _above(float(values[0]))
    if above is not None:
        shares, values = np.append(0.0, shares), np.append(above, values)
    i = int(np.argmin(np.abs(shares - share)))
    below = float(values[i + 1]) if i + 1 < len(values) else -1.0
    if share == 1.0 and i == len(values) - 1:
        return 0.0, 1.0  # whatever the win rate, not just those seen here
    return shortest_between(below, float(values[i])), float(shares[i])


def _above(greatest: float) -> float | None:
    """A threshold that no win rate seen reaches; None if the greatest is 1, the most there is."""
    return shortest_between(greatest, 1.0) if greatest < 1.0 else None


def _cheapest(win_rates: Float64Array, half: Benchmark, target: float, measure: str) -> float:
    order = np.argsort(-win_rates, kind="stable")
    falling = win_rates[order]
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    n = len(falling)
    quality = (
        half.weak.mean() + np.append(0.0, np.cumsum((half.strong - half.weak)[order])[last]) / n
    )
    spent = np.append(0.0, last + 1.0)
    if half.cost_weak is not None and half.cost_strong is not None:
        spent = np.append(0.0, np.cumsum((half.cost_strong - half.cost_weak)[order])[last])
    weak, strong = float(half.weak.mean()), float(half.strong.mean())
    goal = target * strong if measure == "quality" else weak + target * (strong - weak)
    values = np.append(np.inf, falling[last])
    reached = quality >= goal - 1e-12 * abs(strong)
    if float(falling[0]) >= 1.0:
        reached[0] = False  # no threshold keeps a win rate of 1 from the strong model
    i = int(np.flatnonzero(reached)[np.argmin(spent[reached])])
    if i == 0:
        above = _above(float(falling[0]))
        assert above is not None
        return above
    below = float(values[i + 1]) if i + 1 < len(values) else -1.0
    return 0.0 if below < 0.0 else shortest_between(below, float(values[i]))


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
    routed: npt.NDArray[np.bool_] = win_rates >= threshold
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
