"""The evaluation of many models as text and as a figure."""

from __future__ import annotations

import os
from collections.abc import Sequence

from fastroute.evaluation.many_models.frontier import hull
from fastroute.evaluation.many_models.run import MethodResult, ModelsReport
from fastroute.evaluation.report.plots import check_figure_file, load_matplotlib

_COLUMNS = (
    "method", "AIQ", "quality at the best model's cost", "against it (95 %)", "oracle gap closed",
    "cost at its quality", "ECE (noise)",
)  # fmt: skip


def to_text(report: ModelsReport) -> str:
    """The report as a Markdown table, under a line that says what it is of."""
    held_out = f"{report.folds} folds"
    if report.protocol != "k-fold":
        held_out = f"each of {report.folds} datasets"
    singles = len(report.single_usd)
    what = f"{report.name}: {report.prompts:,} prompts, {singles} models with 90 % graded"
    lines = [
        f"{what}; held out: {held_out}",
        _single(report, "best single model", report.best_single),
        _single(report, "cheapest model", report.cheapest),
        f"  random model: {_at(report.random_quality, report.random_usd)}",
        f"  mixtures of single models: AIQ {report.singles_aiq:.4f}",
        "",
        f"| {' | '.join(_COLUMNS)} |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(_row(report, m) for m in report.methods)]) + "\n"


def _single(report: ModelsReport, what: str, model: str) -> str:
    said = _at(report.single_quality[model], report.single_usd[model])
    return f"  {what}: {model}, {said}"


def _at(quality: float, usd: float) -> str:
    return f"quality {quality:.4f} at ${1000 * usd:.4f} per 1,000 requests"


def _row(report: ModelsReport, m: MethodResult) -> str:
    low_high = "" if m.gain.low is None else f" ({m.gain.low:+.4f} to {m.gain.high:+.4f})"
    cost = "not reached"
    if m.equal_usd is not None:
        cost = f"{m.equal_usd / (report.single_usd[report.best_single] or 1.0):.1%}"
    ece = "" if m.ece is None else f"{m.ece:.4f} ({m.ece_noise:.4f})"
    return (
        f"| {m.name} | {m.aiq:.4f} | {m.quality:.4f} | {m.gain.value:+.4f}{low_high} | "
        f"{m.oracle_gap:.1%} | {cost} | {ece} |"
    )


def plot(reports: Sequence[ModelsReport], path: str | os.PathLike[str]) -> None:
    """Write quality against dollars as .png, .svg or .pdf. Needs matplotlib.

    Raises InvalidInputError for another ending or a folder that does not exist.
    """
    check_figure_file(path)
    load_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * len(reports), 3.4), layout="constrained")
    for axes, report in zip(
        figure.subplots(1, len(reports), squeeze=False)[0], reports, strict=True
    ):
        axes.scatter(
            [1000 * usd for usd in report.single_usd.values()],
            list(report.single_quality.values()), s=8, color="0.6", label="single models",
        )  # fmt: skip
        for method in report.methods:
            usd, quality = hull(method.curve.usd, method.curve.quality)
            axes.plot(1000 * usd, quality, label=method.name, linewidth=1.2)
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xlabel("dollars per 1,000 requests")
        axes.set_ylabel("quality")
        axes.set_title(f"{report.name} ({report.prompts:,} prompts)")
        axes.legend(fontsize="small")
    figure.savefig(path, dpi=200)
