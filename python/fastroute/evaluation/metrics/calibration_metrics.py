"""Calibration of win rates: Brier score, expected calibration error, reliability bins.

The outcome that a win rate predicts is 1 where the strong model scored higher, 0 where the weak
one did, and 1/2 where they scored the same: a tie is half a win each, as in the routers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastroute._checks import (
    GREATEST,
    check_column,
    check_integer,
    check_probabilities,
    check_same_length,
)
from fastroute.types import Float64Array


class ReliabilityBin(NamedTuple):
    """Prompts of similar win rate.

    Attributes:
        low, high: of bins of equal width, the edges: win rates are in [low, high), the last bin's
            in [low, high]. Of groups of equal size, the least and the greatest win rate.
        prompts: their number.
        win_rate: their mean win rate.
        outcome: their mean outcome; equal to ``win_rate`` if the router is calibrated.
        standard_error: of ``outcome``; NaN for one prompt.
    """

    low: float
    high: float
    prompts: int
    win_rate: float
    outcome: float
    standard_error: float


def outcomes(weak: Float64Array, strong: Float64Array) -> Float64Array:
    """1 where ``strong`` is higher, 0 where ``weak`` is, 1/2 where they are equal: float64[n]."""
    check_same_length(
        weak=check_column("weak", weak, most=GREATEST),
        strong=check_column("strong", strong, most=GREATEST),
    )
    return (np.sign(strong - weak) + 1.0) / 2.0


def brier_score(win_rates: Float64Array, outcome: Float64Array) -> float:
    """Mean squared difference of win rate and outcome (Brier 1950); 0 is best."""
    _check(win_rates, outcome)
    return float(np.mean((win_rates - outcome) ** 2))


def reliability_bins(
    win_rates: Float64Array, outcome: Float64Array, *, bins: int = 10
) -> list[ReliabilityBin]:
    """Bins of equal width over 0..1; empty ones are left out."""
    _check(win_rates, outcome)
    bins = check_integer("bins", bins, 1, 1_000_000)
    number = np.minimum((win_rates * bins).astype(np.intp), bins - 1)
    return [
        _bin(i / bins, (i + 1) / bins, win_rates[number == i], outcome[number == i])
        for i in np.unique(number).tolist()
    ]


def reliability_groups(
    win_rates: Float64Array, outcome: Float64Array, *, most: int = 10, least_prompts: int = 20
) -> list[ReliabilityBin]:
    """At most ``most`` groups of about equally many prompts, by rising win rate.

    They show the calibration of win rates that span a small part of 0..1, which is in one or two
    bins of equal width. A group has at least ``least_prompts``, or all; equal win rates share one.
    """
    _check(win_rates, outcome)
    values, counts = np.unique(win_rates, return_counts=True)
    size = max(least_prompts, len(win_rates) / most)
    ends, held = [], 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        held += count
        if held >= size:
            ends.append(value)
            held = 0
    if 0 < held < least_prompts:
        ends = ends[:-1]  # the rest joins the last group
    number = np.searchsorted(np.array(ends), win_rates)
    found = []
    for i in np.unique(number):
        w = win_rates[number == i]
        found.append(_bin(float(w.min()), float(w.max()), w, outcome[number == i]))
    return found


def _bin(low: float, high: float, win_rates: Float64Array, outcome: Float64Array) -> ReliabilityBin:
    n = len(win_rates)
    spread = float(outcome.std(ddof=1)) if n > 1 else float("nan")
    return ReliabilityBin(
        low, high, n, float(win_rates.mean()), float(outcome.mean()), spread / n**0.5
    )


def expected_calibration_error(
    win_rates: Float64Array, outcome: Float64Array, *, bins: int = 10
) -> float:
    """Mean over prompts of their bin's |win rate - outcome| (Naeini et al. 2015); 0 is best."""
    parts = reliability_bins(win_rates, outcome, bins=bins)
    return sum(b.prompts * abs(b.win_rate - b.outcome) for b in parts) / len(win_rates)


def _check(win_rates: Float64Array, outcome: Float64Array) -> None:
    check_same_length(
        win_rates=check_probabilities("win_rates", win_rates),
        outcome=check_probabilities("outcome", outcome),
    )
