"""Fits a ``SuccessEstimator`` to graded prompts.

What is chosen (clusters, strengths of the ridges, whether the shared part starts from the bundled
difficulty, number and weight of the neighbours) is chosen by held-out grades, in folds. For a
model's own deviation that is the strongest shrinkage whose held-out error is within one standard
error of the least: the best of many noisy estimates is too often one that is too high. Calibration
and noise are of held-out scores too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.routers.many_models.clusters import Clusters
from fastroute.routers.many_models.estimator import (
    EDGE,
    Heads,
    Spread,
    SuccessEstimator,
    mix,
    spread_directions,
)
from fastroute.routers.many_models.neighbors import Evidence, GradedNeighbors
from fastroute.types import BoolArray, Float32Array, Float64Array, IntArray

CLUSTERINGS = (0, 2)
SHARED_RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0)
#: From the weakest shrinkage to the strongest, as are the counts below.
OWN_RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 1000.0)
NEIGHBOR_COUNTS = (10, 30)
SHARED_COUNTS = (10.0, 30.0, 100.0)
OWN_COUNTS = (10.0, 30.0, 100.0, 300.0, float("inf"))
#: The least gain in held-out likelihood, in nats a grade, that is worth a search of neighbours: it
#: takes half as long as all else, and the artifact has to hold the prompts' embeddings.
_LEAST_GAIN = 0.002
_DIRECTIONS = 64
_CALIBRATION_PRIOR = 4.0
#: Share of held-out prompts that are not abstained on.
_USUAL = 0.995
LEAST_PROMPTS = 50


class Settings(NamedTuple):
    """What held-out grades chose."""

    clusterings: int  #: of the graded prompts; 0 for none
    shared_ridge: float  #: strength of the ridge of the shared part
    from_difficulty: bool  #: whether that starts from the bundled difficulty
    own_ridges: tuple[float, ...]  #: strength of the ridge of each model's own deviation
    neighbors: int  #: how many neighbours are looked at; 0 for none


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A fitted estimator and what held-out grades say of it."""

    estimator: SuccessEstimator  #: fitted to all prompts
    settings: Settings  #: what was chosen
    #: float64[n, m], probabilities by regressions and calibrations without the prompt's fold.
    held_out: Float64Array
    log_loss: float  #: of ``held_out``, nats a grade
    level_log_loss: float  #: of the models' levels alone
    standard_error: float  #: of the difference of the two, over prompts


class _Parts(NamedTuple):
    """Scores by part: level float64[n, m], shared float64[n], own float64[n, m]."""

    level: Float64Array
    shared: Float64Array
    own: Float64Array

    def scores(self) -> Float64Array:
        return self.level + self.shared[:, None] + self.own


def fit_estimator(
    models: Sequence[str],
    X: Float32Array,
    grades: Float64Array,
    folds: IntArray,
    *,
    difficulty: Float32Array | None = None,
) -> Fitted:
    """Fit P(success) of ``models``.

    Args:
        models: the columns of ``grades``.
        X: float32[n, d], embeddings of the prompts, none of them zero.
        grades: float64[n, m], 0..1, NaN where a model has no grade.
        folds: int[n], each prompt's fold, 0..k-1.
        difficulty: float32[d], a direction that is known to say how hard a prompt is.

    Raises InvalidInputError for fewer than 50 prompts, grades outside 0..1, or a model without any
    grade outside one of the folds.
    """
    _check(models, grades, folds)
    best: tuple[float, _HeldOut, tuple[_Parts, float, int, IntArray]] | None = None
    for clusterings in CLUSTERINGS:
        held_out = _HeldOut(X, Clusters.fit(X, clusterings), grades, folds, difficulty)
        chosen = held_out.choose_ridges()
        loss = log_loss(chosen[0].scores(), grades)
        if best is None or loss < best[0]:
            best = loss, held_out, chosen
    assert best is not None
    _, held_out, (parts, shared_ridge, start, own) = best
    count, shared_count, own_counts, scores = held_out.choose_neighbors(parts)
    slope, offset = calibrate(scores, grades)
    probability = _calibrated_by_fold(scores, grades, folds)
    whole = held_out.regression(np.full(len(X), True))
    shared = whole.shared(shared_ridge, start)
    weights = whole.own_by_model(shared, own)
    graded = whole.graded.sum(axis=0)
    error = np.where(whole.graded, grades - probability, 0.0)
    d, clusters = X.shape[1], held_out.clusters
    centre = whole.centre[:d].astype(np.float32)
    # A prompt's shares of each clustering sum to 1, so the mean may be taken from the weights.
    share = whole.centre[d:] / (1 if clusters is None else clusters.clusterings)
    heads = Heads(
        weights[:, :d].astype(np.float32),
        (weights[:, d:] - (weights[:, d:] @ share)[:, None]).astype(np.float32), own_counts,
        whole.level, slope, offset,
        np.sqrt((error**2).sum(axis=0) / graded), graded.astype(np.float64),
    )  # fmt: skip
    estimator = SuccessEstimator(
        models, heads, shared[:d].astype(np.float32), centre, clusters,
        (shared[d:] - shared[d:] @ share).astype(np.float32), _spread_of(X, centre, folds),
        whole.neighbors(X, count, clusters) if count else None, shared_count,
    )  # fmt: skip
    levels = np.repeat(whole.level[None, :], len(grades), axis=0)
    of_prompts = _losses(levels, grades) - _losses(probability, grades)
    of_prompts = np.nansum(of_prompts, axis=1) / (graded.sum() / len(grades))
    return Fitted(
        estimator,
        Settings(
            0 if clusters is None else clusters.clusterings,
            shared_ridge,
            start > 0,
            tuple(OWN_RIDGES[i] for i in own),
            count,
        ),
        probability,
        log_loss(probability, grades),
        log_loss(levels, grades),
        float(of_prompts.std() / np.sqrt(len(of_prompts))),
    )


def log_loss(probability: Float64Array, grades: Float64Array) -> float:
    """Mean cross-entropy of the grades that there are, in nats, clipped to 0.01..0.99."""
    return float(np.nanmean(_losses(probability, grades)))


def _losses(probability: Float64Array, grades: Float64Array) -> Float64Array:
    p = np.clip(probability, EDGE, 1.0 - EDGE)
    return -(grades * np.log(p) + (1.0 - grades) * np.log(1.0 - p))


def calibrate(scores: Float64Array, grades: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Slope and offset of each column's logistic calibration, float64[m] each.

    By penalised maximum likelihood: a column with few grades stays near slope 1 and offset 0.
    """
    logits = _logit(scores)
    columns = zip(logits.T, grades.T, strict=True)
    found = np.array([_calibrate(z[~np.isnan(y)], y[~np.isnan(y)]) for z, y in columns])
    slope, offset = np.ascontiguousarray(found.T)
    return slope, offset


def calibrated(scores: Float64Array, slope: Float64Array, offset: Float64Array) -> Float64Array:
    """Probabilities of scores, by column."""
    return 0.5 * (1.0 + np.tanh(0.5 * (slope * _logit(scores) + offset)))


def _calibrated_by_fold(
    scores: Float64Array, grades: Float64Array, folds: IntArray
) -> Float64Array:
    """Probabilities of each fold's scores, calibrated on the other folds."""
    out = np.empty_like(scores)
    for k in range(int(folds.max()) + 1):
        held = folds == k
        out[held] = calibrated(scores[held], *calibrate(scores[~held], grades[~held]))
    return out


def _logit(scores: Float64Array) -> Float64Array:
    p = np.clip(scores, EDGE, 1.0 - EDGE)
    return np.log(p / (1.0 - p))


def _calibrate(z: Float64Array, y: Float64Array) -> Float64Array:
    A = np.column_stack([z, np.ones(len(z))])
    start = np.array([1.0, 0.0])
    b = start.copy()
    for _ in range(30):
        p = 0.5 * (1.0 + np.tanh(0.5 * (A @ b)))
        gradient = A.T @ (y - p) - _CALIBRATION_PRIOR * (b - start)
        hessian = (A.T * (p * (1 - p))) @ A + _CALIBRATION_PRIOR * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        b += step
        if np.abs(step).max() < 1e-9:
            break
    return b


class _HeldOut:
    """Scores of each prompt by regressions without its fold, for all settings."""

    def __init__(
        self,
        X: Float32Array,
        clusters: Clusters | None,
        grades: Float64Array,
        folds: IntArray,
        start: Float32Array | None,
    ) -> None:
        self.clusters = clusters
        self._X, self._grades, self._start = X, grades, start
        self._E = X.astype(np.float64)
        if clusters is not None:
            self._E = np.hstack([self._E, clusters.features(X)], dtype=np.float64)
        self._held = [folds == k for k in range(int(folds.max()) + 1)]
        self._fits = [self.regression(~held) for held in self._held]
        self._starts = 1 if start is None else 2

    def regression(self, rows: BoolArray) -> _Regression:
        """Regressions of some prompts, on their embeddings and clusters."""
        start = self._start
        if start is not None:
            start = np.pad(start, (0, self._E.shape[1] - len(start)))
        return _Regression(self._E[rows], self._grades[rows], start)

    def choose_ridges(self) -> tuple[_Parts, float, int, IntArray]:
        """The parts of the scores, the shared ridge and start, and each model's own ridge."""
        best: tuple[float, _Parts, float, int, IntArray] | None = None
        for start in range(self._starts):
            for ridge in SHARED_RIDGES:
                tables = [self._parts(ridge, start, own) for own in range(len(OWN_RIDGES))]
                errors = np.array([self._errors(table.scores()) for table in tables])
                own = _strongest(errors)
                columns = [tables[i].own[:, j] for j, i in enumerate(own)]
                parts = tables[0]._replace(own=np.column_stack(columns))
                loss = log_loss(parts.scores(), self._grades)
                if best is None or loss < best[0]:
                    best = loss, parts, ridge, start, own
        assert best is not None
        return best[1:]

    def choose_neighbors(self, parts: _Parts) -> tuple[int, float, Float64Array, Float64Array]:
        """Number of neighbours (0 for none), the shared and own counts, and the scores."""
        models, without = self._grades.shape[1], parts.scores()
        least = log_loss(without, self._grades) - _LEAST_GAIN
        best = (least, 0, 1.0, np.full(models, np.inf), without)
        for count in NEIGHBOR_COUNTS:
            evidence = self._evidence(count)
            for shared_count in SHARED_COUNTS:
                tables = []
                for own_count in OWN_COUNTS:
                    shared, own = mix(
                        parts.shared, parts.own, evidence, shared_count,
                        np.full(models, own_count),
                    )  # fmt: skip
                    tables.append(_Parts(parts.level, shared, own).scores())
                chosen = _strongest(np.array([self._errors(table) for table in tables]))
                scores = np.column_stack([tables[i][:, j] for j, i in enumerate(chosen)])
                value = log_loss(scores, self._grades)
                if value < best[0]:
                    counts = np.array(OWN_COUNTS)[chosen]
                    best = value, count, shared_count, counts, scores
        return best[1:]

    def _parts(self, ridge: float, start: int, own: int) -> _Parts:
        parts = _Parts(
            np.empty_like(self._grades), np.empty(len(self._grades)), np.empty_like(self._grades)
        )
        for held, fit in zip(self._held, self._fits, strict=True):
            shared = fit.shared(ridge, start)
            away = self._E[held] - fit.centre
            parts.level[held] = fit.level
            parts.shared[held] = away @ shared
            parts.own[held] = away @ fit.own(shared, OWN_RIDGES[own]).T
        return parts

    def _evidence(self, count: int) -> Evidence:
        models = self._grades.shape[1]
        n = len(self._grades)
        found = Evidence(np.empty(n), np.empty(n), np.empty((n, models)), np.empty((n, models)))
        for held, fit in zip(self._held, self._fits, strict=True):
            near = fit.neighbors(self._X[~held], count, self.clusters).evidence(self._X[held])
            for into, part in zip(found, near, strict=True):
                into[held] = part
        return found

    def _errors(self, scores: Float64Array) -> Float64Array:
        return (np.clip(scores, EDGE, 1.0 - EDGE) - self._grades) ** 2


def _strongest(errors: Float64Array) -> IntArray:
    """For each model the last setting within one standard error of the best: int[m].

    ``errors`` is float64[settings, n, m], squared errors, NaN where there is no grade.
    """
    chosen = np.nanmean(errors, axis=1).argmin(axis=0)
    for model, best in enumerate(chosen):
        for setting in range(len(errors) - 1, best, -1):
            worse = errors[setting, :, model] - errors[best, :, model]
            worse = worse[~np.isnan(worse)]
            if worse.mean() <= worse.std() / np.sqrt(len(worse)):
                chosen[model] = setting
                break
    found: IntArray = chosen.astype(np.intp)
    return found


def _spread_of(X: Float32Array, centre: Float32Array, folds: IntArray) -> Spread:
    """The spread of prompts, and the one that few held-out prompts are above."""

    def directions(rows: Float32Array) -> Float32Array:
        away = rows.astype(np.float64) - centre
        return spread_directions(away.T @ away, _DIRECTIONS)

    held_out = np.empty(len(X))
    for k in range(int(folds.max()) + 1):
        held = folds == k
        away = (X[held] - centre).astype(np.float64)
        along = away @ directions(X[~held]).T.astype(np.float64)
        held_out[held] = (away**2).sum(axis=1) - (along**2).sum(axis=1)
    return Spread(directions(X), len(X), float(np.quantile(held_out, _USUAL)))


class _Regression:
    """Ridge regressions of one set of graded prompts, for any strength."""

    def __init__(self, X: Float64Array, grades: Float64Array, start: Float32Array | None) -> None:
        self.graded: BoolArray = ~np.isnan(grades)
        self.level: Float64Array = np.nanmean(grades, axis=0)
        self.centre: Float64Array = X.mean(axis=0)
        self._X = X - self.centre
        self._above = np.where(self.graded, grades - self.level, 0.0)
        self._common = self._above.sum(axis=1) / np.maximum(self.graded.sum(axis=1), 1)
        self._starts = [np.zeros(X.shape[1])]
        if start is not None:
            direction = start.astype(np.float64)
            z = self._X @ direction
            self._starts.append(direction * (z @ self._common) / (z @ z + 1e-9))
        # Models with grades on the same prompts share a decomposition.
        masks, group = np.unique(self.graded, axis=1, return_inverse=True)
        self._groups: list[tuple[IntArray, IntArray, tuple[Any, Any]]] = []
        for g, mask in enumerate(masks.T):
            rows = np.flatnonzero(mask)
            gram = self._X[rows].T @ self._X[rows]
            self._groups.append((rows, np.flatnonzero(group.ravel() == g), np.linalg.eigh(gram)))
        self._all = np.linalg.eigh(self._X.T @ self._X)

    def shared(self, ridge: float, start: int) -> Float64Array:
        """The part that all models share, float64[d]; ``start`` 1 is the given direction."""
        values, vectors = self._all
        first = self._starts[start]
        right = vectors.T @ (self._X.T @ (self._common - self._X @ first))
        weights: Float64Array = first + vectors @ (right / (values + ridge))
        return weights

    def own(self, shared: Float64Array, ridge: float) -> Float64Array:
        """The models' own deviations from a shared part, float64[m, d]."""
        left = self._above - (self._X @ shared)[:, None]
        weights = np.empty((left.shape[1], self._X.shape[1]))
        for rows, columns, (values, vectors) in self._groups:
            right = vectors.T @ (self._X[rows].T @ left[np.ix_(rows, columns)])
            weights[columns] = (vectors @ (right / (values + ridge)[:, None])).T
        return weights

    def own_by_model(self, shared: Float64Array, settings: IntArray) -> Float64Array:
        """``own`` with the ridge OWN_RIDGES[settings[m]] for model m."""
        weights = np.empty((len(settings), self._X.shape[1]))
        for setting in np.unique(settings):
            chosen = settings == setting
            weights[chosen] = self.own(shared, OWN_RIDGES[setting])[chosen]
        return weights

    def neighbors(self, X: Float32Array, count: int, clusters: Clusters | None) -> GradedNeighbors:
        """The prompts, with embeddings ``X``, as neighbours."""
        own = np.where(self.graded, self._above - self._common[:, None], np.nan)
        common = self._common.astype(np.float32)
        return GradedNeighbors(X, common, own.astype(np.float32), count, clusters)


def _check(models: Sequence[str], grades: Float64Array, folds: IntArray) -> None:
    graded = ~np.isnan(grades)
    outside = graded & ~((grades >= 0.0) & (grades <= 1.0))
    if outside.any():
        i, j = np.argwhere(outside)[0]
        raise InvalidInputError(
            f"grade of {models[j]!r} on prompt {i} is {grades[i, j]}, outside 0..1"
        )
    if len(grades) < LEAST_PROMPTS:
        raise InvalidInputError(
            f"{len(grades)} graded prompts; at least {LEAST_PROMPTS} with known tokens are needed"
        )
    for k in range(int(folds.max()) + 1):
        missing = ~graded[folds != k].any(axis=0)
        if missing.any():
            raise InvalidInputError(
                f"{models[int(np.argmax(missing))]!r} has too few grades: none outside fold {k}; "
                "leave the model out, and give it a quality_prior"
            )
