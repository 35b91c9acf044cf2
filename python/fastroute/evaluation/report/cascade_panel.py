"""The panel of a cascade: APGR against mean latency, for bands from no prompt to all."""

from __future__ import annotations

from typing import Any

from fastroute.evaluation.report.panels import GRID_LINE, INK, MUTED, PAGE, line_styles
from fastroute.evaluation.results import BenchmarkResult, CascadeResult


def draw_cascade(ax: Any, result: BenchmarkResult, cascade: CascadeResult) -> None:
    """Draw the curve with intervals, the members at its ends, and the cascade's own band."""
    ax.set_visible(True)
    colour = line_styles(result)[cascade.name]["color"]
    points = sorted(cascade.points, key=lambda p: p.mean_ms)
    x = [p.mean_ms for p in points]
    if all(p.apgr.low is not None for p in points):
        ax.fill_between(
            x, [p.apgr.low for p in points], [p.apgr.high for p in points], color=colour,
            alpha=0.15, linewidth=0,
        )  # fmt: skip
    ax.plot(
        x, [p.apgr.value for p in points], color=colour, linewidth=1.4, marker="o", markersize=2.5,
        solid_joinstyle="round",
    )  # fmt: skip
    better = max(cascade.fast_apgr.value, cascade.slow_apgr.value)
    ax.axhline(better, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    most = max(*x, cascade.slow_ms)
    ends = (
        (f"fast: {cascade.fast}", cascade.fast_ms, cascade.fast_apgr.value),
        (f"slow: {cascade.slow}", cascade.slow_ms, cascade.slow_apgr.value),
    )
    for name, ms, value in ends:
        left = ms < most / 2.0  # names stay inside the panel
        ax.plot(
            [ms], [value], marker="s", markersize=4.5, color=INK, markerfacecolor=PAGE,
            markeredgewidth=0.9, zorder=4,
        )  # fmt: skip
        ax.annotate(
            name,
            (ms, value),
            xytext=(4 if left else -4, -10 if value < better else 9),
            textcoords="offset points",
            ha="left" if left else "right",
            va="center",
            fontsize=7,
            zorder=5,
            bbox={
                "boxstyle": "square,pad=0.1",
                "facecolor": PAGE,
                "edgecolor": "none",
                "alpha": 0.75,
            },
        )
    ax.plot(
        [cascade.own.mean_ms], [cascade.own.apgr.value], marker="D", markersize=5.5, color=colour,
        markeredgecolor=INK, markeredgewidth=0.7, zorder=6,
    )  # fmt: skip
    ax.set_xlim(-0.03 * most, 1.03 * most)
    ax.margins(y=0.15)
    ax.grid(axis="y", color=GRID_LINE, linewidth=0.6)
    ax.set_axisbelow(True)
    ax.set_xlabel("Mean latency (ms per prompt)")
    ax.set_ylabel("APGR")
