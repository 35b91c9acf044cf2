"""Which old rows are forgotten, and rows drawn by weight, so that the rest counts as it is.

After a change everything before it is forgotten, and all that came since is kept: a decay would
throw away a part of that too. A moment is chosen by how well the rows since then predict the
newest, by a ridge regression, or by their mean alone where other prompts come; nothing is forgotten
unless that is clearly better. The newest are a fifth of the rows or less, whichever shows it best,
so that a change of yesterday is seen as well.

Weights become a sample by rejection: a row is kept with a probability in proportion to its weight,
so that what tests the sample needs no weights, and its guarantee holds for the weighted traffic.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from fastroute.types import Float32Array, Float64Array

# Parts of the rows, the newest, that are predicted; never fewer rows than _LEAST_NEWEST.
_NEWEST = (0.2, 0.1, 0.05)
_LEAST_NEWEST = 50
# Each window before them is shorter by this factor, down to so many effective rows.
_SHORTER, _LEAST_ROWS = math.sqrt(0.5), 100.0
# Standard errors by which a window must predict better than all rows do.
_CLEARLY = 2.5
_RIDGE = 10.0
# Greater weights are cut there: one row would decide how few of the others are kept.
_CUT = 0.95


def choose_memory(
    X: Float32Array, targets: Float64Array, times: Float64Array, weights: Float64Array
) -> float:
    """The moment before which rows are forgotten, or minus infinity.

    Args:
        X: float32[n, d], embeddings of prompts, by rising time.
        targets: float64[n], what is to be predicted.
        times: float64[n], seconds.
        weights: float64[n].
    """
    n = len(targets)
    F = X.astype(np.float64)
    most, since = 0.0, -math.inf
    for part, G in product(_NEWEST, (F, F[:, :0])):  # by the prompts, and by their mean alone
        new = math.ceil(n * (1.0 - part))
        if n - new < _LEAST_NEWEST:
            break
        everything = _losses(G, targets, weights, 0, new)
        first = _shorten(0, new)
        while weights[first:new].sum() ** 2 >= _LEAST_ROWS * (weights[first:new] ** 2).sum():
            gain = everything - _losses(G, targets, weights, first, new)
            sure = float(gain.mean() - _CLEARLY * gain.std() / math.sqrt(len(gain)))
            if sure > most:
                most, since = sure, float(times[first])
            first = _shorten(first, new)
    return since


def _shorten(first: int, new: int) -> int:
    return new - int((new - first) * _SHORTER)


def _losses(
    F: Float64Array, y: Float64Array, weights: Float64Array, first: int, new: int
) -> Float64Array:
    """Squared errors of the rows from ``new`` on, predicted by those from ``first`` to there, in
    the unit of the weights' mean: with a common variance, the lower their mean, the greater the
    likelihood."""
    w = weights[first:new]
    w = w * (len(w) / w.sum())
    centre = w @ F[first:new] / w.sum()
    level = float(w @ y[first:new] / w.sum())
    Z = F[first:new] - centre
    A = (Z * w[:, None]).T @ Z + _RIDGE * np.eye(F.shape[1])
    slope = np.linalg.solve(A, Z.T @ (w * (y[first:new] - level)))
    errors = y[new:] - level - (F[new:] - centre) @ slope
    found: Float64Array = errors**2 * weights[new:] / weights[new:].mean()
    return found


def draw_by_weight(weights: Float64Array, seed: int) -> npt.NDArray[np.bool_]:
    """Which rows are kept, bool[n], each with a probability in proportion to its weight."""
    if not len(weights):
        return np.zeros(0, dtype=np.bool_)
    most = float(np.quantile(weights, _CUT, method="higher"))
    return np.asarray(default_rng(seed).random(len(weights)) * most < weights)
