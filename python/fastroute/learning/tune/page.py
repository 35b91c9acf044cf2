"""The report of a tuning: one HTML page that loads nothing from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fastroute.errors import MissingDependencyError
from fastroute.evaluation.benchmarks.published import Point
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.report import plots
from fastroute.evaluation.report.panels import drawn_reliability
from fastroute.evaluation.results import Report
from fastroute.evaluation.run import evaluate
from fastroute.learning.many_models import page as models_page
from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.many_models.words import account_of
from fastroute.learning.tune.prompt_list import SHOWN, prompts_section
from fastroute.learning.tune.result import TuneResult
from fastroute.learning.tune.words import Account
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter

_RESAMPLES = 200


def to_html(found: TuneResult | ModelsResult) -> str | None:
    """The page, or None without matplotlib, which draws its figures."""
    try:
        plots.load_matplotlib()
    except MissingDependencyError:
        return None
    if isinstance(found, ModelsResult):
        figures, prompts = models_page.figures(found), models_page.choices(found)
    else:
        figures, prompts = "".join(_figures(found)), "".join(_prompts(found))
    return _page(account_of(found), figures, prompts)


def _page(said: Account, figures: str, prompts: str) -> str:
    """The page of any tuning; ``figures`` and ``prompts`` are HTML."""
    return _file("page.html").format(
        style=_file("page.css"),
        colours=plots.css_colours(),
        kind=said.verdict,
        headline=html.escape(said.headline),
        reasons=_list(said.reasons),
        advice=_section("What would change this", said.advice),
        measured_on=html.escape(said.measured_on),
        table=_table(said.table),
        figures=figures,
        prompts=prompts,
        details=_section("Details", said.details),
        understood=_section("What was read", said.understood),
    )


def _list(lines: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in lines)}</ul>"


def _section(title: str, lines: Sequence[str]) -> str:
    return f"<h2>{title}</h2>{_list(lines)}" if lines else ""


def _table(cells: Sequence[Sequence[str]]) -> str:
    """A table, whose first row has the heads."""
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in cells[0])
    body = []
    for name, *row in cells[1:]:
        columns = "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        body.append(f"<tr><th>{html.escape(name)}</th>{columns}</tr>")
    return f"<table><tr>{head}</tr>{''.join(body)}</table>"


def _figures(found: TuneResult) -> Iterator[str]:
    """Curve with the operating point, and calibration, where the strong model is the better one."""
    report = _evaluated(found)
    if report is None:
        yield "<p>There are no curves: the strong model is not better on the test prompts.</p>"
        return
    result = report.results[0]
    rows = found.test
    share = float(found.escalated.mean())
    kept = np.where(found.escalated, rows.strong, found.cheap).mean() / rows.strong.mean()
    kind = "operating point" if found.certified else "best estimate"
    point = Point(kind, share, 100.0 * float(kept), recomputed=True, note="")
    figures = [
        (
            plots.curve_svg(report, result, (point,)),
            (
                f"Quality by share of strong calls; the mark is the {kind}. The higher a line is "
                "above random, the better. Oracle is the most that could be had, by a router that "
                "knows the grades. Shaded: 95% intervals."
            ),
        )
    ]
    if drawn_reliability(result):
        caption = (
            "Calibration: how often the strong model was better, by predicted win rate, with two "
            "standard errors. On the dashed line predictions are right on average; a threshold "
            "works wherever the line rises."
        )
        figures.append((plots.reliability_svg(result), caption))
    for svg, caption in figures:
        yield f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _evaluated(found: TuneResult) -> Report | None:
    rows = found.test
    if not rows.strong.mean() > rows.weak.mean():
        return None
    benchmark = Benchmark(
        "test prompts", rows.prompts, rows.weak, rows.strong, found.pair, rows.where,
        scale=100.0 / float(rows.strong.mean()), unit=f"quality, % of {found.pair.strong}'s",
    )  # fmt: skip
    routers = {"tuned": found.router, "default": MatrixFactorizationRouter.load_default()}
    if "default" not in found.baselines:
        del routers["default"]
    return evaluate(routers, [benchmark], resamples=_RESAMPLES)


def _prompts(found: TuneResult) -> Iterator[str]:
    """The test prompts on which the choice cost the most, and those on which it paid the most."""
    gain = found.test.strong - found.cheap
    strong = found.escalated
    # What the choice brought, next to the other model.
    paid = np.where(strong, gain, -gain)
    surprise = np.where(strong, found.win_rates, 1.0 - found.win_rates)
    order = np.lexsort((-surprise, paid))
    for title, said, chosen in (
        ("Worst choices", "The other model's answer was better.", order[paid[order] < 0.0]),
        ("Best choices", "The other model's answer was worse.", order[paid[order] > 0.0][::-1]),
    ):
        items = []
        for i in chosen[:SHOWN].tolist():
            other = "cheap answer" if found.cascade else found.pair.weak
            facts = (
                f"{_choice(found, i)} Grades (0 to 1): {found.pair.strong} "
                f"{found.test.strong[i]:.2f}, {other} {found.cheap[i]:.2f}. "
                f"{found.test.where[i].capitalize()}."
            )
            items.append((found.test.prompts[i], facts))
        yield prompts_section(title, said, items, len(chosen), len(found.test))


def _choice(found: TuneResult, i: int) -> str:
    """Which model's answer is sent to test prompt i, and why."""
    rate, strong = float(found.win_rates[i]), bool(found.escalated[i])
    if found.cascade is not None:
        model = found.pair.strong if strong else "a cheap model"
        return f"Answer of {model}, at P(accept) {1.0 - rate:.3f}."
    model = found.pair.strong if strong else found.pair.weak
    side = "at least" if strong else "below"
    return f"To {model}, as win rate {rate:.3f} is {side} {found.threshold:.3f}."


def _file(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
