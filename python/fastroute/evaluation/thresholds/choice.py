"""Thresholds with few digits, and the threshold for a share of strong calls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastroute._checks import check_number, check_probabilities, check_resampling
from fastroute._progress import progress_bar
from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.bootstrap import (
    Estimate,
    check_confidence,
    estimate,
    resample_counts,
)
from fastroute.evaluation.metrics.curve import Curve
from fastroute.types import Float64Array


@dataclass(frozen=True, slots=True)
class ShareThreshold:
    """A threshold for a share of strong calls.

    Attributes:
        target_share: the share that was given.
        threshold: prompts with at least this win rate are strong calls; with its bootstrap
            interval over prompts.
        share: share of strong calls at ``threshold.value``; ties may keep it from the target.
        prompts: number of win rates.
    """

    target_share: float
    threshold: Estimate
    share: Estimate
    prompts: int


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
        win_rates: float64[n], of prompts like those to be routed, without training prompts.
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


def shortest_between(low: float, high: float) -> float:
    """The number in (low, high] with the fewest digits: it makes the same decisions."""
    for digits in range(2, 17):
        short = round(high, digits)
        if short > high:
            short = round(short - 10.0**-digits, digits)
        if low < short <= high:
            return short
    return high


def threshold_at(points: Curve, i: int) -> float:
    """The threshold with few digits that makes the strong calls of point ``i`` of an exact curve.

    It is 0 where all prompts are strong calls, so that this holds for every win rate.
    """
    values = points.threshold
    if i + 1 == len(values):
        return 0.0
    return shortest_between(float(values[i + 1]), min(float(values[i]), 1.0))


def check_share(share: float) -> None:
    """Raise InvalidInputError if ``share`` is not a number in 0..1."""
    if not 0.0 <= check_number("share", share) <= 1.0:
        raise InvalidInputError(f"share must be in 0..1, got {share!r}")


def _nearest(falling: Float64Array, counts: Float64Array, share: float) -> tuple[float, float]:
    """Threshold, and its share, for win rates by falling value with the given counts."""
    last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    shares = np.cumsum(counts)[last] / counts.sum()
    values = falling[last]
    drawn = np.diff(shares, prepend=0.0) > 0
    shares, values = shares[drawn], values[drawn]
    greatest = float(values[0])
    if greatest < 1.0:  # a threshold above it sends nothing to the strong model
        above = shortest_between(greatest, 1.0)
        shares, values = np.append(0.0, shares), np.append(above, values)
    i = int(np.argmin(np.abs(shares - share)))
    below = float(values[i + 1]) if i + 1 < len(values) else -1.0
    if share == 1.0 and i == len(values) - 1:
        return 0.0, 1.0  # for every win rate, not only those seen here
    return shortest_between(below, float(values[i])), float(shares[i])
