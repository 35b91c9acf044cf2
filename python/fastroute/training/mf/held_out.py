"""How well a router predicts pairs that it was not fitted to, beside simpler ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error
from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.routers.length import LengthRouter
from fastroute.training.heads import sigmoid
from fastroute.training.mf.factorization import cross_entropy
from fastroute.training.pairs import Pairs
from fastroute.types import BoolArray, Float64Array

#: Held-out prompts that two models must share for an APGR between them.
LEAST_PROMPTS = 30


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures on held-out pairs, weighted as the pairs are."""

    #: prompts, pairs: how many.
    prompts: int
    pairs: int
    log_loss: float  #: mean cross-entropy of the win rate, in nats; 0.693 says nothing
    log_loss_decided: float  #: of the pairs that are not ties
    #: share of pairs that are not ties in which the preferred model has the higher rate.
    accuracy: float
    calibration_error: float  #: expected calibration error, each pair seen from its stronger model
    #: mean exact APGR over pairs of models with 30 held-out prompts in common or more, by prompts;
    #: None where there are none.
    apgr: float | None
    apgr_pairs: int  #: the number of those pairs of models

    def as_json(self) -> dict[str, Any]:
        """The figures as plain JSON."""
        return {k: None if v != v else v for k, v in asdict(self).items()}


def figures(pairs: Pairs, margin: Float64Array, strength: Float64Array) -> Figures:
    """Figures of score differences.

    Args:
        pairs: n held-out pairs.
        margin: float64[n], score of b less score of a.
        strength: float64[models], how good each model is in general; orders a pair.
    """
    y, w = pairs.preference, pairs.weights
    loss, decided = cross_entropy(margin, y), pairs.decided
    right = np.where(margin == 0.0, 0.5, (margin > 0) == (y > 0.5))
    b_stronger = strength[pairs.b] >= strength[pairs.a]
    rate = sigmoid(np.where(b_stronger, margin, -margin))
    area, count = _mean_apgr(pairs, rate, b_stronger)
    return Figures(
        prompts=len(np.unique(pairs.rows)),
        pairs=len(pairs),
        log_loss=_mean(loss, w),
        log_loss_decided=_mean(loss[decided], w[decided]),
        accuracy=_mean(right[decided], w[decided]),
        calibration_error=expected_calibration_error(rate, np.where(b_stronger, y, 1.0 - y)),
        apgr=area,
        apgr_pairs=count,
    )


def length_apgr(pairs: Pairs, strength: Float64Array) -> float | None:
    """The ``apgr`` of ``Figures`` of the prompt's length: a baseline for every router."""
    rows = np.unique(pairs.rows)
    rates = LengthRouter().win_rates([pairs.prompts[row] for row in rows])
    b_stronger = strength[pairs.b] >= strength[pairs.a]
    return _mean_apgr(pairs, rates[np.searchsorted(rows, pairs.rows)], b_stronger)[0]


def _mean(values: Float64Array, weights: Float64Array) -> float:
    return float(np.average(values, weights=weights)) if len(values) else float("nan")


def _mean_apgr(pairs: Pairs, rate: Float64Array, b_stronger: BoolArray) -> tuple[float | None, int]:
    """Of each pair of models: what its stronger model wins is its score, and so for the weaker."""
    strong = np.where(b_stronger, pairs.b, pairs.a)
    weak = np.where(b_stronger, pairs.a, pairs.b)
    won = np.where(b_stronger, pairs.preference, 1.0 - pairs.preference)
    areas, counts = [], []
    keys = strong * len(pairs.models) + weak
    for key in np.unique(keys):
        mine = keys == key
        if mine.sum() < LEAST_PROMPTS or won[mine].mean() <= 0.5:
            continue  # where the stronger one is no better there is no gap to recover
        areas.append(apgr(curve(rate[mine], 1.0 - won[mine], won[mine])))
        counts.append(int(mine.sum()))
    return (float(np.average(areas, weights=counts)), len(areas)) if areas else (None, 0)
