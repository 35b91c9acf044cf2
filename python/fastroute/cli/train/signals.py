"""``fastroute train signals``: which cheap signals are worth their cost beside the embedding."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute._files import os_errors_as
from fastroute.cli.options import add_flag, add_option
from fastroute.cli.train.options import DATA_HELP, add_data, read_compared
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.signals.benefit_cost import Step
    from fastroute.training.signals.selection import SignalReport


def configure(parser: argparse.ArgumentParser) -> None:
    add_data(parser, english=True, what=f"{DATA_HELP}; graded results are needed")
    add_option(parser, "--embedder FOLDER",
        help="a static embedder with a length (default: the bundled one)")  # fmt: skip
    add_option(parser, "--exponent E", type=float, default=0.5,
        help="of the cost in benefit / cost ** E: 0 for the benefit alone, 1 for the plain ratio "
        "(default: 0.5)")  # fmt: skip
    add_option(parser, "--most-ratio R", type=float, default=10.0,
        help="costs are rescaled until the greatest is at most R times the least (default: 10)",
    )  # fmt: skip
    add_option(parser, "--least-cost US", type=float,
        help="microseconds that any signal counts as costing (default: 1/100 of the embedder)",
    )  # fmt: skip
    add_option(parser, "--seed N", "of the decoys", int, default=0)
    add_option(parser, "--output FILE", "write the report there, too")
    add_flag(parser, "--json", "print JSON instead of Markdown")


def run(options: argparse.Namespace) -> int:
    """Measure, choose and print the report."""
    from fastroute._progress import progress_bar
    from fastroute.embedders.static import StaticEmbedder
    from fastroute.training.signals.selection import select_signals

    embedder = (
        StaticEmbedder.load_default()
        if options.embedder is None
        else StaticEmbedder.load(options.embedder)
    )
    rows = read_compared(options)
    with progress_bar(0, "measure", unit="set") as bar:
        report = select_signals(
            rows,
            embedder,
            least_cost_us=options.least_cost,
            most_ratio=options.most_ratio,
            exponent=options.exponent,
            seed=options.seed,
            progress=bar,
        )
    lines = (
        [json.dumps(asdict(report) | {"kept": report.kept}, indent=2)]
        if options.json
        else _markdown(report, len(rows))
    )
    print("\n".join(lines))
    if options.output:
        with os_errors_as(InvalidInputError, f"--output {options.output} can't be written"):
            Path(options.output).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 0


def _markdown(report: SignalReport, prompts: int) -> list[str]:
    embedder_us = report.costs_us["embedder"]
    lines = [
        f"{prompts:,} prompts; APGR, held out by dataset, of the embedding: {report.base:.4f}.",
        "",
        "| signal | us a prompt | share of the embedder | cost as it counts |",
        "|---|---|---|---|",
        f"| (embedder) | {embedder_us:.2f} | | |",
    ]
    for name, counted in report.rescaled_costs.items():
        cost = report.costs_us[name]
        lines.append(f"| {name} | {cost:.2f} | {cost / embedder_us:.1%} | {counted:.2f} |")
    lines += ["", *_steps(report.steps)]
    reached = " -> ".join(f"{value:.4f}" for value in report.apgr)
    lines.append(f"Kept: {', '.join(report.kept) or 'none'} ({reached}).")
    lines += ["", f"| kept | {' | '.join(report.apgr_by_file[0])} | mean |"]
    lines.append("|---" * (len(report.apgr_by_file[0]) + 2) + "|")
    for count, (by_file, mean) in enumerate(zip(report.apgr_by_file, report.apgr, strict=True)):
        weights = ("fixed" if fixed else "learnt" for fixed in report.fixed[:count])
        named = zip(report.kept[:count], weights, strict=True)
        names = ", ".join(f"{name} ({how})" for name, how in named) or "the embedding alone"
        cells = " | ".join(f"{value:.4f}" for value in (*by_file.values(), mean))
        lines.append(f"| {names} | {cells} |")
    plain = [step.taken for step in report.plain_steps if step.taken is not None]
    lines.append("")
    lines.append(
        "The plain ratio, without floor, rescaling, exponent and noise: "
        f"{', '.join(plain) or 'none'}."
    )
    return lines


def _steps(steps: tuple[Step, ...]) -> list[str]:
    from fastroute.training.signals.selection import DECOYS

    lines = [
        "| step | signal | gain in APGR | gain / cost ** exponent | |",
        "|---|---|---|---|---|",
    ]
    for number, step in enumerate(steps, start=1):
        for one in step.candidates:
            verdict = "taken" if one.name == step.taken else ""
            lines.append(
                f"| {number} | {one.name} | {one.benefit:+.4f} | {one.ratio:+.4f} | {verdict} |"
            )
        lines.append(f"| {number} | (best of {DECOYS} of noise) | {step.least_benefit:+.4f} | | |")
    return [*lines, ""]
