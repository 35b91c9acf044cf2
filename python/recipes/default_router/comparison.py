"""Figures of a recipe of the default router, on held-out training data only.

The ``measures`` are averaged over files. A recipe is scored two ways:

folds
    The router is trained on four fifths of all prompts and scored on the rest.
transfer
    The router is trained on the other files and scored on this one. What a bundled router is for
    comes from other sources than what it was trained on, so this decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fastroute.data import GradedResult
from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error
from fastroute.training.folds import fold_numbers
from fastroute.training.heads import FOLDS, fit_head, level_parts
from fastroute.training.labels import LABELS, difficulty
from fastroute.training.measures import apgr_by_file, arenas, correlation_by_file
from fastroute.training.recipe import Recipe, weights_of
from fastroute.types import Float32Array, Float64Array


class Result(NamedTuple):
    """Figures of one recipe. Files on which it could not be scored are not in them."""

    transfer_by_file: dict[str, float]
    folds_correlation: float
    transfer_apgr: float
    folds_apgr: float
    calibration_error: float

    @property
    def transfer_correlation(self) -> float:
        """What the recipe is chosen by: the mean over files."""
        return _mean(self.transfer_by_file)


def compare(
    rows: Sequence[GradedResult],
    X: Float32Array,
    recipe: Recipe,
    files: Sequence[str] | None = None,
    signals: int = 0,
) -> Result:
    """Figures of ``recipe``, trained on ``files`` (by default all) of ``rows``.

    ``X``, float32[n, d], holds the embeddings of the rows' prompts; the last ``signals`` of its
    columns are signals.
    """
    targets = LABELS[recipe.label](rows)
    of_row = np.array([row.file for row in rows])
    used = np.isin(of_row, list(files or set(of_row))) & X.any(axis=1)
    groups = np.unique([row.group for row in rows], return_inverse=True)[1].astype(np.int64)
    head = fit_head(
        X[used],
        targets[used],
        group_ids=groups[used],
        weights=_weights(rows, used, recipe),
        fold_ids=fold_numbers([row.prompt for row in rows], FOLDS)[used],
        ridge=recipe.ridge,
        signals=signals,
        signal_weight=recipe.signal_weight,
    )
    held_out = np.full(len(rows), np.nan)
    held_out[used] = head.held_out_win_rates
    transfer = np.full(len(rows), np.nan)
    E = X.astype(np.float64)
    for file in np.unique(of_row):
        rest = used & (of_row != file)
        if rest.any():
            weights = _weights(rows, rest, recipe)
            direction, constant = level_parts(
                E[rest], targets[rest], groups[rest], weights, (head.ridge,), signals,
                recipe.signal_weight,
            )  # fmt: skip
            out = of_row == file
            transfer[out] = E[out] @ (head.slope * direction + head.level * constant)
    difficulties, scored = difficulty(rows), arenas(rows)
    return Result(
        correlation_by_file(transfer, rows, difficulties),
        _mean(correlation_by_file(held_out, rows, difficulties)),
        _mean(apgr_by_file(transfer, scored)),
        _mean(apgr_by_file(held_out, scored)),
        expected_calibration_error(head.held_out_win_rates, np.clip(head.targets, 0.0, 1.0)),
    )


def _weights(
    rows: Sequence[GradedResult], used: npt.NDArray[np.bool_], recipe: Recipe
) -> Float64Array:
    part = [row for row, kept in zip(rows, used, strict=True) if kept]
    return weights_of(part, recipe.weighting)


def _mean(figures: dict[str, float]) -> float:
    return sum(figures.values()) / len(figures) if figures else float("nan")
