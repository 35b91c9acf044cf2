"""One model more in a ``SuccessEstimator``, from a few graded prompts."""

from __future__ import annotations

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.routers.many_models.estimator import EDGE, Heads, SuccessEstimator
from fastroute.types import Float32Array, Float64Array

LEAST_PROMPTS = 10
#: Variance of a model's level at least, and of how much it follows the shared part.
_LEAST_VARIANCE = 0.01
_FOLLOWING = 0.25
#: How far a new model's deviations may be from the known models', and outside their directions in
#: units of the grades' own variance: medians of the priors, and what is tried.
_SCALE, _OUTSIDE = 2.0, 0.02
_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def add_model(
    estimator: SuccessEstimator,
    model: str,
    X: Float32Array,
    grades: Float64Array,
    others: Float64Array | None = None,
) -> SuccessEstimator:
    """The estimator with one model more, from a few grades; the others are unchanged.

    The model's deviation from the shared part is taken to be like those of the known models: a
    Gaussian with their covariance, times what makes the grades most likely. So a few grades tell
    which of them it resembles. Grades of the known models on the same prompts tell which prompts
    are hard or easy for all, beyond what the shared part knows: as far as the known models follow
    each other in that, it is taken off the new model's grades.

    Args:
        X: float32[n, d], embeddings of its graded prompts, none of them zero.
        grades: float64[n], 0..1.
        others: float64[n, m], grades of the known models, NaN where there is none.

    Raises InvalidInputError for a known model, fewer than 10 prompts, or grades outside 0..1.
    """
    if model in estimator.models:
        raise InvalidInputError(f"model {model!r} is known already; train again to change it")
    if len(grades) < LEAST_PROMPTS:
        raise InvalidInputError(
            f"{len(grades)} graded prompts of {model!r}; at least {LEAST_PROMPTS} are needed"
        )
    if not ((grades >= 0.0) & (grades <= 1.0)).all():
        raise InvalidInputError(f"grades of {model!r} must be in 0..1")
    d, away = estimator.dimensions, estimator.features(X)
    common = np.concatenate([estimator.shared, estimator.shared_by_cluster]).astype(np.float64)
    shared = away @ common
    known = np.concatenate([estimator.heads.own, estimator.heads.by_cluster], axis=1)
    known = known.astype(np.float64) / np.sqrt(len(estimator.models))
    noise = float(np.mean(estimator.heads.noise**2))
    level = float(estimator.heads.level.mean())
    variance = max(float(estimator.heads.level.var()), _LEAST_VARIANCE)
    of_known = away @ known.T
    item, noises = np.zeros(len(away)), np.full(len(away), noise)
    if others is not None:
        heads = estimator.heads
        beyond = others - heads.level - shared[:, None] - of_known * np.sqrt(len(heads.level))
        item, noises = _item_effects(beyond, noise)
    follows = shared + item
    left = grades - level - follows
    always = variance + _FOLLOWING * np.outer(follows, follows) + np.diag(noises)
    near, far = of_known @ of_known.T, noise * (away @ away.T)
    _, scale, outside = max(
        (
            _log_likelihood(scale * near + outside * far + always, left)
            - 0.5 * (np.log(scale / _SCALE) ** 2 + np.log(outside / _OUTSIDE) ** 2),
            scale,
            outside,
        )
        for scale in (_SCALE * factor for factor in _FACTORS)
        for outside in (_OUTSIDE * factor for factor in _FACTORS)
    )
    alpha = np.linalg.solve(scale * near + outside * far + always, left)
    own = scale * known.T @ (of_known.T @ alpha) + outside * noise * (away.T @ alpha)
    own += _FOLLOWING * common * (follows @ alpha)
    level += variance * float(alpha.sum())
    # The calibration of a usual model, that keeps the level.
    slope = float(np.median(estimator.heads.slope))
    p = min(max(level, EDGE), 1.0 - EDGE)
    offset = (1.0 - slope) * float(np.log(p / (1.0 - p)))
    head = Heads(
        own[None, :d].astype(np.float32), own[None, d:].astype(np.float32), np.array([np.inf]),
        np.array([level]), np.array([slope]), np.array([offset]), np.array([np.sqrt(noise)]),
        np.array([float(len(grades))]),
    )  # fmt: skip
    neighbors = estimator.neighbors
    if neighbors is not None:
        # Its own grades are few and its count is infinite: it takes part in what is shared only.
        column = np.full((len(neighbors.own), 1), np.nan, np.float32)
        neighbors = neighbors.with_own(np.concatenate([neighbors.own, column], axis=1))
    models = (*estimator.models, model)
    return estimator.with_heads(models, estimator.heads.join(head), neighbors)


def _item_effects(beyond: Float64Array, noise: float) -> tuple[Float64Array, Float64Array]:
    """What a prompt adds to every model's grade, and the variance of grades that it leaves.

    ``beyond`` is float64[n, m], grades less what was expected, NaN where there is none; ``noise``
    their variance where nothing is known. A model follows the mean of the others by a coefficient
    that is the same for all.
    """
    known = ~np.isnan(beyond)
    count = known.sum(axis=1, keepdims=True)
    filled = np.where(known, beyond, 0.0)
    total = filled.sum(axis=1, keepdims=True)
    others = (total - filled) / np.maximum(count - 1, 1)
    usable = known & (count > 1)
    spread = float((others[usable] ** 2).sum())
    if not spread:
        return np.zeros(len(beyond)), np.full(len(beyond), noise)
    coefficient = float((others[usable] @ beyond[usable]) / spread)
    left = float(np.mean((beyond[usable] - coefficient * others[usable]) ** 2))
    item = coefficient * total[:, 0] / np.maximum(count[:, 0], 1)
    return item, np.where(count[:, 0] > 0, min(left, noise), noise)


def _log_likelihood(covariance: Float64Array, values: Float64Array) -> float:
    """Of values from a Gaussian of mean 0, but for a constant."""
    root = np.linalg.cholesky(covariance)
    scaled = np.linalg.solve(root, values)
    return float(-0.5 * scaled @ scaled - np.log(np.diag(root)).sum())
