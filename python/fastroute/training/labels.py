"""Labels of graded prompts: what a head learns, from the scores of many models.

Labels are win rates, 0..1. Three kinds:

``difficulty``
    How often a model that is always right would beat one of the graded models, drawn at random: d,
    1 less the mean score. Where both are right nothing is won, so that counts for the weak model.
``weak_failure``
    The same against the weaker quarter of a dataset's models alone: how often a weak model fails.
``halves``
    How often a model of the stronger half beats one of the weaker half: 1/2 + (mean score of the
    stronger half - mean score of the weaker half) / 2.

The scores of a dataset's models are first put beside each other in one table. A model that is
missing from a prompt is taken to have scored there what the others say it would: its own mean plus
the prompt's mean departure. Without that a prompt would look easy because a weak model skipped it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from fastroute.data import GradedResult
from fastroute.types import Float64Array


def difficulty(rows: Sequence[GradedResult]) -> Float64Array:
    """The ``difficulty`` label of each row, float64[n]."""
    return _by_group(rows, lambda scores: 1.0 - scores.mean(axis=1))


def weak_failure(rows: Sequence[GradedResult]) -> Float64Array:
    """The ``weak_failure`` label of each row, float64[n]; quarters are taken within datasets."""
    return _by_group(rows, lambda scores: 1.0 - _weaker_quarter(scores).mean(axis=1))


def halves(rows: Sequence[GradedResult]) -> Float64Array:
    """The ``halves`` label of each row, float64[n]; halves are taken within each dataset."""
    return _by_group(rows, _gap_of_halves)


LABELS: dict[str, Callable[[Sequence[GradedResult]], Float64Array]] = {
    "difficulty": difficulty,
    "weak_failure": weak_failure,
    "halves": halves,
}


def score_table(rows: Sequence[GradedResult]) -> Float64Array:
    """Scores, float64[rows, models], 0..1; models sorted by name, missing scores filled in."""
    models = {name: j for j, name in enumerate(sorted({m for row in rows for m in row.scores}))}
    table = np.full((len(rows), len(models)), np.nan)
    for i, row in enumerate(rows):
        for model, score in row.scores.items():
            table[i, models[model]] = score
    known = ~np.isnan(table)
    if known.all():
        return table
    means = np.nanmean(table, axis=0)
    departure = np.nanmean(table - means, axis=1)
    return np.where(known, table, np.clip(means + departure[:, None], 0.0, 1.0))


def outcomes(rows: Sequence[GradedResult], label: str) -> Float64Array:
    """How probable each outcome of the pair of ``label`` is, float64[n, 3].

    In the order strong wins, tie, weak wins. ``difficulty``: a model that is always right against
    one of the graded models, drawn at random; it never loses. ``halves``: a model of the stronger
    half against one of the weaker half, both drawn at random. Scores between 0 and 1 are taken as
    the chance of being right.
    """
    return _by_group(rows, {"difficulty": _outcomes_of_best, "halves": _outcomes_of_halves}[label])


def outcomes_of_pair(
    rows: Sequence[GradedResult], strong: Collection[str], weak: Collection[str]
) -> Float64Array:
    """The same, float64[n, 3], of a model of ``strong`` against one of ``weak``.

    Each is drawn from those that a row has; a row must have one of both.
    """
    means: list[Float64Array] = [
        np.array(
            [np.mean([row.scores[m] for m in names if m in row.scores]) for row in rows],
            dtype=np.float64,
        )
        for names in (strong, weak)
    ]
    return _outcomes_of_two(means[0], means[1])


def _outcomes_of_best(scores: Float64Array) -> Float64Array:
    wrong = 1.0 - scores.mean(axis=1)
    return np.stack([wrong, 1.0 - wrong, np.zeros(len(wrong))], axis=1)


def _outcomes_of_halves(scores: Float64Array) -> Float64Array:
    strong, weak = (half.mean(axis=1) for half in _halves(scores))
    return _outcomes_of_two(strong, weak)


def _outcomes_of_two(strong: Float64Array, weak: Float64Array) -> Float64Array:
    """Of the chances of both to be right, float64[n] each."""
    wins, losses = strong * (1.0 - weak), weak * (1.0 - strong)
    return np.stack([wins, 1.0 - wins - losses, losses], axis=1)


def _gap_of_halves(scores: Float64Array) -> Float64Array:
    strong, weak = _halves(scores)
    gap: Float64Array = strong.mean(axis=1) - weak.mean(axis=1)
    return 0.5 + gap / 2.0


def _halves(scores: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The columns of the stronger half of the models, and of the weaker half."""
    order = np.argsort(-scores.mean(axis=0), kind="stable")
    half = len(order) // 2
    return scores[:, order[:half]], scores[:, order[len(order) - half :]]


def _weaker_quarter(scores: Float64Array) -> Float64Array:
    """The columns of the weaker quarter of the models, at least one."""
    order = np.argsort(scores.mean(axis=0), kind="stable")
    return scores[:, order[: max(1, round(len(order) / 4))]]


def members_of(rows: Sequence[GradedResult]) -> dict[str, list[int]]:
    """The numbers of the rows of each dataset."""
    members: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        members.setdefault(row.group, []).append(i)
    return members


def _by_group(
    rows: Sequence[GradedResult], label: Callable[[Float64Array], Float64Array]
) -> Float64Array:
    members = members_of(rows)
    found = {name: label(score_table([rows[i] for i in group])) for name, group in members.items()}
    width = next(iter(found.values())).shape[1:] if found else ()
    labels = np.empty((len(rows), *width))
    for name, group in members.items():
        labels[group] = found[name]
    return labels
