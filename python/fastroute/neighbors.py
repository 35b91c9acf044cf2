"""Owns a FAISS index of unit vectors and lends its rows to kernels.

FAISS builds, trains, searches and stores; the kernels read the vectors where FAISS keeps them,
without a copy. The view of that memory does not keep the index alive, and ``add`` moves it, so
index and view live together in one object and the view never leaves the package.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastroute._arrays import check_array, check_finite, check_length, check_no_zero_rows
from fastroute.types import Float32Array

_ROWS_PER_BLOCK = 16384  # what is normalised at a time: a copy of this many rows, no more


class NeighborIndex:
    """Unit vectors in a flat FAISS index, by inner product."""

    def __init__(self, dimensions: int) -> None:
        import faiss

        self.dimensions = dimensions
        self._faiss: Any = faiss
        self._index: Any = faiss.IndexFlatIP(dimensions)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, embeddings: Float32Array, name: str = "embeddings") -> None:
        """Scale rows, float32[n, d], to length one and add them; ``embeddings`` is not changed.

        Raises InvalidInputError, before anything is added, for a wrong dtype, layout or
        dimension, NaN, infinity and zero rows.
        """
        check_array(name, embeddings, np.float32, 2)
        check_length(name, embeddings, self.dimensions, "the index")
        check_finite(name, embeddings)
        check_no_zero_rows(name, embeddings)
        for begin in range(0, len(embeddings), _ROWS_PER_BLOCK):
            block = embeddings[begin : begin + _ROWS_PER_BLOCK].astype(np.float64)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            self._index.add(block.astype(np.float32))

    def rows(self) -> Float32Array:
        """The stored vectors, float32[n, d], in FAISS's memory: valid until the next ``add``."""
        count = len(self) * self.dimensions
        view = self._faiss.rev_swig_ptr(self._index.get_xb(), count)
        rows: Float32Array = view.reshape(len(self), self.dimensions)
        return rows
