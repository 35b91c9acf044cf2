"""Clusters of the graded prompts: what kind of prompt is this?

Models' grades differ most between kinds of prompts, which a linear regression of the embedding can
only approximate. So the nearest clusters of a prompt are further regressors, as in Avengers-Pro
(arXiv 2508.12631), where they are the only ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from fastroute import _native
from fastroute._validate import available_threads
from fastroute.types import Float32Array

CLUSTERS, NEAREST = 64, 4
_ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Some clusterings of the graded prompts, each of the same number of clusters."""

    centres: Float32Array  #: float32[clusterings * k, d], of length one
    clusterings: int  #: how many there are
    nearest: int  #: how many clusters of each a prompt belongs to, to equal parts

    @classmethod
    def fit(cls, X: Float32Array, clusterings: int) -> Clusters | None:
        """Clusterings of embeddings float32[n, d], none of them zero; None for 0 of them."""
        if not clusterings:
            return None
        count = min(CLUSTERS, len(X) // 4)
        centres = [cluster_centres(X, count, seed) for seed in range(clusterings)]
        return cls(np.concatenate(centres), clusterings, min(NEAREST, count))

    def features(self, X: Float32Array) -> Float32Array:
        """How far each prompt belongs to each cluster, float32[n, clusterings * k]."""
        out = np.zeros((len(X), len(self.centres)), np.float32)
        k = len(self.first)
        for first in range(0, len(self.centres), k):
            nearest = _nearest(self.centres[first : first + k], X, self.nearest)
            np.put_along_axis(out, nearest + first, np.float32(1 / self.nearest), axis=1)
        return out

    @property
    def first(self) -> Float32Array:
        """Centres of the first clustering, float32[k, d]."""
        return self.centres[: len(self.centres) // self.clusterings]

    def nearest_of_first(self, X: Float32Array, count: int) -> npt.NDArray[np.int32]:
        """Each prompt's nearest clusters of the first clustering, int32[n, count]."""
        return _nearest(self.first, X, count)


def _nearest(centres: Float32Array, X: Float32Array, count: int) -> npt.NDArray[np.int32]:
    everything = np.empty(0, np.int64), np.empty((len(X), 0), np.int32)
    return _native.nearest_rows(
        centres, everything[0], X, everything[1], count, available_threads()
    )[0]


def unit(X: Float32Array) -> Float32Array:
    """Rows scaled to length one; zero rows stay."""
    lengths = np.sqrt(np.einsum("ij,ij->i", X, X))
    return (X / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32, copy=False)


def cluster_centres(X: Float32Array, count: int, seed: int) -> Float32Array:
    """Centres of spherical k-means, float32[count, d], each of length one."""
    rows = unit(X)
    centres = rows[default_rng(seed).choice(len(rows), count, replace=False)]
    for _ in range(_ROUNDS):
        nearest = (rows @ centres.T).argmax(axis=1)
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, rows)
        filled = np.bincount(nearest, minlength=count) > 0
        centres = np.where(filled[:, None], unit(sums), centres)
    return centres
