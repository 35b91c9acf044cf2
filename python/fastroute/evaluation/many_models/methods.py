"""Estimates of each model's quality on held-out prompts, by the methods that are compared.

``models`` is the router of that name. ``knn`` takes the mean grades of the 30 nearest graded
prompts, which published routers do not clearly beat. ``clusters`` is Avengers-Pro (arXiv
2508.12631): mean grades in the prompt's nearest clusters of graded prompts.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import default_rng

from fastroute.routers.many_models.clusters import CLUSTERS, NEAREST, cluster_centres, unit
from fastroute.routers.many_models.fit import fit_estimator
from fastroute.types import Float32Array, Float64Array

Method = Callable[[Float32Array, Float64Array, Float32Array], Float64Array]

_NEIGHBORS = 30
_INNER_FOLDS = 5


def models_method(names: tuple[str, ...], difficulty: Float32Array | None, seed: int) -> Method:
    """The ``models`` router, fitted anew: (X, grades, X held out) -> P(success)."""

    def run(X: Float32Array, grades: Float64Array, held_out: Float32Array) -> Float64Array:
        out = np.tile(_levels(grades), (len(held_out), 1))
        known = np.flatnonzero((~np.isnan(grades)).sum(axis=0) >= 2 * _INNER_FOLDS)
        said = X.any(axis=1)
        folds = default_rng(seed).permutation(int(said.sum())) % _INNER_FOLDS
        fitted = fit_estimator(
            [names[j] for j in known], np.ascontiguousarray(X[said]), grades[said][:, known],
            folds, difficulty=difficulty,
        )  # fmt: skip
        out[:, known] = fitted.estimator.estimate(held_out).probability
        return out

    return run


def knn(X: Float32Array, grades: Float64Array, held_out: Float32Array) -> Float64Array:
    """Mean grades of the nearest graded prompts by cosine similarity."""
    rows, queries = unit(X), unit(held_out)
    count = min(_NEIGHBORS, len(X))
    out = np.empty((len(held_out), grades.shape[1]))
    for begin in range(0, len(queries), 256):
        part = slice(begin, begin + 256)
        nearest = np.argpartition(-(queries[part] @ rows.T), count - 1, axis=1)[:, :count]
        out[part] = _means(grades[nearest], _levels(grades))
    return out


def clusters(X: Float32Array, grades: Float64Array, held_out: Float32Array) -> Float64Array:
    """Mean grades in the nearest clusters of graded prompts."""
    rows, queries = unit(X), unit(held_out)
    count = min(CLUSTERS, len(X))
    centres = cluster_centres(X, count, 0)
    nearest = (rows @ centres.T).argmax(axis=1)
    levels = _levels(grades)
    of_cluster = np.array([_means(grades[nearest == c][None], levels)[0] for c in range(count)])
    most = min(NEAREST, count)
    chosen = np.argsort(-(queries @ centres.T), axis=1)[:, :most]
    means: Float64Array = of_cluster[chosen].mean(axis=1)
    return means


def _levels(grades: Float64Array) -> Float64Array:
    known = ~np.isnan(grades)
    mean: Float64Array = np.where(known, grades, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return mean


def _means(grades: Float64Array, otherwise: Float64Array) -> Float64Array:
    """Means along axis 1 of float64[n, k, m]; ``otherwise`` where there is no grade."""
    known = ~np.isnan(grades)
    count = known.sum(axis=1)
    mean = np.where(known, grades, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.where(count > 0, mean, otherwise)
