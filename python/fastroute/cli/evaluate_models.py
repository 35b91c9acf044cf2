"""``fastroute evaluate --models``: choices among many models, on graded prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fastroute.cli.options import add_flag, add_option, check_reports
from fastroute.errors import InvalidInputError


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    group = parser.add_argument_group("many models (P(success) of each, quality against dollars)")
    add_option(group, "--models FILE ...",
        help="files or folders with scores of many models, instead of --benchmark, a report each; "
        "RouterBench, LLMRouterBench and RouterArena are read as published")  # fmt: skip
    add_option(group, "--candidates FILE.toml",
        help="the models' prices: a [[candidates]] table for each")  # fmt: skip
    add_option(group, "--embedder E", "static:FOLDER or onnx:FOLDER (default: the bundled one)")
    add_flag(group, "--leave-one-dataset-out", "hold out a dataset at a time instead of --folds")


def run_models(options: argparse.Namespace) -> int:
    """Print the report, and write the figures that are asked for."""
    from fastroute.candidates import read_candidates
    from fastroute.data import read_training_data
    from fastroute.data.grade_table import GradeTable
    from fastroute.evaluation.many_models.report import plot, to_text
    from fastroute.evaluation.many_models.run import evaluate_models, to_dict
    from fastroute.training.embedder_choice import open_choice

    if options.benchmark or options.answers or options.router or options.html:
        raise InvalidInputError("--models excludes --benchmark, --answers, --router and --html")
    check_reports(options.plot or ())
    candidates = read_candidates(options.candidates) if options.candidates else ()
    embedder, _ = open_choice(options.embedder or "default")
    reports = []
    for file in options.models:
        data = read_training_data([file], conflicts="average", skip_bad=options.skip_bad)
        reports.append(
            evaluate_models(
                GradeTable.of(data.graded), candidates, embedder, name=Path(file).name,
                protocol="leave-one-dataset-out" if options.leave_one_dataset_out else "k-fold",
                folds=options.folds, resamples=options.resamples, seed=options.seed,
            )
        )  # fmt: skip
    if options.json:
        print(json.dumps([to_dict(report) for report in reports], indent=2, allow_nan=False))
    else:
        print("\n".join(map(to_text, reports)), end="")
    for file in options.plot or ():
        plot(reports, file)
    return 0
