"""APGR on training data that was held out by dataset, for what is compared before it is trained.

Datasets are dealt into folds whole, so that what is scored never comes from a source that was
learnt from. The APGR is that of ``training.measures``: exact, between the best quarter and the
weaker half of a dataset's models, on datasets where such a pair is what a router is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastroute.data import GradedResult
from fastroute.errors import InvalidInputError
from fastroute.training.heads import centred, ridge_directions
from fastroute.training.labels import LABELS
from fastroute.training.measures import Arena, apgr_by_file, arenas
from fastroute.training.recipe import Recipe, weights_of
from fastroute.types import BoolArray, Float32Array, Float64Array, Int64Array

FOLDS = 5


@dataclass
class HeldOut:
    """Rows to learn from and to score on, dealt into folds of whole datasets.

    Args:
        rows: graded prompts.
        recipe: label, weighting and ridge of what is learnt.

    Raises InvalidInputError where no dataset can be scored, or all prompts are of one.
    """

    rows: Sequence[GradedResult]
    recipe: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        names, ids, counts = np.unique(
            [row.group for row in self.rows], return_inverse=True, return_counts=True
        )
        self.arenas: list[Arena] = arenas(self.rows)
        if len(names) < 2 or not self.arenas:
            raise InvalidInputError(
                f"rows: {len(names)} datasets, of which {len(self.arenas)} can be scored; give at "
                "least two, one of them of 150 prompts that its better models answer clearly "
                "better than the others"
            )
        # The largest first, each to the fold that has least.
        filled = np.zeros(min(FOLDS, len(names)))
        fold_of = np.empty(len(names), dtype=np.int64)
        for group in np.argsort(-counts, kind="stable"):
            fold_of[group] = np.argmin(filled)
            filled[fold_of[group]] += counts[group]
        self.groups: Int64Array = ids.astype(np.int64)
        self.folds: Int64Array = fold_of[ids]
        self.targets = LABELS[self.recipe.label](self.rows)

    def weights(self, used: BoolArray) -> Float64Array:
        """Weights of the rows ``used``, float64, with mean 1."""
        kept = [row for row, use in zip(self.rows, used, strict=True) if use]
        return weights_of(kept, self.recipe.weighting)

    def scores(self, X: Float32Array, signals: int = 0) -> Float64Array:
        """A score of each row by a direction learnt without its fold: float64[n].

        ``X`` is float32[n, d]; its last ``signals`` columns get the recipe's weight.
        """
        return self.parts(X, signals)[0]

    def parts(self, X: Float32Array, signals: int = 0) -> tuple[Float64Array, Float64Array]:
        """``scores``, and the scores on what was learnt from: float64[folds, n]."""
        E = X.astype(np.float64)
        ridge = 30.0 if self.recipe.ridge is None else self.recipe.ridge
        out = np.empty(len(E))
        inside = np.full((int(self.folds.max()) + 1, len(E)), np.nan)
        for fold in range(len(inside)):
            held = self.folds == fold
            used = ~held & X.any(axis=1)
            if not used.any():
                raise InvalidInputError(
                    "outside one fold of the datasets no prompt has a token that the embedder "
                    "knows; give more datasets in a language it was made for"
                )
            (direction,) = ridge_directions(
                E[used], self.targets[used], self.groups[used], self.weights(used), [ridge],
                signals, self.recipe.signal_weight,
            )  # fmt: skip
            out[held] = E[held] @ direction
            inside[fold, used] = E[used] @ direction
        return out, inside

    def apgr(self, scores: Float64Array) -> float:
        """Mean over files of the APGR on each file's datasets."""
        by_file = apgr_by_file(scores, self.arenas)
        return sum(by_file.values()) / len(by_file)

    def spread(self, values: Float64Array, used: BoolArray) -> float:
        """Standard deviation of ``values`` within datasets, over the rows ``used``."""
        weights = self.weights(used)
        within = centred(values[used], self.groups[used], weights)
        return float(np.sqrt(np.average(within**2, weights=weights)))
