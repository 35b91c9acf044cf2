"""How well win rates fit held-out prompts: what a training reports of its router."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error
from fastroute.training.bert.examples import Examples
from fastroute.types import Float64Array

_LEAST_PROMPTS = 20


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures on held-out prompts."""

    prompts: int  #: how many
    #: Spearman's, of win rates and how often the strong model wins, within groups of at least 20
    #: prompts, averaged by prompts; None without such a group.
    rank_correlation: float | None
    length_rank_correlation: float | None  #: the same of the prompts' length in characters
    calibration_error: float  #: expected calibration error of the win rates


def measure(examples: Examples, win_rates: Float64Array, levelled: Float64Array) -> Quality:
    """Figures of ``win_rates``, float64[n]; ``levelled`` are outcomes without groups' levels."""
    lengths = np.array([len(prompt) for prompt in examples.prompts], dtype=np.float64)
    return Quality(
        len(examples),
        _within_groups(win_rates, examples),
        _within_groups(lengths, examples),
        float(expected_calibration_error(win_rates, np.clip(levelled[:, 0], 0.0, 1.0))),
    )


def _within_groups(scores: Float64Array, examples: Examples) -> float | None:
    from scipy.stats import rankdata

    wanted = examples.outcomes[:, 0]
    names = np.array(examples.groups)
    found, counts = [], []
    for name in np.unique(names):
        rows = names == name
        a, b = (rankdata(v[rows]) for v in (scores, wanted))
        if rows.sum() >= _LEAST_PROMPTS and a.std() > 0 and b.std() > 0:
            found.append(float(np.corrcoef(a, b)[0, 1]))
            counts.append(int(rows.sum()))
    return float(np.average(found, weights=counts)) if found else None
