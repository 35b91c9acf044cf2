"""A report as one self-contained HTML page: tables and figures, nothing from elsewhere."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.published import Point
from fastroute.evaluation.report import plots
from fastroute.evaluation.report.tables import (
    Column,
    cascade_title,
    cost_columns,
    other_columns,
    remarks,
    title,
)
from fastroute.evaluation.results import BenchmarkResult, Report


def write_html(
    report: Report,
    path: str | os.PathLike[str],
    *,
    points: Sequence[Point] = (),
    command: str | None = None,
) -> None:
    """Write one HTML file with tables and figures inside it; it loads nothing from elsewhere.

    Args:
        report: what ``evaluate`` returned.
        path: the file.
        points: drawn on the benchmark "mt-bench".
        command: printed as how the page was made.

    Raises MissingDependencyError without matplotlib, InvalidInputError if the file can't be
    written.
    """
    made = f"<p>Made by</p><pre>{html.escape(command)}</pre>" if command else ""
    page = _PAGE.format(
        style=_STYLE,
        colours=plots.css_colours(),
        version=html.escape(report.version),
        sections="".join(_section(report, result, points) for result in report.results),
        how=html.escape(_how(report)),
        made=made,
    )
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path} can't be written: {error.strerror}") from error


def _section(report: Report, result: BenchmarkResult, points: Sequence[Point]) -> str:
    own = points if result.benchmark.name == "mt-bench" else ()
    across = "the share of strong calls" if report.axis == "calls" else "dollars"
    figures = [
        (plots.curve_svg(report, result, own), f"Quality against {across}."),
        (plots.apgr_svg(report, result), "APGR; hollow: published by RouteLLM."),
    ]
    if any(row.reliability for row in result.rows):
        figures.append(
            (plots.reliability_svg(result), "Outcomes against win rates; bars: 2 standard errors.")
        )
    for cascade in result.cascades:
        figures.append(
            (
                plots.cascade_svg(result, cascade),
                f"{cascade_title(cascade)}. From no prompt sent on to all; diamond: its own band.",
            )
        )
    names = Column("router", [(row.name, "") for row in result.rows])
    columns = [names, *cost_columns(result), *other_columns(report, result)]
    head = "".join(f"<th scope='col'>{html.escape(column.name)}</th>" for column in columns)
    body = "".join(
        f"<tr class='{row.kind}'>"
        + "".join(_cell(*column.cells[i], header=column is names) for column in columns)
        + "</tr>"
        for i, row in enumerate(result.rows)
    )
    notes = "".join(
        f"<p class='remark'>{html.escape(r)}</p>" for r in remarks(report, result, points)
    )
    drawn = "".join(
        f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for svg, caption in figures
    )
    return (
        f"<section><h2>{html.escape(plots.display_name(result))}</h2>"
        f"<p>{html.escape(title(report, result))}</p>"
        f"<div class='figures'>{drawn}</div>"
        f"<div class='scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"</div>{notes}</section>"
    )


def _cell(value: str, ends: str, *, header: bool) -> str:
    tag = "th scope='row'" if header else "td"
    small = f"<small>{html.escape(ends)}</small>" if ends else ""
    return f"<{tag}>{html.escape(value)}{small}</{tag.split()[0]}>"


def _how(report: Report) -> str:
    text = (
        "PGR is the part of the gap between the two models' scores that a router recovers. APGR "
        "is its mean over all shares of strong calls; random routing has 0.5. CPT(x) is the least "
        "share of strong calls that recovers x of the gap, saved(x) what that is below the x that "
        "random routing needs. "
    )
    if report.method == "exact":
        text += "Every distinct win rate is a threshold; ties are averaged over their orders. "
    else:
        text += "Thresholds are the deciles of the win rates, as in RouteLLM's evaluation. "
    if report.resamples:
        text += (
            "Intervals are bootstrap percentiles over prompts; p-values are paired, from the same "
            "resamples. They say how much the choice of prompts matters, not the choice of "
            "training data. "
        )
    return text + "Random is averaged analytically; the oracle knows both scores."


_STYLE = """
:root { color-scheme: light dark; --page: #fefefe; --ink: #1c1c1c; --muted: #5f6368;
  --grid: #dfe1e5; --stripe: #f6f7f9; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e8e8e8; --muted: #a0a6ad;
  --grid: #363b42; --stripe: #1e2126; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 80rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 52rem; overflow-wrap: anywhere; }
.remark, figcaption, small { color: var(--muted); font-size: .8rem; }
.remark { margin: .25rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .8rem;
  width: 100%; }
th, td { padding: .35rem .5rem; text-align: right; vertical-align: top; white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: var(--page); }
thead th { font-weight: 600; border-bottom: 2px solid var(--grid); }
tbody tr { border-bottom: 1px solid var(--grid); }
tbody th { font-weight: 600; } tr.baseline th, tr.bound th { font-weight: 400; }
small { display: block; font-size: .72rem; }
.figures { display: grid; align-items: start; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 21rem), 1fr));
  margin-top: 1rem; }
figure { margin: 0; } figure svg { width: 100%; height: auto; display: block; }
pre { background: var(--stripe); padding: .75rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Routers, measured</title><style>{style}{colours}</style></head><body>
<h1>Routers, measured</h1>
<p>{how}</p>
{sections}
<section><h2>How this page was made</h2><p>fastroute {version}.</p>{made}</section>
</body></html>
"""
