"""A report as one self-contained HTML page: conclusions, figures and tables."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.published import Point
from fastroute.evaluation.report import plots
from fastroute.evaluation.report.conclusion import conclusion
from fastroute.evaluation.report.panels import drawn_reliability
from fastroute.evaluation.report.tables import (
    Column,
    cascade_title,
    compared_columns,
    explanations,
    other_columns,
    point_columns,
    point_note,
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
        command: the command line that made the report, to print at its end.

    Raises MissingDependencyError without matplotlib, InvalidInputError if the file can't be
    written.
    """
    page = _PAGE.format(
        style=_STYLE,
        colours=plots.css_colours(),
        version=html.escape(report.version),
        conclusions="".join(
            f"<p class='conclusion'><strong>{html.escape(plots.display_name(result))}.</strong> "
            f"{html.escape(conclusion(report, result))}</p>"
            for result in report.results
        ),
        sections="".join(_section(report, result, points) for result in report.results),
        method=html.escape(_method(report)),
        made=f"<pre>{html.escape(command)}</pre>" if command else "",
    )
    try:
        Path(path).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{path} can't be written: {error.strerror}") from error


def _section(report: Report, result: BenchmarkResult, points: Sequence[Point]) -> str:
    parts = [f"<h2>{html.escape(plots.display_name(result))}</h2>"]
    parts.append(f"<p>{html.escape(title(report, result))}.</p>")
    first, *others = (
        f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"
        for svg, caption in _figures(report, result, points)
    )
    parts.append(f"<div class='columns'><div>{first}{''.join(_thresholds(result))}</div>")
    parts.append(f"<div>{''.join(others)}</div></div>")
    explained = explanations(report)
    names = Column("router", [(row.name, "") for row in result.rows])
    kinds = [row.kind for row in result.rows]
    parts.append("<h3>Routers and baselines</h3>")
    parts.append(_terms({term: explained[term] for term in ("APGR", "CPT(x)")}))
    parts.append(_table([names, *compared_columns(report, result)], kinds))
    parts.append("<details><summary>Other measures</summary>")
    rest = {t: said for t, said in explained.items() if t not in ("APGR", "CPT(x)", "PGR")}
    parts.append(_terms(rest))
    parts.append(_table([names, *other_columns(report, result)], kinds) + "</details>")
    parts += [f"<p class='note'>{html.escape(r)}</p>" for r in remarks(report, result, points)]
    return f"<section>{''.join(parts)}</section>"


def _figures(
    report: Report, result: BenchmarkResult, points: Sequence[Point]
) -> Iterator[tuple[str, str]]:
    """The figures of a benchmark as SVG, each with its caption."""
    own = points if result.benchmark.name == "mt-bench" else ()
    across = "the share of strong calls" if report.axis == "calls" else "dollars"
    said = f"Quality against {across}. The higher above random routing, the better; "
    yield plots.curve_svg(report, result, own), said + "the oracle knows both models' scores."
    said = "APGR: further right is better; the dashed line is random routing."
    if plots.has_published(result):
        said += " Hollow: published by RouteLLM."
    yield plots.apgr_svg(report, result), said
    if drawn_reliability(result):
        said = (
            "Calibration: how often the strong model was better (a tie counts half) by predicted "
            "win rate, in groups of 20 prompts or more; bars are two standard errors. Routers "
            "need the right order only; on the dashed line a win rate is a probability as well."
        )
        yield plots.reliability_svg(result), said
    for cascade in result.cascades:
        said = (
            f"{cascade_title(cascade)}. From no prompt sent on to all; diamond: its own interval."
        )
        yield plots.cascade_svg(result, cascade), said


def _thresholds(result: BenchmarkResult) -> Iterator[str]:
    """A table of thresholds for each router; those after the first are folded."""
    rows = [row for row in result.rows if row.kind == "router" and row.thresholds]
    if not rows:
        return
    strong, weak = (html.escape(model) for model in (result.benchmark.pair))
    yield "<h3>Thresholds</h3>"
    yield (
        f"<p class='note'>Prompts with at least this win rate go to {strong}, the others to "
        f"{weak}. PGR is the part of the quality gap between them that is closed.</p>"
    )
    for i, row in enumerate(rows):
        name = html.escape(row.name)
        yield f"<details{'' if i else ' open'}><summary>{name}</summary>"
        kinds = ["goal" if point.reaches_goal else "" for point in row.thresholds]
        yield _table(point_columns(result, row), kinds, narrow=True)
        yield f"<p class='note'>{html.escape(point_note(result))}</p></details>"


def _table(columns: Sequence[Column], kinds: Sequence[str], *, narrow: bool = False) -> str:
    """A table, with a class for each row; the first column is of names."""
    head = "".join(f"<th scope='col'>{html.escape(column.name)}</th>" for column in columns)
    rows = []
    for i, kind in enumerate(kinds):
        cells = []
        for column in columns:
            value, ends = (html.escape(part) for part in column.cells[i])
            small = f"<small>{ends}</small>" if ends else ""
            if column is columns[0]:
                cells.append(f"<th scope='row'>{value}</th>")
            else:
                label = html.escape(column.name)
                cells.append(f"<td data-label='{label}'>{value}{small}</td>")
        rows.append(f"<tr class='{kind}'>{''.join(cells)}</tr>")
    layout = "narrow" if narrow else "wide"
    return (
        f"<table class='{layout}'><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _terms(explained: dict[str, str]) -> str:
    terms = (
        f"<dt>{html.escape(term)}</dt><dd>{html.escape(said)}</dd>"
        for term, said in explained.items()
    )
    return f"<dl>{''.join(terms)}</dl>"


def _method(report: Report) -> str:
    thresholds = (
        "Every distinct win rate is a threshold; ties are averaged over their orders."
        if report.method == "exact"
        else "Thresholds are the deciles of the win rates, as in RouteLLM's evaluation."
    )
    return f"{thresholds} Random routing is computed, not drawn."


_STYLE = """
:root { color-scheme: light dark; --page: #fefefe; --ink: #1c1c1c; --muted: #5f6368;
  --grid: #dfe1e5; --stripe: #f4f6f8; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --page: #16181c; --ink: #e8e8e8; --muted: #a0a6ad;
  --grid: #363b42; --stripe: #1f2329; --accent: #4aa8e0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 70rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.3rem; margin: 3rem 0 .25rem; }
h3 { font-size: 1.05rem; margin: 1.75rem 0 .25rem; }
body { overflow-wrap: anywhere; } p { margin: .25rem 0 .75rem; max-width: 52rem; }
.conclusion { padding: .75rem 1rem; background: var(--stripe); max-width: none;
  border-left: 4px solid var(--accent); border-radius: 0 4px 4px 0; font-size: 1.05rem; }
.note, figcaption, small, dl { color: var(--muted); font-size: .85rem; }
.note { margin: .25rem 0; max-width: 52rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .75rem;
  margin: .25rem 0 .75rem; max-width: 60rem; }
dt { font-weight: 600; color: var(--ink); } dd { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem;
  margin: .5rem 0; }
table.wide { width: 100%; } td { white-space: nowrap; } thead th { overflow-wrap: normal; }
th, td { padding: .35rem .6rem; text-align: right; vertical-align: top; }
th:first-child { text-align: left; min-width: 5rem; }
thead th { font-weight: 600; border-bottom: 2px solid var(--grid); vertical-align: bottom; }
tbody tr { border-bottom: 1px solid var(--grid); }
tbody th { font-weight: 600; } .baseline th, .bound th { font-weight: 400; }
.narrow tbody th { font-weight: 400; white-space: nowrap; }
tr.goal { background: var(--stripe); } tr.goal > * { font-weight: 600; }
small { display: block; font-size: .75rem; white-space: nowrap; }
summary { cursor: pointer; font-weight: 600; margin-top: .5rem; }
.columns { display: grid; gap: 1rem 2rem; margin-top: 1rem; align-items: start; }
.columns > div { min-width: 0; } figure { margin: 0 0 1.25rem; }
figure svg { width: 100%; height: auto; display: block; }
@media (min-width: 800px) { .columns { grid-template-columns: 1fr 1fr; } }
@media (max-width: 640px) {
  .narrow { width: 100%; font-size: .75rem; }
  .narrow th, .narrow td { padding: .3rem .2rem; }
  .narrow th:first-child { min-width: 0; }
  .wide thead { position: absolute; clip-path: inset(50%); height: 1px; overflow: hidden; }
  .wide, .wide tbody { display: block; }
  .wide tr { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr));
    padding: .5rem 0; }
  .wide tbody th { grid-column: 1 / -1; padding-left: 0; }
  .wide td { text-align: left; padding: .25rem .5rem .25rem 0; } .wide td:empty { display: none; }
  .wide td::before { content: attr(data-label); display: block; color: var(--muted);
    font-size: .75rem; } }
pre { background: var(--stripe); padding: .75rem; white-space: pre-wrap;
  overflow-wrap: anywhere; font-size: .85rem; }
@media print { details:not([open]) > * { display: block; } }
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Router evaluation</title><style>{style}{colours}</style></head><body>
<h1>Router evaluation</h1>
{conclusions}
{sections}
<section><h2>How this page was made</h2><p>{method}</p><p>fastroute {version}</p>{made}</section>
</body></html>
"""
