"""Heads: ``mf`` routers learnt from prompts and their win rates.

A head for one pair is a vector: win rate = sigmoid(pair . x). It is a sum of two parts,
``pair = slope * direction + level * constant``:

``direction``
    Ridge regression of the targets with an offset for each group of prompts (a fixed effect), so
    that it can't learn which group a prompt came from. Its mean score is near 0. Signals, the
    last elements of some embeddings (``Embedder.signals``), are learnt with the rest, or get a
    given weight: signal_weight times as much spread within groups as the meaning has.
``constant``
    The vector whose product with every embedding is nearest 1, in place of a bias, which ``mf``
    has not.

Slope and level are fitted to *held-out* scores: each fold is scored by a direction and a constant
learnt without it, and the two numbers minimise the cross-entropy of those scores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._arrays import check_array, check_finite
from fastroute._validate import check_prompts
from fastroute.artifacts import hash_prompts, save_artifact
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.matrix_factorization import KIND, MatrixFactorizationRouter
from fastroute.training.folds import fold_numbers
from fastroute.training.with_tokens import with_tokens
from fastroute.types import BoolArray, Float32Array, Float64Array, Int64Array

STRONG, WEAK = "strong", "weak"
FOLDS = 5
#: Ridge strengths to choose from on held-out folds, where the weights of prompts have mean 1.
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)

# Ridge of the constant vector, as a share of the sum of weights.
_CONSTANT_RIDGE = 1e-3
# Keeps slope and level finite where the held-out scores separate the targets.
_SCALE_RIDGE = 1e-4
# Where held-out data shows no slope at all, the order learnt is kept, at next to no spread.
_LEAST_SLOPE = 1e-3


@dataclass(frozen=True, slots=True)
class Head:
    """A learnt pair vector, and how it did on prompts that it was not fitted to."""

    pair: Float64Array  #: float64[d], win rate = sigmoid(pair . x).
    #: float64[n]; each is of a head fitted without the prompt's fold.
    held_out_win_rates: Float64Array
    targets: Float64Array  #: float64[n], the targets less their group's mean plus the mean of all
    ridge: float  #: the ridge strength that was used
    #: slope, level: of ``direction`` and ``constant``.
    slope: float
    level: float


def train_mf(
    prompts: Sequence[str],
    win_rates: Float64Array,
    *,
    embedder: Embedder,
    groups: Sequence[str] | None = None,
    weights: Float64Array | None = None,
    ridge: float | None = None,
    signal_weight: float | None = None,
    seed: int = 0,
) -> MatrixFactorizationRouter:
    """An ``mf`` router between "strong" and "weak", learnt from n prompts.

    Args:
        prompts: what the models were asked.
        win_rates: float64[n], 0..1: 1 where the strong model's answer was preferred, 0.5 for a
            tie, 0 where the weak one's was.
        embedder: what the router will embed prompts with.
        groups: n names, such as the dataset of each prompt; only differences within a group are
            learnt. By default all prompts are one group.
        weights: float64[n], how much each prompt counts; by default all the same.
        ridge: ridge strength; by default the one of RIDGES that is best on held-out folds.
        signal_weight: weight of the embedder's signals, such as the length, against meaning; by
            default learnt.
        seed: of the folds. Nothing else is random.

    Returns a router whose provenance has the quantiles of held-out win rates, an operating point
    and the prompts' hashes. Prompts without any token teach nothing, but count as trained on.
    Raises InvalidInputError for targets outside 0..1, lengths that differ, or prompts that don't
    fill three folds.
    """
    texts = check_prompts(prompts)
    check_array("win_rates", win_rates, np.float64, 1)
    n = len(texts)
    if weights is None:
        weights = np.ones(n)
    check_array("weights", weights, np.float64, 1)
    names = [""] * n if groups is None else list(groups)
    if not len(win_rates) == len(names) == len(weights) == n:
        raise InvalidInputError(
            "prompts, win_rates, groups and weights must have the same length, got "
            f"{n}, {len(win_rates)}, {len(names)} and {len(weights)}"
        )
    X = embedder.embed_batch(texts)
    said = with_tokens(X, embedder)
    ids = np.unique(names, return_inverse=True)[1].astype(np.int64)
    head = fit_head(
        X[said],
        win_rates[said],
        group_ids=ids[said],
        weights=weights[said],
        fold_ids=fold_numbers(texts, FOLDS, seed)[said],
        ridge=ridge,
        signals=embedder.signals,
        signal_weight=signal_weight,
    )
    return router_of(head, texts, embedder)


def router_of(
    head: Head,
    prompts: Sequence[str],
    embedder: Embedder | None,
    strong: str = STRONG,
    weak: str = WEAK,
) -> MatrixFactorizationRouter:
    """The router between two models of a head that was fitted to ``prompts``."""
    half = (head.pair / 2.0).astype(np.float32)
    return MatrixFactorizationRouter.of_vectors(
        [strong, weak],
        np.stack([half, -half]),
        strong_model=strong,
        weak_model=weak,
        embedder=embedder,
        provenance=calibrated(
            Provenance(trained_on=hash_prompts(prompts)),
            head.held_out_win_rates,
            calibrated_on=f"{len(prompts):,} training prompts, held out by folds",
        ),
    )


def save_mf(
    folder: str | os.PathLike[str],
    router: MatrixFactorizationRouter,
    *,
    training: Mapping[str, Any] | None = None,
    card: str | None = None,
) -> None:
    """Write a trained router as an "mf" artifact that ``MatrixFactorizationRouter.load`` reads.

    Args:
        folder: where it goes.
        router: its scores are stored as one matrix, models times dimensions.
        training: how it was trained and how it did, plain JSON; stored in the manifest.
        card: the model card, stored as card.md.

    Raises InvalidTypeError for what is not a router, InvalidInputError for a router without
    calibration, training record or embedder.
    """
    if not isinstance(router, MatrixFactorizationRouter):
        raise InvalidTypeError(
            f"router must be a MatrixFactorizationRouter, got {type(router).__name__}; make one "
            "with train_mf"
        )
    known = router.provenance
    if known.calibration is None or known.trained_on is None or router.embedder is None:
        raise InvalidInputError(
            "router has no calibration, trained_on or embedder; make it with train_mf"
        )
    count = len(router.models)
    save_artifact(
        Path(folder),
        kind=KIND,
        config={
            "models": list(router.models),
            "strong_model": router.strong_model,
            "weak_model": router.weak_model,
            "embedder": router.embedder.name,
            "dimensions": router.dimensions,
            **({} if training is None else {"training": dict(training)}),
        },
        arrays={
            "P.weight": np.eye(count, dtype=np.float32),
            "text_proj.0.weight": router.vectors,
            "classifier.0.weight": np.ones((1, count), dtype=np.float32),
        },
        provenance=known,
        files=None if card is None else {"card.md": card.encode()},
    )


def fit_head(
    X: Float32Array,
    targets: Float64Array,
    *,
    group_ids: Int64Array,
    weights: Float64Array,
    fold_ids: Int64Array,
    ridge: float | None = None,
    signals: int = 0,
    signal_weight: float | None = None,
) -> Head:
    """Fit direction, constant, slope and level; see the module.

    Args:
        X: float32[n, d], prompt embeddings.
        targets: float64[n], win rates in 0..1.
        group_ids: int64[n], 0..g-1; an offset each.
        weights: float64[n], above 0; scaled to mean 1.
        fold_ids: int64[n]; prompts of one fold are held out together.
        ridge: ridge strength, or None for the best of RIDGES by held-out squared error.
        signals: how many of the last columns of ``X`` are signals.
        signal_weight: their weight, or None to learn it.
    """
    _check(targets, weights, fold_ids)
    if signal_weight is not None and not 0.0 <= signal_weight <= 1e6:
        raise InvalidInputError(f"signal_weight must be from 0 to 1e6, got {signal_weight}")
    if ridge is not None and not ridge > 0:
        raise InvalidInputError(f"ridge must be above 0, got {ridge}")
    E = X.astype(np.float64)
    weights = weights * (len(weights) / weights.sum())
    y = centred(targets, group_ids, weights) + np.average(targets, weights=weights)

    def scores_without(
        left_out: BoolArray, out: BoolArray, ridges: Sequence[float]
    ) -> Float64Array:
        """Scores of the prompts ``out``, and the constant's: float64[ridges + 1, out]."""
        rest = ~left_out
        learnt = level_parts(
            E[rest], targets[rest], group_ids[rest], weights[rest], ridges, signals, signal_weight
        )
        return learnt @ E[out].T

    ridges = RIDGES if ridge is None else (ridge,)
    folds = [fold_ids == fold for fold in np.unique(fold_ids)]
    scores = np.empty((len(ridges) + 1, len(y)))
    for out in folds:
        scores[:, out] = scores_without(out, out, ridges)
    errors = [
        float(np.average(centred(targets - s, group_ids, weights) ** 2, weights=weights))
        for s in scores[:-1]
    ]
    best = int(np.argmin(errors))
    F = scores[[best, -1]].T
    slope, level = fit_scale(F, y, weights)

    # For the win rates of a held-out fold, slope and level too are found without it: on the other
    # folds, each scored by what was learnt without both.
    held_out = np.empty(len(y))
    without = np.empty((2, len(y)))
    for out in folds:
        for other in folds:
            if other is not out:
                without[:, other] = scores_without(out | other, other, (ridges[best],))
        rest = ~out
        held_out[out] = sigmoid(F[out] @ fit_scale(without[:, rest].T, y[rest], weights[rest]))
    direction, constant = level_parts(
        E, targets, group_ids, weights, (ridges[best],), signals, signal_weight
    )
    pair = slope * direction + level * constant
    return Head(pair, held_out, y, ridges[best], float(slope), float(level))


def centred(values: Float64Array, group_ids: Int64Array, weights: Float64Array) -> Float64Array:
    """``values``, float64[n] or [n, d], less the weighted mean of their group."""
    # Sorted, so that each group is one run: a mean a run is exact and needs no sparse matrix.
    order = np.argsort(group_ids, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group_ids[order]) != 0])
    lengths = np.diff(np.r_[starts, len(order)])
    w = weights.reshape(-1, *[1] * (values.ndim - 1))
    sums = np.add.reduceat((values * w)[order], starts, axis=0)
    means = sums / np.add.reduceat(w[order], starts, axis=0)
    result = np.empty_like(values)
    result[order] = values[order] - np.repeat(means, lengths, axis=0)
    return result


def ridge_directions(
    X: Float64Array,
    targets: Float64Array,
    group_ids: Int64Array,
    weights: Float64Array,
    ridges: Sequence[float],
    signals: int = 0,
    signal_weight: float | None = None,
) -> Float64Array:
    """Ridge regression with an offset a group, float64[ridges, d]: one direction a strength.

    With a ``signal_weight``, the regression is on meaning alone; each direction is then scaled to
    a spread of 1 within groups, each signal joins it with a spread of ``signal_weight``, and the
    whole is scaled down to what it was.
    """
    Z = centred(X, group_ids, weights)
    unit = np.ones(X.shape[1])
    if signals:
        # In units of its own spread: a ridge must not depend on the unit of a signal.
        spread = np.sqrt(np.average(Z[:, -signals:] ** 2, axis=0, weights=weights))
        unit[-signals:] = np.where(spread > 0.0, spread, np.inf)  # a constant one says nothing
    Z = Z / unit
    kept = len(unit) - signals if signal_weight is not None else len(unit)
    weighted = Z[:, :kept] * weights[:, None]
    gram, moment = weighted.T @ Z[:, :kept], weighted.T @ centred(targets, group_ids, weights)
    directions = np.zeros((len(ridges), len(unit)))
    for direction, ridge in zip(directions, ridges, strict=True):
        direction[:kept] = np.linalg.solve(gram + ridge * np.eye(kept), moment)
        if signal_weight is not None and signals:
            spread = np.sqrt(np.average((Z @ direction) ** 2, weights=weights))
            direction /= spread if spread > 0.0 else 1.0
            direction[kept:] = signal_weight
            direction /= np.sqrt(1.0 + signals * signal_weight**2)  # however great the weight is
    return directions / unit


def level_parts(
    X: Float64Array,
    targets: Float64Array,
    group_ids: Int64Array,
    weights: Float64Array,
    ridges: Sequence[float],
    signals: int = 0,
    signal_weight: float | None = None,
) -> Float64Array:
    """Directions, one a ridge strength, and last the constant: float64[ridges + 1, d].

    Offsets by group leave the mean score of a direction to chance, and it drifts with the number
    of prompts. So that much of the constant is taken off, which brings it near 0 where there is a
    constant (its own mean is near 1): the level means the same in every fold.
    """
    constant = constant_vector(X, weights)
    learnt = ridge_directions(X, targets, group_ids, weights, ridges, signals, signal_weight)
    means = np.average(X @ np.vstack([learnt, constant]).T, axis=0, weights=weights)
    return np.vstack([learnt - np.outer(means[:-1] * means[-1], constant), constant])


def constant_vector(X: Float64Array, weights: Float64Array) -> Float64Array:
    """The vector u, float64[d], that minimises the weighted mean of (X u - 1)^2, with a ridge."""
    weighted = X * weights[:, None]
    gram = weighted.T @ X
    shrink = _CONSTANT_RIDGE * float(weights.sum())
    return np.linalg.solve(gram + shrink * np.eye(X.shape[1]), weighted.sum(axis=0))


def fit_scale(F: Float64Array, y: Float64Array, weights: Float64Array) -> Float64Array:
    """Slope and level: logistic regression of y on the two columns of F, by Newton's method."""
    unit = np.sqrt(np.average(F**2, axis=0, weights=weights))
    unit[unit == 0.0] = 1.0
    Z = F / unit
    penalty = _SCALE_RIDGE * float(weights.sum()) * np.eye(2)
    coefficients = np.zeros(2)
    for _ in range(100):
        p = sigmoid(Z @ coefficients)
        gradient = Z.T @ (weights * (p - y)) + penalty @ coefficients
        hessian = (Z * (weights * np.maximum(p * (1 - p), 1e-6))[:, None]).T @ Z + penalty
        step = np.linalg.solve(hessian, gradient)
        # Far from the optimum a full step can overshoot.
        coefficients -= step * min(1.0, 2.0 / float(np.abs(step).max(initial=1e-300)))
        if np.abs(step).max() < 1e-12:
            break
    slope_and_level = coefficients / unit
    slope_and_level[0] = max(slope_and_level[0], _LEAST_SLOPE)
    return slope_and_level


def sigmoid(z: Float64Array) -> Float64Array:
    """1 / (1 + exp(-z)) without overflow."""
    odds = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, odds) / (1.0 + odds)


def _check(targets: Float64Array, weights: Float64Array, fold_ids: Int64Array) -> None:
    check_finite("win_rates", targets)
    outside = (targets < 0.0) | (targets > 1.0)
    if outside.any():
        i = int(np.argmax(outside))
        raise InvalidInputError(
            f"win_rates[{i}] is {targets[i]}; give 1 where the strong model was preferred, 0.5 for "
            "a tie and 0 where the weak one was"
        )
    check_finite("weights", weights)
    if (weights <= 0.0).any():
        i = int(np.argmax(weights <= 0.0))
        raise InvalidInputError(f"weights[{i}] is {weights[i]}; a weight must be above 0")
    if len(np.unique(fold_ids)) < 3:
        raise InvalidInputError(
            f"prompts: {len(targets)} of them with any token fill fewer than 3 folds; give more "
            "distinct prompts, some hundreds"
        )
