"""What a router does at some thresholds, and the goal that a report states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.curve import curve
from fastroute.evaluation.thresholds.choice import threshold_at
from fastroute.types import Float64Array

#: Shares of strong calls at which a router is shown.
SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)
# A goal that the weak model nearly reaches alone does not tell routers apart.
_LEAST_PGR = 0.2


class Goal(NamedTuple):
    """The quality that a report states the cost of.

    Attributes:
        pgr: as performance gap recovered.
        quality: in the benchmark's unit.
        text: in words.
    """

    pgr: float
    quality: float
    text: str


@dataclass(frozen=True, slots=True)
class MeasuredThreshold:
    """Figures of a router at one threshold.

    Attributes:
        threshold: prompts with at least this win rate are strong calls.
        share: share of strong calls.
        quality: mean score, in the benchmark's unit.
        pgr: performance gap recovered.
        cost: mean dollars per prompt, or None without costs.
        reaches_goal: whether it is the cheapest point that reaches the report's goal.
    """

    threshold: float
    share: float
    quality: float
    pgr: float
    cost: float | None
    reaches_goal: bool


def goal_of(benchmark: Benchmark) -> Goal:
    """The goal of a report: 95 % of the strong model's quality, 99 % where 95 % is too easy."""
    weak, strong = benchmark.weak_quality, benchmark.strong_quality
    for part in (0.95, 0.99) if strong > 0 else ():
        pgr = (part * strong - weak) / (strong - weak)
        if pgr >= _LEAST_PGR:
            return Goal(pgr, part * strong, f"{part:.0%} of {benchmark.pair.strong}'s quality")
    quality = weak + 0.8 * (strong - weak)
    return Goal(0.8, quality, f"80% of the gap to {benchmark.pair.strong}'s quality")


def measured_thresholds(
    win_rates: Float64Array, benchmark: Benchmark, *, by_cost: bool = False
) -> tuple[MeasuredThreshold, ...]:
    """The thresholds nearest to SHARES, and the cheapest one that reaches the goal.

    Args:
        win_rates: float64[n], of the prompts of ``benchmark``.
        by_cost: the cheapest is that of fewest dollars, not of fewest strong calls.
    """
    points = curve(win_rates, benchmark.weak, benchmark.strong)
    cost = None
    if benchmark.cost_weak is not None and benchmark.cost_strong is not None:
        order = np.argsort(-win_rates, kind="stable")
        extra = np.append(0.0, np.cumsum((benchmark.cost_strong - benchmark.cost_weak)[order]))
        calls = np.rint(points.share * len(benchmark)).astype(np.intp)
        cost = benchmark.cost_weak.mean() + extra[calls] / len(benchmark)
    pgr = points.pgr
    # The slack is for the rounding of running sums.
    reached = np.flatnonzero(pgr >= goal_of(benchmark).pgr - 1e-12)
    spent = cost if by_cost and cost is not None else points.share
    goal = int(reached[np.argmin(spent[reached])])
    shown = {int(np.argmin(np.abs(points.share - share))) for share in SHARES} | {goal}
    return tuple(
        MeasuredThreshold(
            threshold_at(points, i),
            float(points.share[i]),
            float(points.quality[i]) * benchmark.scale,
            float(pgr[i]),
            None if cost is None else float(cost[i]),
            i == goal,
        )
        for i in sorted(shown)
        if i > 0 or goal == 0
    )
