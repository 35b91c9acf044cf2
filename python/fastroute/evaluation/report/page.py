"""A report as one self-contained HTML page: conclusions, figures and tables."""

from __future__ import annotations

import html
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from fastroute._files import os_errors_as
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
    page = _file("page.html").format(
        style=_file("page.css"),
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
    with os_errors_as(InvalidInputError, f"{path} can't be written"):
        Path(path).write_text(page, encoding="utf-8")


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


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
