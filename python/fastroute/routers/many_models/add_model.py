"""One model more in a ``SuccessEstimator``, from a few graded prompts."""

from __future__ import annotations

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.routers.many_models.estimator import EDGE, Heads, SuccessEstimator
from fastroute.types import Float32Array, Float64Array

LEAST_PROMPTS = 10
#: Variance of a model's level at least; and of its deviation outside the known models' directions,
#: in units of the grades' own variance.
_LEAST_VARIANCE = 0.01
_OUTSIDE = 0.02


def add_model(
    estimator: SuccessEstimator, model: str, X: Float32Array, grades: Float64Array
) -> SuccessEstimator:
    """The estimator with one model more, from a few grades; the others are unchanged.

    The model's deviation from the shared part is taken to be like those of the known models: a
    Gaussian with their covariance. So a few grades tell which of them it resembles.

    Args:
        X: float32[n, d], embeddings of its graded prompts, none of them zero.
        grades: float64[n], 0..1.

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
    shared = away @ np.concatenate([estimator.shared, estimator.shared_by_cluster])
    known = np.concatenate([estimator.heads.own, estimator.heads.by_cluster], axis=1)
    known = known.astype(np.float64) / np.sqrt(len(estimator.models))
    noise = float(np.mean(estimator.heads.noise**2))
    outside = _OUTSIDE * noise
    level = float(estimator.heads.level.mean())
    variance = max(float(estimator.heads.level.var()), _LEAST_VARIANCE)
    of_known = away @ known.T
    kernel = of_known @ of_known.T + outside * (away @ away.T) + variance
    alpha = np.linalg.solve(kernel + noise * np.eye(len(away)), grades - level - shared)
    own = known.T @ (of_known.T @ alpha) + outside * (away.T @ alpha)
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
