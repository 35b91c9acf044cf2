"""Is a win rate a probability? Brier score, expected calibration error, reliability bins.

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
        low, high: the bin's edges; its win rates are in [low, high), the last bin's in [low, high].
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
    half: Float64Array = (np.sign(strong - weak) + 1.0) / 2.0
    return half


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
    result = []
    for i in np.unique(number):
        inside = number == i
        count = int(inside.sum())
        spread = float(outcome[inside].std(ddof=1)) if count > 1 else float("nan")
        result.append(
            ReliabilityBin(
                float(i / bins),
                float((i + 1) / bins),
                count,
                float(win_rates[inside].mean()),
                float(outcome[inside].mean()),
                spread / count**0.5,
            )
        )
    return result


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
