"""Bradley-Terry strengths of what was compared in pairs, with a ridge, and their standard errors.

b is preferred to a with probability sigmoid(offset + s_b - s_a). The strengths s minimise

    sum_i w_i * cross-entropy_i  +  ridge / 2 * |s|^2,

so they are finite also of one that was always preferred, and their mean is 0. The standard errors
are those of Laplace's approximation: the square roots of the diagonal of the inverse Hessian, less
the direction in which all strengths rise together, which no comparison tells anything about.
"""

from __future__ import annotations

import numpy as np

from fastroute.training.heads import sigmoid
from fastroute.types import Float64Array, Int64Array


def fit_strengths(
    a: Int64Array,
    b: Int64Array,
    preference: Float64Array,
    weights: Float64Array,
    count: int,
    *,
    ridge: float,
    offset: Float64Array | float = 0.0,
) -> Float64Array:
    """Strengths, float64[count], natural logarithm of odds, mean 0, by Newton's method.

    Args:
        a, b: int64[n], what was compared, each below ``count``.
        preference: float64[n], how far b was preferred, 0 to 1; 0.5 for a tie.
        weights: float64[n], above 0.
        count: how many there are; one without a comparison has strength 0.
        ridge: above 0; see the module.
        offset: float64[n], the part of each pair's margin that is known.
    """
    s = np.zeros(count)
    for _ in range(100):
        p = sigmoid(offset + s[b] - s[a])
        residual = weights * (p - preference)
        slope = np.bincount(b, residual, count) - np.bincount(a, residual, count)
        hessian = _hessian(a, b, weights, p, count, ridge)
        step = np.linalg.solve(hessian, slope + ridge * s)
        s -= step * min(1.0, 2.0 / float(np.abs(step).max(initial=1e-300)))
        if np.abs(step).max(initial=0.0) < 1e-10:
            break
    result: Float64Array = s - s.mean()
    return result


def standard_errors(
    a: Int64Array, b: Int64Array, weights: Float64Array, strengths: Float64Array, *, ridge: float
) -> Float64Array:
    """Standard error of each of ``strengths``, float64[count], fitted with no offset."""
    count = len(strengths)
    p = sigmoid(strengths[b] - strengths[a])
    inverse = np.linalg.inv(_hessian(a, b, weights, p, count, ridge))
    return np.sqrt(np.maximum(np.diag(inverse) - 1.0 / (count * ridge), 0.0))


def _hessian(
    a: Int64Array, b: Int64Array, weights: Float64Array, p: Float64Array, count: int, ridge: float
) -> Float64Array:
    curve = weights * np.maximum(p * (1.0 - p), 1e-6)
    hessian = np.zeros((count, count))
    np.subtract.at(hessian, (a, b), curve)
    np.subtract.at(hessian, (b, a), curve)
    hessian[np.diag_indices(count)] = ridge - hessian.sum(axis=1)
    return hessian
