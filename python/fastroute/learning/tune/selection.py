"""Candidates compared by repeated nested cross-validation.

A candidate is a direction in the embedding: the product with it ranks prompts. How well it ranks is
measured by ``rank_terms``, whose mean is linear in APGR and has a plain standard error. The inner
folds choose among the candidates, and the outer ones measure what was chosen, so that the winner's
figure is not flattered by the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from fastroute.learning.tune.groups import folds_of_groups
from fastroute.learning.tune.head import (
    Moments,
    Parts,
    fit_linear,
    fit_recalibrated,
    total,
)
from fastroute.training.measures import mean_ranks
from fastroute.types import Float64Array

FOLDS = 5
#: Repeats of the folds; one where there are many rows, as they differ little then.
REPEATS = 3
_MANY_ROWS = 5000
#: The candidate that is taken unless another is better by more than one standard error.
FAVOURITE = "head"

Fit = Callable[[Moments, Parts], Float64Array]


@dataclass(frozen=True, eq=False)
class LearningRows:
    """Rows to learn from.

    Attributes:
        X: float64[n, d], embeddings.
        gains: float64[n], grade of the strong model less that of the weak one.
        weights: float64[n]; rows with one grade, whose other one is estimated, count less.
        has_both: bool[n]; only these are scored.
        groups: int64[n], near-duplicates.
    """

    X: Float64Array
    gains: Float64Array
    weights: Float64Array
    has_both: npt.NDArray[np.bool_]
    groups: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Selection:
    """What was chosen, and the figures of all candidates on rows that they were not fitted to.

    Attributes:
        name: of the winner.
        direction: float64[d], fitted to all rows.
        scores: float64[n], of the winner on held-out folds (of the last repeat).
        apgr: by candidate; "winner" is nested. None where the strong model is not better.
        terms: float64[n], ``rank_terms`` of the winner on outer folds, mean over repeats.
    """

    name: str
    direction: Float64Array
    scores: Float64Array
    apgr: Mapping[str, float | None]
    terms: Float64Array


def candidates(parts: Parts) -> Mapping[str, Fit]:
    """How each candidate is fitted, by name."""
    found: dict[str, Fit] = {FAVOURITE: fit_linear}
    if parts.default is not None:
        found |= {"default": _default, "recalibrated": fit_recalibrated}
    if parts.judged is not None:
        found["judged"] = _judged
    if parts.signals:
        found["length"] = _length
    return MappingProxyType(found)


def rank_terms(scores: Float64Array, gains: Float64Array) -> Float64Array:
    """gain * (rank of the score, 0..1, - 1/2), float64[n]; ties share their mean rank.

    APGR is 1/2 + mean(terms) / mean(gains). Where scores say nothing of gains the mean is 0.
    """
    terms: Float64Array = gains * ((mean_ranks(scores) + 0.5) / len(scores) - 0.5)
    return terms


def apgr_of(terms: Float64Array, gains: Float64Array) -> float | None:
    """APGR from ``rank_terms``; None where the strong model is not better on average."""
    gap = float(gains.mean())
    return 0.5 + float(terms.mean()) / gap if gap > 0.0 else None


def select(rows: LearningRows, parts: Parts, *, seed: int) -> Selection:
    """Choose a candidate and fit it to all rows."""
    fits = candidates(parts)
    names = list(fits)
    n = len(rows.gains)
    repeats = 1 if n > _MANY_ROWS else REPEATS
    terms = np.zeros((len(names), n))  # of each candidate on held-out folds
    nested = np.zeros(n)
    scores = np.zeros((len(names), n))
    for repeat in range(repeats):
        folds = folds_of_groups(rows.groups, FOLDS, seed * REPEATS + repeat)
        sums = [
            Moments.of(rows.X[part], rows.gains[part], rows.weights[part])
            for part in (folds == fold for fold in range(FOLDS))
        ]
        for fold in range(FOLDS):
            others = [other for other in range(FOLDS) if other != fold]
            inner = np.zeros((len(names), n))
            for held_out in others:
                rest = total([sums[k] for k in others if k != held_out])
                part = (folds == held_out) & rows.has_both
                for i, fit in enumerate(fits.values()):
                    inner[i, part] = rank_terms(rows.X[part] @ fit(rest, parts), rows.gains[part])
            chosen = _best(names, inner[:, (folds != fold) & rows.has_both])
            rest = total([sums[k] for k in others])
            out = folds == fold
            part = out & rows.has_both
            for i, fit in enumerate(fits.values()):
                scores[i, out] = rows.X[out] @ fit(rest, parts)
                found = rank_terms(scores[i, part], rows.gains[part])
                terms[i, part] += found / repeats
                if i == chosen:
                    nested[part] += found / repeats
    both = rows.has_both
    best = _best(names, terms[:, both])
    everything = Moments.of(rows.X, rows.gains, rows.weights)
    gains = rows.gains[both]
    figures = {name: apgr_of(terms[i, both], gains) for i, name in enumerate(names)}
    return Selection(
        names[best],
        fits[names[best]](everything, parts),
        scores[best],
        figures | {"winner": apgr_of(nested[both], gains)},
        nested[both],
    )


def _best(names: list[str], terms: Float64Array) -> int:
    """The favourite, or the best of those that beat it by more than one standard error."""
    favourite = names.index(FAVOURITE)
    lead = terms - terms[favourite]
    error = lead.std(axis=1) / np.sqrt(terms.shape[1])
    z = np.divide(lead.mean(axis=1), error, out=np.zeros(len(names)), where=error > 0.0)
    better = z > 1.0
    if not better.any():
        return favourite
    return int(np.argmax(np.where(better, terms.mean(axis=1), -np.inf)))


def _default(_: Moments, parts: Parts) -> Float64Array:
    assert parts.default is not None
    return parts.default


def _judged(_: Moments, parts: Parts) -> Float64Array:
    assert parts.judged is not None
    return parts.judged


def _length(sums: Moments, parts: Parts) -> Float64Array:
    direction = np.zeros(len(sums.moment) - 1)
    direction[-parts.signals] = 1.0
    return direction
