"""A report as tables: for a terminal, in Markdown, and the cells that the HTML page shows."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import NamedTuple

from fastroute.evaluation.benchmarks.published import ROUTELLM_APGR, Point
from fastroute.evaluation.metrics.bootstrap import Estimate, cautions
from fastroute.evaluation.metrics.curve import CPT_TARGETS
from fastroute.evaluation.report.conclusion import best_row, conclusion
from fastroute.evaluation.results import (
    CASCADE_LATENCY,
    CASCADE_TOLERANCE,
    BenchmarkResult,
    CascadeResult,
    Report,
    RouterResult,
)
from fastroute.evaluation.thresholds.measured import goal_of

#: PGR levels at which savings are shown; CPT is shown at all of CPT_TARGETS.
SAVED_SHOWN = (0.5, 0.8)
_WIDTH = 100

Show = Callable[[float], str]


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        name: its header.
        cells: one per row: a value, and its interval or "".
    """

    name: str
    cells: list[tuple[str, str]]


def to_text(report: Report, *, points: Sequence[Point] = (), timings: bool = False) -> str:
    """The report for a terminal: tables, their terms, and the conclusions.

    Intervals are under their values; thresholds are those of the router with the greatest APGR.
    ``points`` are listed under the benchmark "mt-bench"; ``timings`` adds the seconds per step.
    """
    blocks = []
    for result in report.results:
        lines = [title(report, result)]
        names = Column("router", [(row.name, "") for row in result.rows])
        others = other_columns(report, result) + _p_columns(report, result)
        for columns in (cost_columns(result), others):
            lines += ["", *aligned([names, *columns])]
        for cascade in result.cascades:
            lines += ["", cascade_title(cascade), "", *aligned(cascade_columns(cascade))]
        best = best_row(result)
        if best.thresholds:
            lines += ["", f"thresholds of {best.name}", *aligned(point_columns(result, best))]
            lines.append(wrapped([point_note(result)]))
        lines += ["", *remarks(report, result, points)]
        if timings:
            lines += ["", *_timing_lines(result)]
        blocks.append("\n".join(lines).rstrip())
    blocks.append(wrapped([f"{term}: {said}" for term, said in explanations(report).items()]))
    blocks.append(wrapped([f"{r.benchmark.name}: {conclusion(report, r)}" for r in report.results]))
    return "\n\n\n".join(blocks) + "\n"


def to_markdown(report: Report, *, points: Sequence[Point] = ()) -> str:
    """The report as Markdown tables, one per benchmark, in the layout of RouteLLM's paper.

    Columns: router, CPT(50 %), CPT(80 %), APGR and its improvement over random routing; then cost
    saved, calibration and p-values, which that paper does not have.
    """
    header = ["router", "CPT(50%)", "CPT(80%)", "APGR", "improvement", "saved(50%)"]
    header += ["Brier", "ECE", "p (random)", "p (length)"]
    blocks = []
    for result in report.results:
        random = result.row("random").apgr.value
        lines = [f"**{title(report, result)}**", "", conclusion(report, result), ""]
        lines.append(_piped(header))
        lines.append(_piped(["---", *["---:"] * (len(header) - 1)]))
        for row in result.rows:
            cells = [row.name if row.kind == "bound" else f"`{row.name}`"]
            cells += [_joined(row.cpt[target], percent) for target in (0.5, 0.8)]
            cells += [_joined(row.apgr, three_digits), f"{row.apgr.value / random - 1.0:+.1%}"]
            cells += [_joined(row.saved[0.5], percent)]
            cells += [_maybe(row.brier), _maybe(row.calibration_error)]
            cells += [_p(row.p_random), _p(row.p_length)]
            lines.append(_piped(cells))
        for cascade in result.cascades:
            columns = cascade_columns(cascade)
            shown = [[" ".join(filter(None, cell)) for cell in column.cells] for column in columns]
            lines += ["", cascade_title(cascade), "", _piped([column.name for column in columns])]
            lines.append(_piped(["---:"] * len(columns)))
            lines += [_piped(row) for row in zip(*shown, strict=True)]
        lines += ["", *(f"{remark}  " for remark in remarks(report, result, points))]
        blocks.append("\n".join(lines).rstrip())
    return "\n\n".join(blocks) + "\n"


def cost_columns(result: BenchmarkResult) -> list[Column]:
    """APGR and CPT."""
    rows = result.rows
    columns = [Column("APGR", [cell(row.apgr, three_digits) for row in rows])]
    columns += [
        Column(f"CPT({target:.0%})", [cell(row.cpt[target], percent) for row in rows])
        for target in CPT_TARGETS
    ]
    return columns


def compared_columns(report: Report, result: BenchmarkResult) -> list[Column]:
    """APGR and CPT, and where resampled the p-values against the baselines."""
    return cost_columns(result) + _p_columns(report, result)


def _p_columns(report: Report, result: BenchmarkResult) -> list[Column]:
    if not report.resamples:
        return []
    return [
        Column("p(random)", [(_p(row.p_random), "") for row in result.rows]),
        Column("p(length)", [(_p(row.p_length), "") for row in result.rows]),
    ]


def other_columns(report: Report, result: BenchmarkResult) -> list[Column]:
    """Savings, the area, and calibration where a router has any."""
    rows = result.rows
    columns = [
        Column(f"saved({target:.0%})", [cell(row.saved[target], percent) for row in rows])
        for target in SAVED_SHOWN
    ]
    if report.axis == "cost":
        columns += [
            Column(f"bill({target:.0%})", [cell(row.bill_saved[target], percent) for row in rows])
            for target in SAVED_SHOWN
        ]
    columns.append(Column("AUC", [cell(row.auc, four_digits) for row in rows]))
    if any(row.brier is not None for row in rows):
        columns.append(Column("Brier", [(_maybe(row.brier), "") for row in rows]))
        columns.append(Column("ECE", [(_maybe(row.calibration_error), "") for row in rows]))
    return columns


def point_columns(result: BenchmarkResult, row: RouterResult) -> list[Column]:
    """Thresholds of a router; the one that reaches the goal is marked by a star."""
    b, points = result.benchmark, row.thresholds
    gap = b.strong_quality - b.weak_quality
    above = [p.quality - (b.weak_quality + p.share * gap) for p in points]
    columns = [
        Column(
            "strong calls",
            [(f"{'* ' if p.reaches_goal else ''}{percent(p.share)}", "") for p in points],
        ),
        Column("threshold", [(repr(p.threshold), "") for p in points]),
        Column(b.unit, [(four_digits(p.quality), "") for p in points]),
        Column("above random", [(f"{value:+.2f}", "") for value in above]),
        Column("PGR", [(f"{p.pgr:.3f}", "") for p in points]),
    ]
    costs = [p.cost for p in points if p.cost is not None]
    if costs:
        cells = [(f"{1000.0 * cost:.4g}", "") for cost in costs]
        columns.append(Column("dollars per 1,000", cells))
    return columns


def point_note(result: BenchmarkResult) -> str:
    """The note under a table of thresholds."""
    return (
        f"* the cheapest that reaches {goal_of(result.benchmark).text}. Chosen on these prompts; "
        "fastroute calibrate checks a threshold on others."
    )


def explanations(report: Report) -> dict[str, str]:
    """The terms of the tables, each with what it means."""
    calls = "strong calls" if report.axis == "calls" else "extra dollars"
    found = {
        "APGR": "average performance gap recovered, the part of the quality gap between the two "
        f"models that a router closes, averaged over all shares of {calls}. Random routing has "
        "0.5; higher is better.",
        "CPT(x)": f"call-performance threshold, the smallest share of {calls} that closes x of "
        "the gap. Lower is better.",
        "saved(x)": f"share of {calls} saved against random routing that closes x of the gap.",
        "PGR": "performance gap recovered at one threshold.",
    }
    if report.axis == "cost":
        found["bill(x)"] = "share saved of the dollars of sending everything to the strong model."
    if any(row.brier is not None for result in report.results for row in result.rows):
        found["Brier, ECE"] = (
            "squared and expected calibration error of win rates as probabilities that the strong "
            "model is better. Lower is better."
        )
    if report.resamples:
        found["[ ], p"] = (
            f"{report.confidence:.0%} bootstrap intervals over prompts, and paired p-values of "
            "the same APGR as the baseline. They do not cover the choice of training data."
        )
    return found


def cascade_columns(cascade: CascadeResult) -> list[Column]:
    """Bands of a cascade from no prompt to all, and its own."""
    rows = [(percent(p.share_sent_on), p) for p in cascade.points]
    rows.append((f"its own, {percent(cascade.own.share_sent_on)}", cascade.own))
    points = [point for _, point in rows]
    return [
        Column("sent on", [(name, "") for name, _ in rows]),
        Column("APGR", [cell(p.apgr, three_digits) for p in points]),
        Column("mean ms", [(f"{p.mean_ms:.3g}", "") for p in points]),
        Column("of slow's", [(percent(p.mean_ms / cascade.slow_ms), "") for p in points]),
    ]


def cascade_title(cascade: CascadeResult) -> str:
    """The members of a cascade, and the source of their latencies."""
    source = f"timed on {cascade.timed_prompts:,} prompts" if cascade.timed_prompts else "as given"
    return (
        f"{cascade.name}: {cascade.fast} (fast, {cascade.fast_ms:.3g} ms per call), then "
        f"{cascade.slow} (slow, {cascade.slow_ms:.3g} ms), single calls {source}"
    )


def cascade_verdict(cascade: CascadeResult) -> str:
    """Whether its own band is as good as the better member at less than half the latency."""
    ends = _ends(cascade.difference, "{:+.3f}".format)
    ends = f" [{ends}]" if ends else ""
    kept = (
        f" Its budget of {cascade.latency_budget_ms:g} ms kept "
        f"{percent(cascade.share_kept_for_budget)} of the prompts at {cascade.fast}."
        if cascade.latency_budget_ms is not None
        else ""
    )
    better = cascade.slow if cascade.better == "slow" else cascade.fast
    if cascade.better == "fast":
        kept += " The slow member is worse here: use the fast one alone."
    return (
        f"{cascade.name}: APGR {cascade.difference.value:+.4f}{ends} against its better member, "
        f"the {cascade.better} one ({better}), at {cascade.latency_ratio:.0%} of the slow one's "
        f"mean latency: it is {'as good' if cascade.holds else 'NOT as good'} (within "
        f"{CASCADE_TOLERANCE}) at less than {CASCADE_LATENCY:.0%} of the latency.{kept}"
    )


def title(report: Report, result: BenchmarkResult) -> str:
    """The benchmark and the settings in one line."""
    b = result.benchmark
    plural = "s" if report.resamples != 1 else ""
    intervals = (
        f"{report.confidence:.0%} intervals from {report.resamples:,} resample{plural}"
        if report.resamples
        else "no intervals"
    )
    return (
        f"{b.name}: {len(b):,} prompts, {b.pair.weak} {four_digits(b.weak_quality)} to "
        f"{b.pair.strong} {four_digits(b.strong_quality)} ({b.unit}), {report.protocol}, "
        f"method {report.method}, {intervals}"
    )


def remarks(report: Report, result: BenchmarkResult, points: Sequence[Point] = ()) -> list[str]:
    """Notes under the tables: routers compared, published values, prompts left out."""
    lines = cautions(len(result.benchmark), report.resamples)
    for c in result.comparisons:
        ends = _ends(c.difference, "{:+.3f}".format)
        ends = f" [{ends}]" if ends else ""
        difference = f"APGR {c.difference.value:+.3f}{ends}"
        p_value = "undefined" if c.p_value is None else _p(c.p_value)
        lines.append(f"{c.first} - {c.second}: {difference}, paired p = {p_value}")
    lines += [cascade_verdict(cascade) for cascade in result.cascades]
    if result.dropped:
        lines.append(f"{result.dropped:,} training prompts of a router are left out.")
    if result.benchmark.name in ROUTELLM_APGR:
        published = ", ".join(
            f"{name} {value:.3f} ({trained})"
            for name, trained, value in ROUTELLM_APGR[result.benchmark.name]
        )
        lines.append(f"RouteLLM's paper, APGR by its own method: {published}.")
    for point in points if result.benchmark.name == "mt-bench" else ():
        source = "recomputed" if point.recomputed else "published"
        lines.append(
            f"{point.label}: {point.quality:.4f} at {100 * point.share:.5g}% strong calls, "
            f"{source} ({point.note})."
        )
    return [*lines, *report.notes]


def three_digits(value: float) -> str:
    """For APGR."""
    return f"{value:.3f}"


def percent(value: float) -> str:
    """For shares."""
    return f"{100 * value + 0.0:.1f}%".replace("-0.0%", "0.0%")


def four_digits(value: float) -> str:
    """For a quality in the benchmark's unit."""
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def cell(value: Estimate, show: Show) -> tuple[str, str]:
    """A cell of an estimate: the value and its interval; nothing where it is undefined."""
    if math.isnan(value.value):
        return "", ""
    ends = _ends(value, lambda end: show(end).removesuffix("%"))
    return show(value.value), f"[{ends}]" if ends else ""


def _joined(value: Estimate, show: Show) -> str:
    ends = _ends(value, lambda end: show(end).removesuffix("%"))
    return f"{show(value.value)} [{ends}]" if ends else show(value.value)


def _ends(value: Estimate, show: Show) -> str:
    # Random routing's APGR is always 0.5: an interval without width is not shown.
    if value.low is None or value.high is None or show(value.low) == show(value.high):
        return ""
    return f"{show(value.low)}, {show(value.high)}"


def _maybe(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _p(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if value >= 0.0095 else f"{value:.1g}"


def _piped(cells: Sequence[str]) -> str:
    # A label may contain what ends a cell in Markdown.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def aligned(columns: Sequence[Column]) -> list[str]:
    """The lines of a table; intervals are under their values."""
    lines = [[column.name for column in columns]]
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines.append([value for value, _ in cells])
        if any(ends for _, ends in cells):
            lines.append([ends for _, ends in cells])
    return aligned_lines(lines)


def aligned_lines(lines: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as text: the first column to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def wrapped(lines: Sequence[str]) -> str:
    """Paragraphs of at most 100 characters a line."""
    return "\n".join(
        textwrap.fill(line, _WIDTH, break_on_hyphens=False, break_long_words=False)
        for line in lines
    )


def _timing_lines(result: BenchmarkResult) -> list[str]:
    lines = []
    for row in result.rows:
        t = row.timings
        if not t.prompts and not t.cached:
            continue
        part = t.embed_s / t.total_s if t.total_s else math.nan
        lines.append(
            f"{row.name}: {t.prompts:,} prompts scored, {t.cached:,} from the cache or repeated; "
            f"embedding {t.embed_s:.3f} s ({part:.1%} of {t.total_s:.3f} s), win rates "
            f"{t.score_s:.3f} s, training check {t.check_s:.3f} s, metrics {t.metrics_s:.3f} s"
        )
    lines.append(f"intervals of all routers: {result.resample_s:.3f} s")
    return lines
