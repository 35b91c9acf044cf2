"""The picture of ``fastroute simulate``: what each policy costs, against its latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastroute._extras import needed_for
from fastroute._files import os_errors_as
from fastroute.errors import InvalidInputError
from fastroute.resilience.advice import Row

_STYLES = {
    "none": ("#333333", "D", "none: sent once"),
    "replicate": ("#b5541c", "s", "replicate: sent again at once"),
    "delayed": ("#1f6fb2", "o", "delayed: sent again beside the first"),
    "relaunch": ("#3a7d44", "^", "relaunch: sent again in its place"),
}
#: Bars are this many standard errors long on either side: 95 % intervals.
_ERRORS = 1.96


def plot(rows: Sequence[Row], chosen: Row, path: str, *, unit: str | None = None) -> None:
    """Draw cost against mean and 99th percentile of latency, with 95 % intervals.

    Both axes begin at 0, so that noise is not magnified into a difference. The cost is what an API
    bills, in ``unit``, or the seconds that copies ran.

    Raises InvalidInputError for another ending or a path that can't be written,
    MissingDependencyError without matplotlib.
    """
    with needed_for("a figure"):
        from matplotlib.figure import Figure
    if not path.endswith((".png", ".svg", ".pdf")):
        raise InvalidInputError(f"--plot {path!r} must end in .png, .svg or .pdf")
    figure = Figure(figsize=(9, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, name, label in (
        (left, "latency", "mean latency, seconds"),
        (right, "p99", "99th percentile of latency, seconds"),
    ):
        draw(axes, rows, chosen, name)
        axes.set_xlabel(label)
    left.set_ylabel("seconds that requests ran, per job" if unit is None else f"billed, {unit}")
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    figure.suptitle(
        "Lower and further left is better. Labels: the quantile of latency after which a request "
        "is sent again.\nBars: 95 % intervals of the simulation.",
        fontsize=9,
        x=0.01,
        ha="left",
    )
    with os_errors_as(InvalidInputError, f"--plot {path} can't be written"):
        figure.savefig(path, dpi=150)


def draw(axes: Any, rows: Sequence[Row], chosen: Row, name: str) -> None:
    """One panel: cost against "latency", its mean, or "p99"."""
    points = {id(row): _point(row, name) for row in rows}
    limits = (
        1.08 * max(x + dx for x, dx, _, _ in points.values()) or 1.0,
        1.15 * max(y + dy for _, _, y, dy in points.values()) or 1.0,
    )
    axes.set_xlim(0, limits[0])
    axes.set_ylim(0, limits[1])
    for mode, (colour, marker, label) in _STYLES.items():
        of_mode = [row for row in rows if row.policy.mode == mode]
        if not of_mode:
            continue
        x, dx, y, dy = zip(*(points[id(row)] for row in of_mode), strict=True)
        axes.errorbar(
            x, y, xerr=dx, yerr=dy, color=colour, marker=marker, markersize=5, linewidth=1,
            linestyle="-" if len(of_mode) > 1 else "none", capsize=2, label=label,
        )  # fmt: skip
        if mode in ("delayed", "relaunch"):
            texts = [f"{row.quantile:.3g}" for row in of_mode]
            _annotate(axes, list(zip(x, y, texts, strict=True)), colour, above=mode == "delayed")
    at_x, _, at_y, _ = points[id(chosen)]
    axes.plot(
        at_x, at_y, "o", markersize=15, markerfacecolor="none", color="#333333", label="advice"
    )
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


def _annotate(
    axes: Any, points: Sequence[tuple[float, float, str]], colour: str, *, above: bool
) -> None:
    """Write the text of each point beside it, unless it would overlap the one before."""
    shown: list[tuple[float, float]] = []
    for x, y, text in points:
        place = axes.transLimits.transform((x, y))
        if all(abs(place[0] - px) > 0.07 or abs(place[1] - py) > 0.05 for px, py in shown):
            shown.append(tuple(place))
            axes.annotate(
                text, (x, y), xytext=(0, 7 if above else -7), textcoords="offset points",
                ha="center", va="bottom" if above else "top", fontsize=7, color=colour,
            )  # fmt: skip


def _point(row: Row, name: str) -> tuple[float, float, float, float]:
    """Latency and cost of a row, each with half its interval."""
    o = row.outcome
    x, dx = (o.latency_s, o.latency_error_s) if name == "latency" else (o.p99_s, o.p99_error_s)
    y, dy = (o.cost_s, o.cost_error_s) if o.billed is None else (o.billed, o.billed_error or 0.0)
    return x, _ERRORS * dx, y, _ERRORS * dy if math.isfinite(dy) else 0.0
