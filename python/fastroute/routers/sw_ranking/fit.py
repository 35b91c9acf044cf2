"""How ``sw_ranking`` is fitted: exactly, with a far field, and with one whose error is bounded."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute.errors import RatingError
from fastroute.routers.sw_ranking import far_field, near_field, sums
from fastroute.routers.sw_ranking.battle_table import BattleTable
from fastroute.routers.sw_ranking.neighbors import NeighborIndex, Storage, UnitRows
from fastroute.types import Float32Array, Float64Array, Int64Array

#: Battles on whose embeddings ``max_error`` is measured before they are added.
_HELD_OUT = 256


@dataclass(frozen=True)
class Fitted:
    """All that ``fit`` learned, never changed: a query works on one of these to its end.

    Attributes:
        table: the battles by number. vectors: their unit embeddings.
        battles: both for the compiled core. order: int64[n], the caller's number of each battle,
            or None where it is the same.
        start: ratings of the tiers at equal weights, natural logarithm of odds.
        strong, weak: tiers of the pair.
        far: the far field, or None in exact mode.
    """

    table: BattleTable
    vectors: UnitRows
    battles: _native.TieredBattles
    start: Float64Array
    strong: int
    weak: int
    order: Int64Array | None = None
    far: near_field.FarFieldModel | None = None

    def preference(self, ratings: Float64Array | None = None) -> float:
        """Win rate of the pair at ratings of the tiers, by default those of equal weights."""
        R = self.start if ratings is None else ratings
        # 1 - 1 / (1 + 10^((R_s - R_w) / 400)), with R in Elo, is the sigmoid of the difference;
        # written so that no difference overflows and a sure loss keeps its digits.
        odds = math.exp(-abs(R[self.strong] - R[self.weak]))
        return 1.0 / (1.0 + odds) if R[self.strong] >= R[self.weak] else odds / (1.0 + odds)


@dataclass(frozen=True)
class Fitter:
    """The options of a router that its fit needs, by the names of its arguments."""

    strong_model: str
    weak_model: str
    num_tiers: int
    strict: bool
    num_threads: int
    storage: Storage
    index: str | None
    index_parameters: str | None
    index_in_axes: bool

    def exact(self, table: BattleTable, vectors: UnitRows) -> Fitted:
        """Ratings of the tiers at equal weights, and the battles for the core."""
        cells = table.cells()
        counts = np.bincount(cells, minlength=2 * self.num_tiers**2 + self.num_tiers)
        start = _native.rate_cells(
            counts.astype(np.float64), self.num_tiers, self.strict, np.zeros(self.num_tiers)
        )
        battles = self.tiered(vectors, cells)
        return Fitted(
            table,
            vectors,
            battles,
            start,
            table.tier(self.strong_model),
            table.tier(self.weak_model),
        )

    def tiered(self, vectors: UnitRows, cells: far_field.Cells) -> _native.TieredBattles:
        """Battles for the core."""
        # The battles keep the vectors alive: a refit must not free them under another's query.
        return _native.TieredBattles(
            vectors.rows, cells, self.num_tiers, self.strict, vectors.owner, vectors.scales
        )

    def far(self, table: BattleTable, vectors: UnitRows) -> Fitted:
        """``exact`` and a far field of the default size."""
        exact = self.exact(table, vectors)
        cells = table.cells()
        plan = sums.plan_of(
            table, cells, vectors.blocks, exact.start, (exact.strong, exact.weak),
            strict=self.strict, storage=self.storage,
        )  # fmt: skip
        moments, clusters = sums.fit_moments(plan, cells, vectors.blocks, self.num_threads)
        index = near_field.build_index(
            vectors, moments.axes, self.index, self.index_parameters, in_axes=self.index_in_axes
        )
        chosen = far_field.RANK, near_field.NEIGHBORS
        near_rows = near_field.near_rows(vectors)
        return self.with_far(exact, moments, index, clusters, near_rows, *chosen)

    def with_far(
        self,
        exact: Fitted,
        moments: far_field.Moments,
        index: NeighborIndex,
        clusters: far_field.Cells,
        near_rows: UnitRows | None,
        rank: int,
        neighbors: int,
    ) -> Fitted:
        """``exact`` with a far field."""
        if index.lends_rows and not self.index_in_axes and self.storage == "float32":
            # The index has the same rows: the kernels borrow them, and the copy is let go.
            vectors = UnitRows(index.rows(), owner=index)
            battles = self.tiered(vectors, exact.table.cells())
            exact = replace(exact, vectors=vectors, battles=battles)
        return with_field(
            exact,
            moments,
            index,
            clusters,
            near_rows,
            strict=self.strict,
            in_axes=self.index_in_axes,
            rank=rank,
            neighbors=neighbors,
        )

    def far_within(
        self, table: BattleTable, vectors: UnitRows, max_error: float
    ) -> tuple[Fitted, float]:
        """The far field that holds the bound on battles held out, which are then added."""
        count = len(vectors)
        held = _held_out(count)
        rest = np.setdiff1d(np.arange(count), held)
        queries = vectors.take(held)
        try:
            trial = self.far(table.taken(rest), vectors.selected(rest))
        except RatingError:
            # What is held out connected the tiers: measure on what is there.
            rest, held = np.arange(count), held[:0]
            trial = self.far(table, vectors)
        assert trial.far is not None

        def remake(rank: int) -> _native.FarField:
            assert trial.far is not None
            return trial.far.moments.field(
                trial.battles,
                trial.far.clusters,
                trial.start,
                trial.strong,
                trial.weak,
                strict=self.strict,
                rank=rank,
                near_rows=trial.far.near_rows,
            )

        wanted = self._exactly(trial, queries)
        far, error = near_field.choose(trial.far, remake, queries, wanted, max_error)
        if not near_field.within(error, max_error):
            _warn_of(error, len(queries), max_error)
            return self.exact(table, vectors), error
        fitted = replace(trial, far=far)
        if held.size:
            fitted = self.joined(fitted, table.taken(held), vectors.selected(held))
            fitted = replace(fitted, order=np.concatenate([rest, held]).astype(np.int64))
        return fitted, error

    def joined_within(
        self, now: Fitted, table: BattleTable, vectors: UnitRows, max_error: float
    ) -> tuple[Fitted, float]:
        """``joined``, and the largest error on some of the new battles before they were added.

        Those held out at ``fit`` will not do: they are in the data since, each its own nearest
        battle. Where the bound is passed, the far field is given up, with a warning.
        """
        fitted = self.joined(now, table, vectors)
        held = _held_out(len(vectors))
        rest = np.setdiff1d(np.arange(len(vectors)), held)
        trial = now
        if len(rest) > len(now.vectors) // 10:  # enough of them to change what is measured
            trial = self.joined(now, table.taken(rest), vectors.selected(rest))
        if trial.far is None:
            return fitted, 0.0
        queries = vectors.take(held)
        error = near_field.largest_error(trial.far, queries, self._exactly(trial, queries))
        if not near_field.within(error, max_error):
            _warn_of(error, len(queries), max_error)
            fitted = replace(fitted, far=None)
        return fitted, error

    def _exactly(self, fitted: Fitted, queries: Float32Array) -> list[float | None]:
        """Win rates from every battle; None for a prompt that has none."""
        wanted: list[float | None] = []
        for x in queries:
            ratings, status = fitted.battles.rate(x, fitted.start, self.num_threads)
            wanted.append(fitted.preference(ratings) if status == "converged" else None)
        return wanted

    def joined(self, now: Fitted, table: BattleTable, vectors: UnitRows) -> Fitted:
        """The same with more battles: same tiers, same axes."""
        exact = self.exact(now.table.joined(table), now.vectors.joined(vectors))
        if now.order is not None:
            first = len(now.order)
            exact = replace(
                exact, order=np.concatenate([now.order, np.arange(first, first + len(vectors))])
            )
        if now.far is None:
            return exact
        cells = table.cells()
        moments, index = now.far.moments, now.far.index
        rows = vectors.take(np.arange(len(vectors)))
        moments = moments.extended(self.tiered(vectors, cells), cells, rows, self.num_threads)
        axes = moments.axes[: index.dimensions] if now.far.in_axes else None
        index = index.extended(rows if axes is None else rows @ axes.T)
        more = far_field.nearest(rows @ moments.axes.T, moments.seeds)
        clusters = np.concatenate([now.far.clusters, more])
        near_rows, more_near = now.far.near_rows, near_field.near_rows(vectors)
        if near_rows is not None and more_near is not None:
            near_rows = near_rows.joined(more_near)
        return self.with_far(
            exact, moments, index, clusters, near_rows, now.far.rank, now.far.neighbors
        )


def _held_out(count: int) -> npt.NDArray[np.int64]:
    """Numbers of those battles of ``count`` on which an error is measured."""
    some = min(_HELD_OUT, max(count // 10, 1))
    return np.unique(np.linspace(0, count - 1, some).astype(np.int64))


def _warn_of(error: float, count: int, max_error: float) -> None:
    warnings.warn(
        f"the far field errs by up to {error:.1e} on {count} battles held out, too much for "
        f"max_error={max_error:g}; this router looks at every battle instead (mode_ is 'exact')",
        RuntimeWarning,
        stacklevel=4,
    )


def with_field(
    exact: Fitted,
    moments: far_field.Moments,
    index: NeighborIndex,
    clusters: far_field.Cells,
    near_rows: UnitRows | None,
    *,
    strict: bool,
    in_axes: bool,
    rank: int,
    neighbors: int,
) -> Fitted:
    """What was learned, with the far field that these moments and this index make."""
    field = moments.field(
        exact.battles,
        clusters,
        exact.start,
        exact.strong,
        exact.weak,
        strict=strict,
        rank=rank,
        near_rows=near_rows,
    )
    far = near_field.FarFieldModel(
        moments, field, index, in_axes, clusters, rank, neighbors, near_rows
    )
    return replace(exact, far=far)
