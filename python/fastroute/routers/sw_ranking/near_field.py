"""The far field and the index of the near field together, and how rank and K are chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute._arrays import check_embedding
from fastroute.routers.sw_ranking import far_field
from fastroute.routers.sw_ranking.neighbors import NeighborIndex, UnitRows
from fastroute.types import Float32Array, Float64Array, Int64Array

#: Nearest battles whose weights are taken exactly.
NEIGHBORS = 128
#: Vectors that a search reads. Where it misses the most similar battle, all weights are off: on
#: real prompts every error above 5e-4 was one of these, and twice as many were missed at 1600. They
#: are stored as bytes, because a new prompt reads them from memory, not from a cache.
_READ_PER_SEARCH = 3200
#: Vectors that a search reads where the nearest that it found is less similar than that of nearly
#: every battle: such a prompt resembles none, and its nearest may lie in any list.
_READ_FOR_FAR = 32_768
#: Above this misfit the quadratic means little, and the prompt is looked at exactly. Prompts like
#: the battles' have 0.005 to 0.045.
_MOST_MISFIT = 0.15
#: (rank, K) that ``max_error`` tries, cheapest first.
_CHOICES = [(64, 16), (128, 32), (128, 64), (256, 64), (256, 128), (256, 256), (256, 512)]
#: Prompts of a batch that are searched for at once, on FAISS's threads. From 20 on FAISS multiplies
#: matrices, which rounds otherwise than one prompt does.
_PER_SEARCH = 16
_PER_BATCH = 1024
#: The largest error of some prompts is below that of all, so the bound is asked of this share.
_MARGIN = 0.75


@dataclass(frozen=True)
class FarFieldModel:
    """Moments, an index, and the compiled object made of them. Immutable; threads share it.

    Attributes:
        in_axes: whether the index holds the embeddings along the principal axes, not whole.
        clusters: uint16[n], cluster of each battle.
        near_rows: the battles' unit rows as bytes, which the near field reads, or None where the
            router stores no others. What it reads lies anywhere in memory, a line of it at a time.
        rank, neighbors: directions of the first-order part, and battles taken exactly.
    """

    moments: far_field.Moments
    field: _native.FarField
    index: NeighborIndex
    in_axes: bool
    clusters: far_field.Cells
    rank: int
    neighbors: int
    near_rows: UnitRows | None = None

    def win_rate(self, x: Float32Array) -> float | None:
        """Win rate of one prompt embedding, or None where it has to be looked at exactly."""
        if self.in_axes:
            projected = self.field.project(x)
            near = self._search_axes(projected)
        else:
            projected = None
            near = self._search_whole(x)
        rate, status, misfit = self.field.win_rate(x, near, projected)
        return rate if status == "converged" and misfit <= _MOST_MISFIT else None

    def win_rates(self, X: Float32Array, num_threads: int) -> Iterator[tuple[int, Float64Array]]:
        """(first, win rates, float64) of the prompts, a block at a time; NaN for None.

        The same as ``win_rate`` of each. A prompt that is no embedding gets NaN too.
        """
        for first in range(0, len(X), _PER_BATCH):
            rows = X[first : first + _PER_BATCH]
            projected, ok = self.field.project_rows(rows, num_threads)
            near = np.full((len(rows), self.neighbors), -1, np.int64)
            said = np.flatnonzero(ok)
            wanted = projected[:, : self.index.dimensions] if self.in_axes else rows
            for begin in range(0, len(said), _PER_SEARCH):
                some = said[begin : begin + _PER_SEARCH]
                found, similarities = self.index.search_rows(
                    wanted[some], self.neighbors, num_threads
                )
                near[some] = found
                if self.in_axes:
                    for i in some[similarities[:, 0] < self.moments.floor]:
                        near[i] = self._search_axes(projected[i])
            rates, converged, misfits = self.field.win_rates(rows, near, projected, num_threads)
            rates[~(ok & converged & (misfits <= _MOST_MISFIT))] = np.nan
            yield first, rates

    def near(self, x: Float32Array) -> Int64Array:
        """Numbers of the battles that the index finds near ``x``; -1 for none."""
        found = self._search_axes(self.field.project(x)) if self.in_axes else self._search_whole(x)
        return found.copy()

    def _search_axes(self, projected: Float32Array) -> Int64Array:
        x = np.ascontiguousarray(projected[: self.index.dimensions])
        near, similarities = self.index.search_scored(x, self.neighbors)
        if similarities[0] < self.moments.floor:
            near, _ = self.index.search_scored(x, self.neighbors, _READ_FOR_FAR)
        return near

    def _search_whole(self, x: Float32Array) -> Int64Array:
        # FAISS would read whatever memory it is given, so the kernel's check comes first.
        check_embedding(x, self.index.dimensions)
        return self.index.search(x, self.neighbors)


def default_index(count: int) -> tuple[str, str | None]:
    """An index for so many battles along the principal axes, and how hard it searches.

    It reads about as many vectors a search for any count: lists grow with the root of the count,
    and the more they hold, the fewer are opened.
    """
    if count < 4096:
        return "Flat", None
    lists = 2 ** round(np.log2(4.0 * np.sqrt(count)))
    opened = min(max(round(_READ_PER_SEARCH * lists / count), 2), 64)
    coarse = "_HNSW32" if lists >= 2048 else ""
    return f"IVF{lists}{coarse},SQ8", f"nprobe={opened}"


def build_index(
    vectors: UnitRows,
    axes: Float32Array,
    factory: str | None,
    parameters: str | None,
    *,
    in_axes: bool,
) -> NeighborIndex:
    """Index all vectors, whole or along the ``axes``."""
    if in_axes:
        first = np.ascontiguousarray(axes[: far_field.INDEX_AXES])
        rows: npt.NDArray[Any] = np.concatenate([b @ first.T for _, b in vectors.blocks()])
    elif vectors.storage == "float32":
        rows = vectors.rows
    else:
        rows = np.concatenate([block for _, block in vectors.blocks()])
    if factory is None:
        factory, chosen = default_index(len(vectors))
        parameters = chosen if parameters is None else parameters
    NeighborIndex.check_lists(factory, len(vectors))
    index = NeighborIndex(rows.shape[1], factory, parameters)
    index.train_and_add(rows)
    return index


def near_rows(vectors: UnitRows) -> UnitRows | None:
    """The vectors as bytes, for the near field; None where they are bytes already."""
    if vectors.storage == "int8":
        return None
    blocks = [far_field.packed(block, np.inf) for _, block in vectors.blocks()]
    rows: npt.NDArray[Any] = np.concatenate([block.rows for block in blocks])
    return UnitRows(
        rows,
        np.concatenate([block.scales for block in blocks if block.scales is not None]),
    )


def choose(
    model: FarFieldModel,
    remake: Callable[[int], _native.FarField],
    queries: Float32Array,
    wanted: list[float | None],
    max_error: float,
) -> tuple[FarFieldModel, float]:
    """The cheapest (rank, K) that holds the bound on ``queries``, and its largest error there.

    ``wanted`` has the exact win rates, None where a query has none; ``remake(rank)`` gives the
    compiled object of that rank. Where no choice holds the bound, the most exact one and its error.
    """
    error = float("inf")
    for rank, neighbors in _CHOICES:
        model = replace(model, field=remake(rank), rank=rank, neighbors=neighbors)
        error = largest_error(model, queries, wanted)
        if error <= _MARGIN * max_error:
            break
    return model, error


def largest_error(model: FarFieldModel, queries: Float32Array, wanted: list[float | None]) -> float:
    """Largest distance from ``wanted`` of those queries that the model answers itself."""
    error = 0.0
    for x, exact in zip(queries, wanted, strict=True):
        found = model.win_rate(x)
        if exact is not None and found is not None:
            error = max(error, abs(found - exact))
    return error


def within(error: float, max_error: float) -> bool:
    """Whether a measured error leaves the margin that ``choose`` asks for."""
    return error <= _MARGIN * max_error
