"""Figures of a report: one file for a paper, or SVG inside the HTML page. Needs matplotlib.

In SVG for the page, colours are CSS variables, for light and dark pages.
"""

from __future__ import annotations

import io
import os
import re
import textwrap
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastroute._extras import needed_for
from fastroute._files import os_errors_as
from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.published import ROUTELLM_APGR, Point
from fastroute.evaluation.report.cascade_panel import draw_cascade
from fastroute.evaluation.report.panels import (
    DARK_LENGTH,
    DARK_PALETTE,
    GRID_LINE,
    INK,
    LENGTH,
    MUTED,
    PAGE,
    PALETTE,
    apgr_height_in,
    apgr_rows,
    draw_apgr,
    draw_curves,
    draw_legend,
    draw_reliability,
    drawn_reliability,
)
from fastroute.evaluation.results import BenchmarkResult, CascadeResult, Report

_FORMATS = (".png", ".svg", ".pdf")
_COLUMN_IN = 3.5  # a column of a paper
_PANEL_IN = 2.4
_MOST_ABREAST = 3
_RC = {
    "font.family": "sans-serif",
    "font.size": 8.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "text.color": INK,
    "axes.titlesize": 8.0,
    "svg.fonttype": "none",  # text can be selected and searched
    "svg.hashsalt": "fastroute",  # the same figure gives the same file
    "pdf.fonttype": 42,
    "text.parse_math": False,  # a $ in a name is a $
}


def save_figure(
    report: Report, path: str | os.PathLike[str], *, points: Sequence[Point] = ()
) -> None:
    """Write curves, APGR and reliability of every benchmark as one PNG (300 dpi), SVG or PDF.

    One benchmark is as wide as a column of a paper; several are in rows of three. ``points`` are
    drawn on the benchmark "mt-bench". Raises InvalidInputError for another suffix or a path that
    can't be written, MissingDependencyError without matplotlib.
    """
    file = check_figure_file(path)
    matplotlib = load_matplotlib()
    from matplotlib.figure import Figure

    n = len(report.results)
    across = min(n, _MOST_ABREAST)
    down = -(-n // across)
    width = _COLUMN_IN if n == 1 else _PANEL_IN * across
    calibrated = any(drawn_reliability(result) for result in report.results)
    tallest = max(apgr_rows(result) for result in report.results)
    heights = [2.2, apgr_height_in(tallest), *([2.0] if calibrated else [])]
    first_cascade = len(heights)
    heights += [2.1] * max(len(result.cascades) for result in report.results)
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=(width, down * sum(heights) + 0.35), layout="constrained")
        axes = figure.subplots(
            down * len(heights), across, squeeze=False, height_ratios=heights * down
        )
        for ax in axes.flat:
            ax.set_visible(False)
        for i, result in enumerate(report.results):
            column = axes[i // across * len(heights) :, i % across]
            own = points if result.benchmark.name == "mt-bench" else ()
            draw_curves(column[0], report, result, own)
            title = textwrap.fill(display_name(result), 26 if n > 1 else 44, break_on_hyphens=False)
            column[0].set_title(title, loc="left", fontweight="bold")
            draw_apgr(column[1], report, result)
            if drawn_reliability(result):
                draw_reliability(column[2], result)
            for panel, cascade in zip(column[first_cascade:], result.cascades, strict=False):
                draw_cascade(panel, result, cascade)
        draw_legend(figure, report, per_row=4 if across == 1 else 8)
        metadata = {"Date": None} if file.suffix.lower() == ".svg" else None
        with os_errors_as(InvalidInputError, f"{file} can't be written"):
            figure.savefig(file, dpi=300, metadata=metadata)


def check_figure_file(path: str | os.PathLike[str]) -> Path:
    """The path, if its suffix is a supported format."""
    file = Path(path)
    if file.suffix.lower() not in _FORMATS:
        raise InvalidInputError(f"{file} must end in {', '.join(_FORMATS)}")
    return file


def curve_svg(report: Report, result: BenchmarkResult, points: Sequence[Point] = ()) -> str:
    """The curves as an ``<svg>`` element for the HTML report."""
    return panel_svg((3.9, 3.3), lambda ax: draw_curves(ax, report, result, points), report)


def apgr_svg(report: Report, result: BenchmarkResult) -> str:
    """The APGR intervals as an ``<svg>`` element for the HTML report."""
    height = max(1.4, apgr_height_in(apgr_rows(result)) + 0.2)
    return panel_svg((3.9, height), lambda ax: draw_apgr(ax, report, result))


def has_published(result: BenchmarkResult) -> bool:
    """Whether RouteLLM published its APGR on this benchmark."""
    return result.benchmark.name in ROUTELLM_APGR


def reliability_svg(result: BenchmarkResult) -> str:
    """The reliability diagram as an ``<svg>`` element for the HTML report."""
    return panel_svg((3.9, 2.4), lambda ax: draw_reliability(ax, result))


def cascade_svg(result: BenchmarkResult, cascade: CascadeResult) -> str:
    """A cascade's APGR against latency as an ``<svg>`` element for the HTML report."""
    return panel_svg((3.9, 3.0), lambda ax: draw_cascade(ax, result, cascade))


def css_colours() -> str:
    """The CSS variables of the colours of the HTML report's figures."""
    light = "".join(f"--c{i}:{c};" for i, c in enumerate((*PALETTE, LENGTH)))
    dark = "".join(f"--c{i}:{c};" for i, c in enumerate((*DARK_PALETTE, DARK_LENGTH)))
    return f":root{{{light}}}@media (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def display_name(result: BenchmarkResult) -> str:
    """The benchmark's name as it is written, and how many prompts it has."""
    known = {"mmlu": "MMLU", "gsm8k": "GSM8K", "mt-bench": "MT-Bench"}
    name = result.benchmark.name
    return f"{known.get(name, name)}, {len(result.benchmark):,} prompts"


def panel_svg(
    size_in: tuple[float, float], draw: Callable[[Any], None], legend_of: Report | None = None
) -> str:
    """What ``draw`` draws on axes, as an ``<svg>`` element for an HTML report."""
    matplotlib = load_matplotlib()
    from matplotlib.figure import Figure

    buffer = io.StringIO()
    with matplotlib.rc_context(_RC):
        figure = Figure(figsize=size_in, layout="constrained")
        draw(figure.subplots())
        if legend_of is not None:
            # Long names need more space.
            many = sum(len(row.name) for row in legend_of.results[0].rows) > 36
            draw_legend(figure, legend_of, per_row=4 if many else 5)
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    variables = {INK: "--ink", MUTED: "--muted", GRID_LINE: "--grid", PAGE: "--page"}
    variables |= {colour: f"--c{i}" for i, colour in enumerate((*PALETTE, LENGTH))}
    for colour, name in variables.items():
        text = text.replace(colour, f"var({name})")
    # Make ids unique among the figures of a page.
    salt = f"f{zlib.crc32(text.encode()):08x}-"
    text = re.sub(r'id="', f'id="{salt}', text)
    text = re.sub(r"url\(#", f"url(#{salt}", text)
    return re.sub(r'href="#', f'href="#{salt}', text)


def load_matplotlib() -> Any:
    """matplotlib, or MissingDependencyError that names the extra to install."""
    with needed_for("a figure"):
        import matplotlib
    return matplotlib
