"""The graded prompts nearest to a prompt, by an exact scan.

Nearness is the cosine of embeddings less their mean: many embedders give all texts a large part in
common, beside which other differences would be small. Where there are clusters, those nearest to
the prompt are scanned only.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fastroute import _native
from fastroute._validate import available_threads
from fastroute.routers.many_models.clusters import Clusters, unit
from fastroute.types import Float32Array, Float64Array, IntArray

#: How many clusters are scanned: of 64, the others have hardly a neighbour that matters (held-out
#: likelihood within 0.0003 nats of a scan of all on three data sets; with 8, 0.0017 on one).
SCANNED = 12


class Evidence(NamedTuple):
    """What the neighbours of n prompts say."""

    #: shared, shared_count: float64[n], mean and number of what all models share.
    shared: Float64Array
    shared_count: Float64Array
    #: own, own_count: float64[n, m], mean and number of each model's deviations; 0 where none.
    own: Float64Array
    own_count: Float64Array


class GradedNeighbors:
    """Graded prompts, and which of them are nearest by cosine similarity.

    They are kept in the order of their clusters.

    Args:
        X: float32[n, d], embeddings of the prompts, none of them zero.
        shared: float32[n], how far the grades on a prompt are above the models' levels, in the
            mean over the models; NaN where not known.
        own: float32[n, m], how far each model's grade is above its level and ``shared``; NaN where
            it has no grade.
        count: how many neighbours are looked at.
        clusters: whose first clustering tells which prompts are scanned; None to scan all.
    """

    def __init__(
        self,
        X: Float32Array,
        shared: Float32Array,
        own: Float32Array,
        count: int,
        clusters: Clusters | None = None,
    ) -> None:
        self.starts = np.empty(0, np.int64)
        if clusters is not None:
            of_prompt = clusters.nearest_of_first(X, 1)[:, 0]
            order = np.argsort(of_prompt, kind="stable")
            X, shared, own = X[order], shared[order], own[order]
            sizes = np.bincount(of_prompt, minlength=len(clusters.first))
            self.starts = np.concatenate([[0], np.cumsum(sizes)])
        self.X, self.shared, self.own = X, shared, own
        self.count = min(count, len(X))
        self.clusters = clusters
        self.scanned = 0 if clusters is None else min(SCANNED, len(clusters.first))
        self.centre: Float32Array = X.mean(axis=0)
        self.rows = unit(X - self.centre)

    def with_own(self, own: Float32Array) -> GradedNeighbors:
        """The same prompts with the deviations of other models, or in another order."""
        return GradedNeighbors(self.X, self.shared, own, self.count, self.clusters)

    def evidence(self, X: Float32Array) -> Evidence:
        """What the neighbours of prompts with embeddings ``X``, float32[n, d], say."""
        lists = np.empty((len(X), 0), np.int32)
        if self.clusters is not None:
            lists = self.clusters.nearest_of_first(X, self.scanned)
        rows, _ = _native.nearest_rows(
            self.rows, self.starts, unit(X - self.centre), lists, self.count, available_threads()
        )
        found = rows >= 0  # a cluster's prompts may be too few
        return Evidence(
            *_mean(np.where(found, self.shared[rows], np.float32(np.nan))),
            *_mean(np.where(found[:, :, None], self.own[rows], np.float32(np.nan))),
        )


def nearest(rows: Float32Array, X: Float32Array, count: int) -> tuple[IntArray, Float32Array]:
    """The ``count`` of ``rows`` of greatest product with each of ``X``, greatest first.

    Their numbers and products, [n, count] each.
    """
    lists = np.empty((len(X), 0), np.int32)
    found, products = _native.nearest_rows(
        rows, np.empty(0, np.int64), X, lists, min(count, len(rows)), available_threads()
    )
    return found.astype(np.intp), products


def _mean(values: Float32Array) -> tuple[Float64Array, Float64Array]:
    """Mean and number along axis 1 of what is not NaN; 0 and 0 where all is."""
    known = ~np.isnan(values)
    count = known.sum(axis=1).astype(np.float64)
    total = np.where(known, values, 0.0).sum(axis=1, dtype=np.float64)
    return total / np.maximum(count, 1.0), count
