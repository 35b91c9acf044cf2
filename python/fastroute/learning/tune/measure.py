"""What a policy does on graded rows, with intervals over distinct prompts."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.learning.tune.guarantee import Graded, means_by_unit
from fastroute.learning.tune.result import Policy
from fastroute.types import Float64Array


def measure_policy(graded: Graded, strong: Float64Array, z: float) -> Policy:
    """The policy that sends row i to the strong model with probability strong[i], float64[n].

    Intervals are normal, of ``z`` standard errors to each side; of the ratio of two means by
    linearisation.
    """
    chosen = strong * graded.strong + (1.0 - strong) * graded.weak
    spent = None
    if graded.cost_weak is not None and graded.cost_strong is not None:
        spent = strong * graded.cost_strong + (1.0 - strong) * graded.cost_weak
    return measure_choice(graded.units, strong, chosen, graded.strong, spent, graded.cost_strong, z)


def measure_choice(
    units: npt.NDArray[np.int64],
    share: Float64Array,
    grades: Float64Array,
    reference: Float64Array,
    spent: Float64Array | None,
    reference_cost: Float64Array | None,
    z: float,
) -> Policy:
    """The same of any choice: how often it is the reference model, its grades and dollars, and
    those of the reference model, float64[n] each."""

    def by_unit(values: Float64Array) -> Float64Array:
        return means_by_unit(units, values)

    cost = saved = None
    if spent is not None and reference_cost is not None:
        cost = _mean(by_unit(1000.0 * spent), z)
        saved = _mean(by_unit(1000.0 * (reference_cost - spent)), z)
    strong = _mean(by_unit(share.astype(np.float64)), z)
    ends = [None if end is None else min(max(end, 0.0), 1.0) for end in (strong.low, strong.high)]
    quality = _ratio(by_unit(grades), by_unit(reference), z)
    return Policy(Estimate(strong.value, *ends), quality, cost, saved)


def upper_tail(z: float) -> float:
    """P(Z > z) of a standard normal Z."""
    return 0.5 * math.erfc(z / math.sqrt(2.0))


def p_value_of_mean(values: Float64Array) -> float:
    """One-sided p-value of "the mean is not above 0", by the normal approximation."""
    error = float(values.std()) / math.sqrt(max(len(values), 1))
    if error == 0.0:
        return 0.0 if float(values.mean()) > 0.0 else 1.0
    return upper_tail(float(values.mean()) / error)


def smirnov_p_value(a: Float64Array, b: Float64Array) -> float:
    """P-value of "a and b are of one distribution", Kolmogorov and Smirnov's limit."""
    every = np.sort(np.concatenate([a, b]))
    below = [np.searchsorted(np.sort(x), every, side="right") / len(x) for x in (a, b)]
    distance = float(np.abs(below[0] - below[1]).max())
    n = len(a) * len(b) / (len(a) + len(b))
    t = (math.sqrt(n) + 0.12 + 0.11 / math.sqrt(n)) * distance
    if t < 0.3:
        return 1.0
    terms = ((-1.0) ** (k - 1) * math.exp(-2.0 * (k * t) ** 2) for k in range(1, 101))
    return min(max(2.0 * sum(terms), 0.0), 1.0)


def critical_value(confidence: float) -> float:
    """z with P(|Z| <= z) = confidence."""
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)


def strong_calls(win_rates: Float64Array, threshold: float) -> npt.NDArray[np.float64]:
    """1 where the strong model answers, float64[n]."""
    return (win_rates >= threshold).astype(np.float64)


def _mean(values: Float64Array, z: float) -> Estimate:
    mean = float(values.mean())
    error = z * float(values.std()) / math.sqrt(len(values))
    return Estimate(mean, mean - error, mean + error)


def _ratio(part: Float64Array, whole: Float64Array, z: float) -> Estimate:
    base = float(whole.mean())
    if base <= 0.0:
        return Estimate(math.nan)
    ratio = float(part.mean()) / base
    error = z * float((part - ratio * whole).std()) / math.sqrt(len(part)) / base
    return Estimate(ratio, ratio - error, ratio + error)
