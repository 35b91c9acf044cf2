"""What a fit learns of all battles together, as sums: parts of them can be fitted to apart.

Two rounds over the battles, each of which may be shared out in any way::

    counts = BattleCounts().fit_partial(X, model_a, model_b, winner)    # for each part
    plan = counts.merge(others).plan(strong_model=..., weak_model=...)  # ratings, tiers, axes
    sums = FarFieldSums(plan).fit_partial(X, model_a, model_b, winner)  # for each part
    moments = sums.merge(others).moments()

Sums are integers, so that parts give bitwise the same in any order and grouping. Those of real
numbers are rounded once for each block of rows to a fixed point, by 2^-26 of the largest weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute.errors import InvalidInputError
from fastroute.routers.sw_ranking import far_field
from fastroute.routers.sw_ranking.battle_table import (
    BattleTable,
    Ids,
    Outcomes,
    count_outcomes,
    rate_counts,
    read_columns,
)
from fastroute.routers.sw_ranking.far_field import Blocks, Cells, Moments
from fastroute.routers.sw_ranking.neighbors import Storage, UnitRows
from fastroute.types import Float32Array, Float64Array

Int64Array = npt.NDArray[np.int64]
#: Rows of which axes and clusters are learned.
_SAMPLE = 65_536
_MOST_POINTS = 16_384  # from which clusters start
_BITS = 26
#: Rows whose nearest other is looked for, and the share of them below the floor.
_FLOOR_POINTS = 512
_FLOOR_SHARE = 0.0025


class RowSample:
    """Those rows with the least hashes of their content: the same of any parts in any order.

    Attributes:
        hashes: uint64[k], sorted. rows: float32[k, d].
        numbers: int64[k], which rows of their part these are.
    """

    def __init__(self) -> None:
        self.hashes = np.zeros(0, np.uint64)
        self.rows: Float32Array = np.zeros((0, 0), np.float32)
        self.numbers: Int64Array = np.zeros(0, np.int64)

    def add(self, rows: Float32Array, first: int = 0) -> None:
        """Take from more rows of a part, float32[n, d], whose numbers begin with ``first``."""
        self._keep(self._hashes(rows), rows, np.arange(first, first + len(rows)))

    @staticmethod
    def _hashes(rows: Float32Array) -> npt.NDArray[np.uint64]:
        """64 mixed bits of the content of each row."""
        words = np.ascontiguousarray(rows + np.float32(0.0)).view(np.uint32)  # -0.0 is 0.0
        odd = np.arange(1, 2 * rows.shape[1], 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = words.astype(np.uint64) @ odd
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        found: npt.NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
        return found

    def merge(self, other: RowSample) -> RowSample:
        """The sample of both."""
        both = RowSample()
        for part in (self, other):
            both._keep(part.hashes, part.rows, part.numbers)
        return both

    def _keep(
        self, hashes: npt.NDArray[np.uint64], rows: Float32Array, numbers: Int64Array
    ) -> None:
        if len(self.hashes) == _SAMPLE:  # most of many rows are none of the least
            least = hashes < self.hashes[-1]
            hashes, rows, numbers = hashes[least], rows[least], numbers[least]
        if not len(hashes):
            return
        if len(self.rows):
            hashes = np.concatenate([self.hashes, hashes])
            rows = np.concatenate([self.rows, rows])
            numbers = np.concatenate([self.numbers, numbers])
        order = np.argsort(hashes, kind="stable")[:_SAMPLE]
        self.hashes, self.rows, self.numbers = hashes[order], rows[order], numbers[order]


class BattleCounts:
    """How often each model won against each other, and a sample of the embeddings.

    Args:
        storage: how the router will store embeddings, which rounds them.

    Attributes:
        models: names, sorted.
        counts: int64[models, models, 3], battles of model a with b that b won, tied, that a won.
        sample: of the unit embeddings.
    """

    def __init__(self, storage: Storage = "float32") -> None:
        self.storage: Storage = storage
        self.models: tuple[str, ...] = ()
        self.counts: Int64Array = np.zeros((0, 0, 3), np.int64)
        self.sample = RowSample()

    def __len__(self) -> int:
        """The number of battles."""
        return int(self.counts.sum())

    def fit_partial(
        self,
        embeddings: Float32Array,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
    ) -> BattleCounts:
        """Add n more battles; arguments and errors as ``SimilarityWeightedRouter.fit``."""
        vectors = UnitRows.store(embeddings, self.storage)
        models, a, b, outcome = read_columns(len(embeddings), model_a, model_b, winner)
        return self.add(vectors, models, a, b, outcome)

    def add(
        self, vectors: UnitRows, models: Sequence[str], a: Ids, b: Ids, outcome: Outcomes
    ) -> BattleCounts:
        """Add battles by number, of ``models`` in sorted order."""
        if len(self.sample.rows) and self.sample.rows.shape[1] != vectors.rows.shape[1]:
            raise InvalidInputError(
                f"embeddings have {vectors.rows.shape[1]} dimensions where those before have "
                f"{self.sample.rows.shape[1]}"
            )
        before = len(self)
        self._add_counts(tuple(models), count_outcomes(len(models), a, b, outcome))
        for first, rows in vectors.blocks():
            self.sample.add(rows, before + first)
        return self

    def merge(self, other: BattleCounts) -> BattleCounts:
        """The counts of the battles of both; neither is changed."""
        both = BattleCounts(self.storage)
        both._add_counts(self.models, self.counts)
        both._add_counts(other.models, other.counts)
        both.sample = self.sample.merge(other.sample)
        return both

    def of(self, models: Sequence[str]) -> BattleCounts:
        """The battles between some of the models only, with the same sample."""
        at = [self.models.index(model) for model in models]
        some = BattleCounts(self.storage)
        some.models, some.counts, some.sample = (
            tuple(models), self.counts[np.ix_(at, at)].copy(), self.sample,
        )  # fmt: skip
        return some

    def _add_counts(self, models: tuple[str, ...], counts: Int64Array) -> None:
        names = tuple(sorted({*self.models, *models}))
        total = np.zeros((len(names), len(names), 3), np.int64)
        for some, more in ((self.models, self.counts), (models, counts)):
            at = np.array([names.index(name) for name in some], np.intp)
            total[np.ix_(at, at)] += more
        self.models, self.counts = names, total

    def plan(
        self, *, strong_model: str, weak_model: str, num_tiers: int = 10, strict: bool = False
    ) -> FarFieldPlan:
        """Ratings and tiers of the models, and what the second round needs.

        Raises as ``SimilarityWeightedRouter.fit``.
        """
        pair = {"strong_model": strong_model, "weak_model": weak_model}
        elo, tiers = rate_counts(self.models, self.counts, num_tiers, pair)
        a, b, outcome = np.nonzero(self.counts)
        kinds = _native.battle_cells(tiers[a], tiers[b], (outcome - 1).astype(np.int8), num_tiers)
        weights = np.zeros(2 * num_tiers**2 + num_tiers)
        np.add.at(weights, kinds, self.counts[a, b, outcome].astype(np.float64))
        start = _native.rate_cells(weights, num_tiers, strict, np.zeros(num_tiers))
        strong, weak = (int(tiers[self.models.index(m)]) for m in (strong_model, weak_model))
        g = far_field.gradient(weights, start, strong, weak, strict=strict)
        return FarFieldPlan(
            self.models, elo, tiers, start, strong, weak, strict, self.storage,
            Axes.of(self.sample), g,
        )  # fmt: skip


@dataclass(frozen=True)
class Axes:
    """The axes of a far field, learned from a sample of the embeddings.

    Attributes:
        axes, seeds: of the moments. own: those of the cells.
        vectors, energies: all principal axes of the sample, strongest first.
        spread: mean square a dimension outside ``axes``.
        floor: as ``Moments.floor``, of the rows of the sample.
    """

    axes: Float32Array
    own: Float32Array
    seeds: Float32Array
    vectors: Float64Array
    energies: Float64Array
    spread: float
    floor: float

    @classmethod
    def of(cls, sample: RowSample) -> Axes:
        """The axes of a sample of at least one row."""
        rows = sample.rows
        S = np.zeros((rows.shape[1], rows.shape[1]))
        for first in range(0, len(rows), _SAMPLE // 4):
            some = rows[first : first + _SAMPLE // 4]
            S += some.T @ some
        energies, vectors = np.linalg.eigh(S / len(rows))
        energies, vectors = energies[::-1], vectors[:, ::-1]
        kept = int((energies > 1e-6 * energies[0]).sum())
        count = min(far_field.AXES, kept)
        axes = far_field.packed(vectors[:, :count].T).take(np.arange(count))
        own = np.ascontiguousarray(axes[: min(far_field.CELL_AXES, count)])
        seeds = far_field.cluster_seeds(rows[:: max(1, len(rows) // _MOST_POINTS)] @ axes.T)
        beyond = energies[count:].clip(min=0.0)
        spread = float(beyond.mean()) if beyond.size else 0.0
        floor = _floor(rows @ axes[: far_field.INDEX_AXES].T)
        return cls(axes, own, seeds, vectors[:, :kept], energies[:kept], spread, floor)


def _floor(points: Float32Array) -> float:
    """The similarity of all but few points, float32[n, a], to the nearest other one."""
    some = points[:: max(1, len(points) // _FLOOR_POINTS)]
    lengths = np.square(some).sum(axis=1)
    nearest = np.full(len(some), -1.0)
    for first in range(0, len(points), _FLOOR_POINTS * 16):
        similar = some @ points[first : first + _FLOOR_POINTS * 16].T
        similar[similar > 0.999 * lengths[:, None]] = -1.0  # itself, and the same prompt again
        nearest = np.maximum(nearest, similar.max(axis=1))
    return float(np.quantile(nearest, _FLOOR_SHARE))


@dataclass(frozen=True)
class FarFieldPlan:
    """What the first round has found, which the second needs of every part.

    Attributes:
        models: names, sorted. elo: float64[models]. tiers: int32[models], 0 the best.
        start: float64[tiers], ratings of the tiers at equal weights.
        strong, weak: tiers of the pair.
        strict, storage: as for ``SimilarityWeightedRouter``.
        axes: of the embeddings. gradient: float64[cells].
    """

    models: tuple[str, ...]
    elo: Float64Array
    tiers: Ids
    start: Float64Array
    strong: int
    weak: int
    strict: bool
    storage: Storage
    axes: Axes
    gradient: Float64Array

    def table(self, a: Ids, b: Ids, outcome: Outcomes) -> BattleTable:
        """Battles by number, between the models of the plan."""
        return BattleTable(self.models, self.elo, self.tiers, len(self.start), a, b, outcome)


class FarFieldSums:
    """Sums over battles that make the moments of a far field.

    Args:
        plan: of all battles, by ``BattleCounts.plan``.
        num_threads: of each sum.
    """

    def __init__(self, plan: FarFieldPlan, num_threads: int = 1) -> None:
        self.plan = plan
        self.num_threads = num_threads
        self._lined = slice(
            len(plan.axes.own),
            max(min(far_field.LINE_AXES, len(plan.axes.axes)), len(plan.axes.own)),
        )
        largest = max(1.0, float(np.abs(plan.gradient).max(initial=0.0)))
        #: A sum of 1 is this many units; weights of battles take bits of the integers too.
        self._unit = 2.0 ** (_BITS - math.ceil(math.log2(largest)))
        self.sums: dict[str, Int64Array] = {}

    def fit_partial(
        self,
        embeddings: Float32Array,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
    ) -> FarFieldSums:
        """Add n battles between models of the plan; arguments and errors as ``fit``."""
        vectors = UnitRows.store(embeddings, self.plan.storage)
        none = np.zeros(0, np.int32)
        table = self.plan.table(none, none, none.astype(np.int8))
        cells = table.read(len(vectors), model_a, model_b, winner).cells()
        for first, rows in vectors.blocks():
            self.add(rows, cells[first : first + len(rows)])
        return self

    def add(self, rows: Float32Array, cells: Cells) -> Cells:
        """Add unit rows, float32[n, d], of battles of these cells; the cluster of each."""
        axes, g = self.plan.axes, self.plan.gradient[cells]
        in_axes = rows @ axes.axes.T
        clusters = far_field.nearest(in_axes, axes.seeds)
        weighted = rows * g.astype(np.float32)[:, None]
        battles = _native.TieredBattles(
            np.ascontiguousarray(rows), cells, len(self.plan.start), self.plan.strict
        )
        terms = far_field.cluster_sums(in_axes, clusters, g, len(axes.seeds))
        block: dict[str, npt.NDArray[Any]] = dict(
            zip(("sizes", "squares", "pulls", "places", "influences"), terms, strict=True)
        )
        block |= {
            "energies": np.square(in_axes, dtype=np.float64).sum(axis=0),
            "lines": far_field.sums_by(cells, in_axes[:, self._lined], len(self.plan.gradient)),
            "cells": _native.accumulate_moments(battles, axes.own, self.num_threads),
            "linear": weighted.sum(axis=0, dtype=np.float64),
            "second": (weighted.T @ rows).astype(np.float64),
        }
        for name, value in block.items():
            units = np.rint(value * self._unit).astype(np.int64)
            self.sums[name] = self.sums[name] + units if name in self.sums else units
        return clusters

    def merge(self, other: FarFieldSums) -> FarFieldSums:
        """The sums over the battles of both, of the same plan; neither is changed."""
        both = FarFieldSums(self.plan, self.num_threads)
        both.sums = dict(self.sums)
        for name, value in other.sums.items():
            both.sums[name] = both.sums[name] + value if name in both.sums else value
        return both

    def moments(self, most_directions: int = 256) -> Moments:
        """The moments; raises InvalidInputError without battles."""
        if not self.sums:
            raise InvalidInputError("there are no battles in these sums; call fit_partial first")
        total = {name: value / self._unit for name, value in self.sums.items()}
        axes, own = self.plan.axes, self.plan.axes.own.astype(np.float64)
        H = (total["second"] + total["second"].T) / 2
        roots = np.sqrt(axes.energies)
        scaled = axes.vectors * roots
        values, turned = np.linalg.eigh(scaled.T @ H @ scaled)
        best = np.argsort(-np.abs(values))[:most_directions]
        return Moments(
            axes=axes.axes,
            energies=total["energies"] / total["sizes"].sum(),
            spread=axes.spread,
            seeds=axes.seeds,
            gradient=self.plan.gradient,
            corner=own @ H @ own.T,
            directions=(axes.vectors / roots) @ turned[:, best],
            duals=scaled @ turned[:, best],
            form=np.diag(values[best]),
            floor=axes.floor,
            **{
                name: total[name]
                for name in (
                    "sizes", "squares", "pulls", "places", "influences", "cells", "lines", "linear",
                )
            },
        )  # fmt: skip


def fit_moments(
    plan: FarFieldPlan, cells: Cells, blocks: Blocks, num_threads: int = 1
) -> tuple[Moments, Cells]:
    """Moments of n battles, and the cluster of each, uint16[n]; ``blocks`` gives their rows."""
    sums = FarFieldSums(plan, num_threads)
    clusters = [sums.add(rows, cells[first : first + len(rows)]) for first, rows in blocks()]
    return sums.moments(), np.concatenate(clusters)


def plan_of(
    table: BattleTable, cells: Cells, blocks: Blocks, start: Float64Array, pair: tuple[int, int],
    *, strict: bool, storage: Storage,
) -> FarFieldPlan:  # fmt: skip
    """The plan of battles that are all here; ``pair`` has the tiers of the strong and the weak."""
    sample = RowSample()
    for _, rows in blocks():
        sample.add(rows)
    tiers = len(start)
    counts = np.bincount(cells, minlength=2 * tiers**2 + tiers).astype(np.float64)
    g = far_field.gradient(counts, start, *pair, strict=strict)
    return FarFieldPlan(
        table.models, table.elo, table.tiers, start, *pair, strict, storage, Axes.of(sample), g
    )
