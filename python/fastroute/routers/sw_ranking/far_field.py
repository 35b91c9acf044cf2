"""Similarity-weighted ranking at a cost that does not grow with the battles: what ``fit`` keeps.

Over all battles but the nearest, a quadratic a0 + a1 s + a2 s^2 replaces the weight
10^(s / s_max), so that summed weights need only moments of the embeddings. A router asks for the
difference of two ratings, R_strong - R_weak, and that moves with the summed weights W_c as

    sum_c g_c dW_c / (total weight),

where g is the gradient at the solution for equal weights (``gradient``). So the cells keep second
moments in a few leading principal axes only and sums in some more, and the rest enters through one
vector m = sum_i g_i e_i and one symmetric matrix H = sum_i g_i e_i e_i'. Of H the strongest
directions for prompts distributed as the battles are kept: with S the second moment of the
embeddings, the eigenvectors u_k of S^(1/2) H S^(1/2) of largest |eigenvalue|, d_k = S^(-1/2) u_k.
The compiled core has the formulas of a query (csrc/kernels/far_field.hpp).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute.routers.sw_ranking.neighbors import UnitRows
from fastroute.types import Float32Array, Float64Array

Cells = npt.NDArray[np.uint16]
#: Gives (first, float32[n, d]) for all rows in order, a block at a time.
Blocks = Callable[[], Iterator[tuple[int, Float32Array]]]

#: Axes in which each cell keeps second moments of its own, and in which it keeps sums.
CELL_AXES = 16
LINE_AXES = 128
#: Axes that tell how similarities to a prompt are distributed; an index may search in the first.
AXES = 256
INDEX_AXES = 128
#: Directions of the first-order part. More cost more and err less; ``max_error`` chooses.
RANK = 256
#: What is rounded to bytes may move a row by this share of its length; otherwise it stays float32.
MOST_ROUNDING = 0.02
#: Clusters of battles, within which what the quadratic leaves is a line.
CLUSTERS = 256


@dataclass(frozen=True)
class Moments:
    """Sums over the battles, and the axes that they are in. d is the embeddings' dimension.

    Attributes:
        axes: float32[axes, d], orthonormal but for rounding to bytes, strongest first.
        energies: float64[axes], mean square of the battles along each.
        spread: mean square a dimension outside the axes.
        seeds: float32[clusters, axes]; a battle belongs to the nearest.
        sizes, squares, pulls: float64[clusters], sums of 1, |p|^2 and g over the battles of each
            cluster, where p are their embeddings along the axes.
        places, influences: float64[clusters, axes], sums of p and of g p.
        gradient: float64[cells], g; as it was at ``fit``, so that sums stay sums.
        cells: float64[cells, moments], what ``_native.accumulate_moments`` gives in the first axes.
        lines: float64[cells, l], sums of p along the l axes after those of ``cells``.
        linear: float64[d], m.
        corner: float64[a, a], H in the axes of the cells.
        directions, duals: float64[d, rank], d_k and S d_k, so that directions' duals = 1.
        form: float64[rank, rank], duals' H duals: H is nearly directions form directions'.
        floor: similarity along the index's axes that all but few battles have to another one.
    """

    axes: Float32Array
    energies: Float64Array
    spread: float
    seeds: Float32Array
    sizes: Float64Array
    squares: Float64Array
    pulls: Float64Array
    places: Float64Array
    influences: Float64Array
    gradient: Float64Array
    cells: Float64Array
    lines: Float64Array
    linear: Float64Array
    corner: Float64Array
    directions: Float64Array
    duals: Float64Array
    form: Float64Array
    floor: float = -1.0

    def extended(
        self, battles: _native.TieredBattles, cells: Cells, rows: Float32Array, num_threads: int
    ) -> Moments:
        """The same with more battles: their unit embeddings are float32[n, d] ``rows``."""
        own_axes = np.ascontiguousarray(self.axes[: len(self.corner)])
        g = self.gradient[cells]
        weighted = rows * g.astype(np.float32)[:, None]
        along = rows @ own_axes.T
        projected = rows @ self.duals.astype(np.float32)
        in_axes = rows @ self.axes.T
        share = len(rows) / (self.sizes.sum() + len(rows))
        energies = np.square(in_axes, dtype=np.float64).mean(axis=0)
        beyond = rows.shape[1] - len(self.axes)
        spread = max(1.0 - float(energies.sum()), 0.0) / beyond if beyond else 0.0
        sums = cluster_sums(in_axes, nearest(in_axes, self.seeds), g, len(self.seeds))
        return replace(
            self,
            energies=(1.0 - share) * self.energies + share * energies,
            spread=(1.0 - share) * self.spread + share * spread,
            sizes=self.sizes + sums[0],
            squares=self.squares + sums[1],
            pulls=self.pulls + sums[2],
            places=self.places + sums[3],
            influences=self.influences + sums[4],
            lines=self.lines + sums_by(cells, self._lined(in_axes), len(self.lines)),
            cells=self.cells + _native.accumulate_moments(battles, own_axes, num_threads),
            linear=self.linear + weighted.sum(axis=0, dtype=np.float64),
            corner=self.corner + _weighted_square(along, g),
            form=self.form + _weighted_square(projected, g),
        )

    def _lined(self, in_axes: Float32Array) -> Float32Array:
        first = len(self.corner)
        return in_axes[:, first : first + self.lines.shape[1]]

    def field(
        self,
        battles: _native.TieredBattles,
        clusters: Cells,
        tier_ratings: Float64Array,
        strong: int,
        weak: int,
        *,
        strict: bool,
        rank: int = RANK,
        near_rows: UnitRows | None = None,
    ) -> _native.FarField:
        """What answers queries, with the ``rank`` strongest directions.

        ``clusters``, uint16[n], is the cluster of each battle (``cluster_battles``). ``near_rows``
        are the battles' unit rows that the near field reads, by default those of ``battles``.
        """
        count = len(self.corner) + self.lines.shape[1]
        outside = self.linear - self.axes[:count].T.astype(np.float64) @ (
            self.axes[:count].astype(np.float64) @ self.linear
        )
        values, vectors = np.linalg.eigh(self.form)
        best = np.argsort(-np.abs(values))[:rank]
        directions = self.directions @ vectors[:, best]
        lengths = np.maximum(np.linalg.norm(directions, axis=0), 1e-300)
        length = max(float(np.linalg.norm(outside)), 1e-300)
        filled = np.maximum(self.sizes, 1.0)
        centres = self.places / filled[:, None]
        variances = self.energies - self.sizes @ np.square(centres) / self.sizes.sum()
        variances = variances.clip(min=0.0)
        widths = (self.squares / filled - np.square(centres).sum(axis=1)).clip(min=0.0)
        active = active_cells(self.cells[:, 0], len(tier_ratings), strict=strict)
        middle = self.places.sum(axis=0) / self.sizes.sum()
        return _native.FarField(
            battles,
            near_rows=None if near_rows is None else _stored(near_rows),
            axes={
                # The moments are along these very axes: they are rounded at ``fit`` or not at all.
                "rows": _stored(packed(self.axes, 1e-5)),
                "middle": middle.astype(np.float32),
                "variances": variances,
                "energies": self.energies,
                "spread": self.spread,
            },
            clusters={
                "centres": _stored(
                    packed(np.where(self.sizes[:, None] > 0, centres - middle, 0.0))
                ),
                "influences": _stored(packed(self.influences - self.pulls[:, None] * centres)),
                "sizes": self.sizes,
                "pulls": self.pulls,
                "widths": widths / max(float(variances.sum()), 1e-30),
                "of_battle": clusters,
            },
            cells={
                "axes": len(self.corner),
                "moments": self.cells[active].astype(np.float32),
                "lines": _stored(packed(self.lines[active])),
                "active": active.astype(np.int32),
                "gradient": self.gradient,
            },
            outside={
                "directions": _stored(
                    packed(np.vstack([outside / length, (directions / lengths).T]))
                ),
                "curvatures": np.concatenate([[length], values[best] * lengths**2]),
                "corner": np.ascontiguousarray(self.corner),
            },
            start=tier_ratings,
            strong=strong,
            weak=weak,
        )


def active_cells(counts: Float64Array, num_tiers: int, *, strict: bool) -> npt.NDArray[np.intp]:
    """Numbers of the cells that hold battles and say something on the ratings."""
    number = np.arange(len(counts))
    pair = number % num_tiers**2
    between = (number < 2 * num_tiers**2) & (pair // num_tiers != pair % num_tiers)
    return np.flatnonzero((counts > 0) & (between | strict))


def gradient(
    counts: Float64Array, ratings: Float64Array, strong: int, weak: int, *, strict: bool
) -> Float64Array:
    """Derivative of R_strong - R_weak by the share of each cell in the weight, float64[cells].

    At the ratings R, float64[t], that are best for the weights ``counts``, float64[cells]. The
    stationary point of the log-likelihood moves by -(its second derivative)^-1 times the cell's
    own first derivative.
    """
    t = len(ratings)
    difference = ratings[:, None] - ratings[None, :]
    lost = 1.0 / (1.0 + np.exp(difference))  # probability that the column beats the row
    slopes = np.zeros((len(counts), t))
    a, b = np.divmod(np.arange(t * t), t)
    # Each battle is in the data twice, a tie once for each side.
    decided = 2.0 * lost[a, b]
    tied = lost[a, b] - lost[b, a]
    between = a != b
    rows = np.flatnonzero(between)
    for offset, slope in ((0, decided), (t * t, tied)):
        slopes[offset + rows, a[rows]] += slope[rows]
        slopes[offset + rows, b[rows]] -= slope[rows]
    weight = np.zeros(t * t)
    weight[rows] = 2.0 * (counts[rows] + counts[t * t + rows])
    curvature = (weight * lost[a, b] * lost[b, a]).reshape(t, t)
    curvature += curvature.T
    hessian = np.diag(curvature.sum(axis=1)) - curvature
    if strict:
        diagonal = np.arange(t) * (t + 1)
        won, tie, lost_within = counts[diagonal], counts[t * t + diagonal], counts[2 * t * t :]
        # Within a tier: against an opponent of rating 0, won with sigmoid(-R).
        if (won + tie).any() and (lost_within + tie).any():
            low, high = 1.0 / (1.0 + np.exp(ratings)), 1.0 / (1.0 + np.exp(-ratings))
            slopes[diagonal, np.arange(t)] = -2.0 * high
            slopes[t * t + diagonal, np.arange(t)] = low - high
            slopes[2 * t * t + np.arange(t), np.arange(t)] = 2.0 * low
            hessian += np.diag(2.0 * (won + tie + lost_within) * low * high)
    pair = np.zeros(t)
    pair[strong] += 1.0
    pair[weak] -= 1.0
    total = counts[active_cells(counts, t, strict=strict)].sum()
    result: Float64Array = slopes @ (np.linalg.pinv(hessian, hermitian=True) @ pair) * total
    return result


def nearest(points: Float32Array, seeds: Float32Array) -> Cells:
    """Number of the seed nearest to each point, uint16[n]."""
    half_squares = np.square(seeds).sum(axis=1) / 2
    found: Cells = (points @ seeds.T - half_squares).argmax(axis=1).astype(np.uint16)
    return found


def cluster_seeds(points: Float32Array) -> Float32Array:
    """Centres of clusters, float32[k, axes], by k-means from points at equal distances."""
    count = min(CLUSTERS, max(len(points) // 8, 1))
    seeds = points[np.linspace(0, len(points) - 1, count).astype(np.int64)].copy()
    for _ in range(8):
        sizes, _, _, places, _ = cluster_sums(
            points, nearest(points, seeds), np.zeros(len(points)), count
        )
        filled = sizes > 0
        seeds[filled] = (places[filled] / sizes[filled, None]).astype(np.float32)
    return seeds


def cluster_sums(
    points: Float32Array, clusters: Cells, g: Float64Array, count: int
) -> list[Float64Array]:
    """Sums of 1, |p|^2, g, p and g p over the points of each cluster."""
    wide = points.astype(np.float64)
    terms = (np.ones(len(points)), np.square(wide).sum(axis=1), g, wide, wide * g[:, None])
    return [sums_by(clusters, term, count) for term in terms]


def sums_by(labels: Cells, terms: npt.NDArray[Any], count: int) -> Float64Array:
    """Sums of the rows of ``terms`` that have the label 0, 1, ... count - 1, in float64."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    total = np.zeros((count, *terms.shape[1:]))
    total[present] = np.add.reduceat(terms[order].astype(np.float64), starts, axis=0)
    return total


def _stored(vectors: UnitRows) -> _native.StoredRows:
    return _native.stored_rows(vectors.rows, vectors.scales)


def packed(matrix: npt.NDArray[np.floating[Any]], most: float | None = None) -> UnitRows:
    """The rows as bytes with a factor each, or as float32 where that moves one by too much.

    Too much: by more than ``most`` (by default MOST_ROUNDING) of its length. A query reads all of
    these rows, so its time is that of their bytes.
    """
    rows = matrix.astype(np.float32, order="C")
    scales = np.abs(rows).max(axis=1, initial=0.0) / np.float32(127.0)
    scales = np.where(scales > 0, scales, np.float32(1.0)).astype(np.float32)
    rounded = np.rint(rows / scales[:, None])
    off = np.linalg.norm(rounded * scales[:, None] - rows, axis=1)
    if (off > (MOST_ROUNDING if most is None else most) * np.linalg.norm(rows, axis=1)).any():
        return UnitRows(rows)
    return UnitRows(rounded.astype(np.int8), scales)


def _weighted_square(rows: Float32Array, weights: Float64Array) -> Float64Array:
    wide = rows.astype(np.float64)
    square: Float64Array = (wide * weights[:, None]).T @ wide
    return square
