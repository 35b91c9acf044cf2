"""How well win rates rank the prompts of graded data, by two measures.

Each is taken within a dataset and averaged over a file's datasets by prompts:

correlation
    Spearman's, of win rate and difficulty (1 less the mean score of all models). Dozens of models
    are averaged in it, so it tells recipes apart where APGR between two sides can't.
APGR
    Exact, between the mean of the best quarter of the models and the mean of the weaker half, on
    datasets where such a pair is what a router is for: the strong side right on at least 65 %, at
    least 5 points ahead.

Datasets of fewer than 150 prompts are not scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastroute.data import GradedResult
from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.training.labels import members_of, score_table
from fastroute.types import Float64Array, IntArray

LEAST_PROMPTS = 150
LEAST_STRONG = 0.65
LEAST_GAP = 0.05


class Arena(NamedTuple):
    """A dataset to score on: row numbers, and what the two sides scored on each."""

    file: str
    rows: IntArray
    weak: Float64Array
    strong: Float64Array


def arenas(rows: Sequence[GradedResult]) -> list[Arena]:
    """The datasets of ``rows`` that routers are scored on; see the module."""
    result = []
    for index in members_of(rows).values():
        scores = score_table([rows[i] for i in index])
        order = np.argsort(-scores.mean(axis=0), kind="stable")
        strong = scores[:, order[: max(1, round(len(order) / 4))]].mean(axis=1)
        weak = scores[:, order[len(order) - len(order) // 2 :]].mean(axis=1)
        useful = strong.mean() >= max(LEAST_STRONG, weak.mean() + LEAST_GAP)
        if len(index) >= LEAST_PROMPTS and useful:
            result.append(Arena(rows[index[0]].file, np.array(index), weak, strong))
    return result


def apgr_by_file(win_rates: Float64Array, scored: Sequence[Arena]) -> dict[str, float]:
    """Mean APGR of each file's datasets, weighted by prompts; NaN win rates are not scored."""
    found: dict[str, list[tuple[float, int]]] = {}
    for arena in scored:
        rates = win_rates[arena.rows]
        if not np.isnan(rates).any():
            area = apgr(curve(rates, arena.weak, arena.strong))
            found.setdefault(arena.file, []).append((area, len(rates)))
    return {
        file: float(np.average([value for value, _ in pairs], weights=[n for _, n in pairs]))
        for file, pairs in found.items()
    }


def rank_correlation(a: Float64Array, b: Float64Array) -> float:
    """Spearman's rank correlation, ties averaged; 0 where one is constant or empty."""
    ranks = [mean_ranks(values) for values in (a, b)]
    if any(len(np.unique(values)) < 2 for values in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def mean_ranks(values: Float64Array) -> Float64Array:
    """Ranks from 0, ties averaged."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2.0)[index]
