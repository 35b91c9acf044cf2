"""How fast old rows are forgotten, and rows drawn by weight, so that the rest counts as it is.

A half-life is chosen by how well a ridge regression on the older rows, each weighted by
2^(-age / half-life), predicts the newest: nothing is forgotten unless that is better by more than
its standard error. Weights become a sample by rejection: a row is kept with a probability in
proportion to its weight, so that what tests the sample needs no weights, and its guarantee holds
for the weighted traffic.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from fastroute.types import Float32Array, Float64Array

#: The part of the rows, the newest, that half-lives are judged by.
NEWEST = 0.2
#: Half-lives that are tried, as parts of the time that the rows span.
PARTS = (0.5, 0.25, 0.125, 0.0625)
# Effective rows below which nothing is predicted.
_LEAST = 100.0
_RIDGE = 10.0
# Greater weights are cut there: one row would decide how few of the others are kept.
_CUT = 0.95


def choose_half_life(
    X: Float32Array, targets: Float64Array, times: Float64Array, weights: Float64Array
) -> float:
    """Seconds after which a row counts half, or infinity.

    Args:
        X: float32[n, d], embeddings of prompts, by rising time.
        targets: float64[n], what is to be predicted.
        times: float64[n], seconds.
        weights: float64[n].
    """
    n = len(targets)
    new = math.ceil(n * (1.0 - NEWEST))
    span = float(times[-1] - times[0]) if n else 0.0
    if new >= n or span <= 0.0:
        return math.inf
    F = X.astype(np.float64)
    age = times[new] - times[:new]
    losses = {math.inf: _losses(F, targets, weights, new, np.ones(new))}
    for part in PARTS:
        decay = 0.5 ** (age / (part * span))
        w = weights[:new] * decay
        if w.sum() ** 2 / (w**2).sum() >= _LEAST:
            losses[part * span] = _losses(F, targets, weights, new, decay)
    best = min(losses, key=lambda half_life: float(losses[half_life].mean()))
    gain = losses[math.inf] - losses[best]
    error = float(gain.std()) / math.sqrt(len(gain))
    return best if float(gain.mean()) > error else math.inf


def _losses(
    F: Float64Array, y: Float64Array, weights: Float64Array, new: int, decay: Float64Array
) -> Float64Array:
    """Squared errors of the newest rows, in the unit of the weights' mean there: with a common
    variance, the lower their mean, the greater the likelihood."""
    w = weights[:new] * decay
    w = w * (len(w) / w.sum())
    centre = w @ F[:new] / w.sum()
    level = float(w @ y[:new] / w.sum())
    Z = F[:new] - centre
    A = (Z * w[:, None]).T @ Z + _RIDGE * np.eye(F.shape[1])
    slope = np.linalg.solve(A, Z.T @ (w * (y[:new] - level)))
    errors = y[new:] - level - (F[new:] - centre) @ slope
    found: Float64Array = errors**2 * weights[new:] / weights[new:].mean()
    return found


def draw_by_weight(weights: Float64Array, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are kept, bool[n], each with a probability in proportion to its weight."""
    if not len(weights):
        return np.zeros(0, dtype=np.bool_)
    most = float(np.quantile(weights, _CUT, method="higher"))
    return np.asarray(default_rng(seed).random(len(weights)) * most < weights)
