"""The panels of figures, drawn on matplotlib axes: curves, APGR with intervals, reliability.

Colours are Okabe and Ito's, which readers with any colour vision can tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastroute.evaluation.benchmarks.published import ROUTELLM_APGR, Point
from fastroute.evaluation.metrics.curve import Curve
from fastroute.evaluation.results import GRID, BenchmarkResult, Report
from fastroute.evaluation.thresholds.measured import goal_of
from fastroute.types import Float64Array

INK, MUTED, GRID_LINE, PAGE = "#1c1c1c", "#5f6368", "#dfe1e5", "#fefefe"
#: Colours of routers on a light page, and on a dark one.
PALETTE = ("#0072b2", "#d55e00", "#cc79a7", "#e69f00", "#56b4e9")
DARK_PALETTE = ("#4aa8e0", "#f08a3c", "#e0a0c4", "#f0bd4a", "#8fd0f5")
#: Groups of prompts that a reliability diagram needs; fewer show no relation.
LEAST_GROUPS = 3
LENGTH, DARK_LENGTH = "#009e73", "#35c79c"

_RANDOM_LINE: dict[str, Any] = {
    "color": MUTED,
    "linewidth": 0.9,
    "linestyle": (0, (4, 3)),
}
_ORACLE_LINE: dict[str, Any] = {"color": MUTED, "linewidth": 0.9}


def draw_curves(
    ax: Any, report: Report, result: BenchmarkResult, points: Sequence[Point] = ()
) -> None:
    """Quality against the share of strong calls, or dollars, on a matplotlib axes.

    Shaded areas are intervals of the gap recovered, scaled to the gap between the two models. The
    uncertainty of the level of the whole benchmark is left out: it moves all routers together.
    """
    ax.set_visible(True)
    b = result.benchmark
    weak, strong = b.weak_quality, b.strong_quality
    oracle = result.row("oracle").curve
    at = _across(report, oracle)
    ax.plot(at(np.array([0.0, 1.0])), [weak, strong], **_RANDOM_LINE)
    ax.plot(at(oracle.share), oracle.quality * b.scale, **_ORACLE_LINE)
    goal = goal_of(b)
    ax.axhline(goal.quality, color=MUTED, linewidth=0.9, linestyle=":", zorder=0)
    # A model's name can be long.
    ax.annotate(
        textwrap.shorten(goal.text, 44, placeholder=" ..."), (0.015, goal.quality),
        xycoords=("axes fraction", "data"), xytext=(0, 2), textcoords="offset points",
        va="bottom", fontsize=7, color=MUTED, zorder=5,
        bbox={"boxstyle": "square,pad=0.1", "facecolor": PAGE, "edgecolor": "none", "alpha": 0.75},
    )  # fmt: skip
    styles = line_styles(result)
    shown = [row for row in result.rows if row.name in styles]
    for row in shown:
        if row.band is not None:
            low, high = row.band.T * b.scale
            colour = styles[row.name]["color"]
            ax.fill_between(at(GRID), low, high, color=colour, alpha=0.15, linewidth=0)
    for row in reversed(shown):
        ax.plot(
            at(row.curve.share),
            row.curve.quality * b.scale,
            solid_joinstyle="round",
            **styles[row.name],
        )
    top = float(oracle.quality.max()) * b.scale
    ax.set_xlim(at(np.array([-0.015, 1.015])))
    drawn = points if report.axis == "calls" else ()  # points have no dollars
    low = min(weak, *(point.quality for point in drawn)) if drawn else weak
    high = max(top, *(point.quality for point in drawn)) if drawn else top
    ax.set_ylim(low - 0.15 * (high - low), high + 0.06 * (high - low))
    ax.set_xlabel("Strong calls (%)" if report.axis == "calls" else "Dollars per 1,000 prompts")
    ax.set_ylabel(b.unit[:1].upper() + b.unit[1:])
    for i, point in enumerate(drawn):
        up = -1 if i % 2 else 1  # labels alternate, so that neighbours do not overlap
        ax.plot(
            [100 * point.share], [point.quality], marker="Ds^vP"[i % 5], markersize=4.5, color=INK,
            markerfacecolor=PAGE, markeredgewidth=0.9, linestyle="none", zorder=4,
        )  # fmt: skip
        ax.annotate(
            point.label, (100 * point.share, point.quality), xytext=(0, 5 * up), zorder=5,
            textcoords="offset points", ha="center", va="bottom" if up > 0 else "top", fontsize=7,
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAGE, "edgecolor": "none",
                  "alpha": 0.75},
        )  # fmt: skip


def draw_apgr(ax: Any, report: Report, result: BenchmarkResult) -> None:
    """APGR of each router with its interval, and published values as hollow marks, on an axes."""
    ax.set_visible(True)
    styles = line_styles(result)
    names: list[str] = []
    at: list[float] = []
    y = 0.0
    for row in result.rows:
        if row.name not in styles:
            continue
        colour = styles[row.name]["color"]
        if row.apgr.low is not None:
            ax.plot([row.apgr.low, row.apgr.high], [y, y], color=colour, linewidth=2.0)
        ax.plot([row.apgr.value], [y], marker="o", markersize=4.5, color=colour)
        _value_at_the_edge(ax, y, row.apgr.value, INK)
        names.append(row.name)
        at.append(y)
        y -= 1.0
    published = ROUTELLM_APGR.get(result.benchmark.name, ())
    if published:
        ax.text(
            0.0, y - 0.1, f"RouteLLM, {published[0][1]}", transform=ax.get_yaxis_transform(),
            color=MUTED, fontsize=7, va="center",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": PAGE, "edgecolor": "none"},
        )  # fmt: skip
        y -= 1.0
    for name, trained, value in published:
        ax.plot(
            [value], [y], marker="o", markersize=4, color=MUTED, markerfacecolor=PAGE,
            markeredgewidth=0.9,
        )  # fmt: skip
        _value_at_the_edge(ax, y, value, MUTED)
        names.append(name if trained == published[0][1] else f"{name}, {trained}")
        at.append(y)
        y -= 1.0
    ax.axvline(0.5, **_RANDOM_LINE, zorder=0)
    ax.set_yticks(at, names)
    ax.set_ylim(y + 0.4, 0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.grid(axis="x", color=GRID_LINE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.locator_params(axis="x", nbins=3, steps=[1, 2, 5, 10])
    ends = f", {report.confidence:.0%} intervals" if report.resamples else ""
    ax.set_xlabel(f"APGR{ends}")


def drawn_reliability(result: BenchmarkResult) -> bool:
    """Whether a router has enough groups of win rates for a reliability diagram."""
    return any(len(row.reliability) >= LEAST_GROUPS for row in result.rows)


def draw_reliability(ax: Any, result: BenchmarkResult) -> None:
    """Mean outcome against mean win rate in groups of prompts; bars are two standard errors.

    The axes span the groups, because win rates often span a small part of 0..1.
    """
    ax.set_visible(True)
    styles = line_styles(result)
    ends: list[float] = []
    for row in result.rows:
        if len(row.reliability) < LEAST_GROUPS:
            continue
        x = [part.win_rate for part in row.reliability]
        y = [part.outcome for part in row.reliability]
        error = [2 * np.nan_to_num(part.standard_error) for part in row.reliability]
        style = styles[row.name] | {"linewidth": 0.9}
        ax.errorbar(x, y, yerr=error, marker="o", markersize=3.5, elinewidth=0.9, **style)
        ends += x
    margin = 0.04 * (max(ends) - min(ends))
    low, high = min(ends) - margin, max(ends) + margin
    ax.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    ax.set_xlim(low, high)
    ax.margins(y=0.08)
    ax.locator_params(nbins=5)
    ax.grid(axis="y", color=GRID_LINE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("Win rate, predicted (dashed: calibrated)")
    ax.set_ylabel("Strong model better")


def line_styles(result: BenchmarkResult) -> dict[str, dict[str, Any]]:
    """Line styles of all rows but random and oracle, the same in all panels."""
    routers = sorted(row.name for row in result.rows if row.kind == "router")
    styles: dict[str, dict[str, Any]] = {
        name: {
            "color": PALETTE[i % len(PALETTE)],
            "linewidth": 1.4,
            "linestyle": ("-", ":", "--")[i // len(PALETTE) % 3],
        }
        for i, name in enumerate(routers)
    }
    for row in result.rows:
        if row.kind == "baseline" and row.name != "random":
            styles[row.name] = {"color": LENGTH, "linewidth": 1.2, "linestyle": (0, (4, 1, 1, 1))}
    return styles


def draw_legend(figure: Any, report: Report, per_row: int) -> None:
    """A legend above all panels of a matplotlib figure."""
    from matplotlib.lines import Line2D

    result = report.results[0]
    styles = {row.name: line_styles(result).get(row.name) for row in result.rows}
    styles |= {"random": _RANDOM_LINE, "oracle": _ORACLE_LINE}
    # matplotlib hides names that begin with _, hence the space.
    lines = [Line2D([], [], label=f" {name}", **(style or {})) for name, style in styles.items()]
    figure.legend(
        handles=lines, loc="outside upper left", ncols=min(len(lines), per_row), frameon=False,
        fontsize=7, handlelength=1.8, columnspacing=1.2, borderaxespad=0.1,
    )  # fmt: skip


def _across(report: Report, points: Curve) -> Callable[[Float64Array], Float64Array]:
    """Shares to units of the horizontal axis: percent, or dollars per 1,000 prompts."""
    if report.axis == "calls" or points.cost is None:
        return lambda share: np.asarray(100.0 * share)
    cheap, dear = 1000.0 * float(points.cost[0]), 1000.0 * float(points.cost[-1])
    return lambda share: np.asarray(cheap + share * (dear - cheap))


def _value_at_the_edge(ax: Any, y: float, value: float, colour: str) -> None:
    ax.text(
        1.02, y, f"{value:.3f}", transform=ax.get_yaxis_transform(), color=colour, fontsize=7,
        va="center",
    )  # fmt: skip


def apgr_rows(result: BenchmarkResult) -> int:
    """Number of rows of ``draw_apgr``."""
    published = len(ROUTELLM_APGR.get(result.benchmark.name, ()))
    return len(line_styles(result)) + (published + 1 if published else 0)


def apgr_height_in(rows: int) -> float:
    """Height of a panel with ``rows`` rows, in inches."""
    return 0.5 + 0.155 * rows
