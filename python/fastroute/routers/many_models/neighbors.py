"""The graded prompts nearest to a prompt, by an exact scan.

Nearness is the cosine of embeddings less their mean: many embedders give all texts a large part in
common, beside which other differences would be small.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastroute import _native
from fastroute._validate import available_threads
from fastroute.types import Float32Array, Float64Array, IntArray


class Evidence(NamedTuple):
    """What the neighbours of n prompts say.

    Attributes:
        shared, shared_count: float64[n], mean and number of what all models share.
        own, own_count: float64[n, m], mean and number of each model's deviations; 0 where none.
    """

    shared: Float64Array
    shared_count: Float64Array
    own: Float64Array
    own_count: Float64Array


class GradedNeighbors:
    """Graded prompts, and which of them are nearest by cosine similarity.

    Args:
        X: float32[n, d], embeddings of the prompts, none of them zero.
        shared: float32[n], how far the grades on a prompt are above the models' levels, in the
            mean over the models; NaN where not known.
        own: float32[n, m], how far each model's grade is above its level and ``shared``; NaN where
            it has no grade.
        count: how many neighbours are looked at.
    """

    def __init__(
        self, X: Float32Array, shared: Float32Array, own: Float32Array, count: int
    ) -> None:
        self.X, self.shared, self.own = X, shared, own
        self.count = min(count, len(X))
        self.centre: Float32Array = X.mean(axis=0)
        self.rows = unit(X - self.centre)

    def with_own(self, own: Float32Array) -> GradedNeighbors:
        """The same prompts with the deviations of other models, or in another order."""
        return GradedNeighbors(self.X, self.shared, own, self.count)

    def evidence(self, X: Float32Array) -> Evidence:
        """What the neighbours of prompts with embeddings ``X``, float32[n, d], say."""
        rows, _ = self.nearest(X)
        return Evidence(*_mean(self.shared[rows]), *_mean(self.own[rows]))

    def nearest(self, X: Float32Array, count: int | None = None) -> tuple[IntArray, Float32Array]:
        """Rows and cosine similarities of the nearest prompts, [n, count] each, nearest first."""
        count = self.count if count is None else min(count, len(self.rows))
        threads = available_threads()
        rows, similarities = _native.nearest_rows(self.rows, unit(X - self.centre), count, threads)
        return rows.astype(np.intp), similarities


def unit(X: Float32Array) -> Float32Array:
    """Rows scaled to length one; zero rows stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X))
    scaled: Float32Array = (X / np.where(lengths > 0, lengths, 1)[:, None]).astype(
        np.float32, copy=False
    )
    return scaled


def _mean(values: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Mean and number along axis 1 of what is not NaN; 0 and 0 where all is."""
    total: Float64Array = values.sum(axis=1, dtype=np.float64)
    if not np.isnan(total).any():
        return total / values.shape[1], np.full(total.shape, float(values.shape[1]))
    known = ~np.isnan(values)
    count = known.sum(axis=1).astype(np.float64)
    total = np.where(known, values, 0.0).sum(axis=1, dtype=np.float64)
    return total / np.maximum(count, 1.0), count
