"""Quality against dollars: curves of a trade-off, their hull, and what is read off them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastroute.types import Float64Array, IntArray

#: Prices of money that are tried, in quality for the mean cost of an answer; 0 is maximum quality.
PRICES = np.concatenate([[0.0], np.logspace(-4, 4, 65)])


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """What choices cost and reach, from the dearest to the cheapest."""

    #: usd, quality: float64[points], means over prompts.
    usd: Float64Array
    quality: Float64Array
    chosen: IntArray  #: int[points, n], the model that each prompt went to


def trade_off(estimate: Float64Array, grades: Float64Array, usd: Float64Array) -> Curve:
    """The choices that ``best_value`` makes at each of ``PRICES``.

    Args:
        estimate: float64[n, m], expected quality.
        grades: float64[n, m], what was reached; NaN where a model can't be chosen.
        usd: float64[n, m], dollars.
    """
    graded = ~np.isnan(grades)
    scale = float(usd[graded].mean()) or 1.0
    rows = np.arange(len(grades))
    cheaper_first = np.argsort(np.where(graded, usd, np.inf), axis=1, kind="stable")
    found = []
    for price in PRICES:
        value = np.where(graded, estimate - price / scale * usd, -np.inf)
        ordered = np.take_along_axis(value, cheaper_first, axis=1)
        found.append(cheaper_first[rows, ordered.argmax(axis=1)])
    chosen = np.array(found)
    return Curve(usd[rows, chosen].mean(axis=1), grades[rows, chosen].mean(axis=1), chosen)


def within(curve: Curve, usd: float) -> int:
    """The first point, of the most expected quality, that costs at most ``usd`` (or the last)."""
    affordable = np.flatnonzero(curve.usd <= usd * (1 + 1e-9))
    return int(affordable[0]) if len(affordable) else len(curve.usd) - 1


def hull(usd: Float64Array, quality: Float64Array) -> tuple[Float64Array, Float64Array]:
    """The non-decreasing convex hull from above: what mixtures of the points reach."""
    points: list[tuple[float, float]] = []
    for x, y in sorted(
        zip(usd.tolist(), quality.tolist(), strict=True), key=lambda p: (p[0], -p[1])
    ):
        if points and y <= points[-1][1]:
            continue
        while len(points) > 1 and _is_below(points[-2], points[-1], (x, y)):
            points.pop()
        points.append((x, y))
    xs, ys = zip(*points, strict=True)
    return np.array(xs), np.array(ys)


def _is_below(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def aiq(usd: Float64Array, quality: Float64Array, least: float, most: float) -> float:
    """Average improvement in quality: the hull's mean height from ``least`` to ``most`` dollars.

    Source: RouterBench (Hu et al. 2024, arXiv 2403.12031). Below the hull's first point, nothing is
    reached for less, and that point's quality counts.
    """
    xs, ys = hull(usd, quality)
    if most <= least:
        return float(np.interp(least, xs, ys))
    inside = (xs > least) & (xs < most)
    at = np.concatenate([[least], xs[inside], [most]])
    height = np.interp(at, xs, ys)
    return float(((height[1:] + height[:-1]) / 2 @ np.diff(at)) / (most - least))
