"""``fastroute evaluate --models``: choices among many models, on graded prompts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fastroute.cli.options import check_reports, text
from fastroute.errors import InvalidInputError


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    group = parser.add_argument_group("many models (P(success) of each, quality against dollars)")
    group.add_argument(
        "--models", type=text, nargs="+", metavar="FILE",
        help="files or folders with scores of many models, instead of --benchmark, a report each; "
        "RouterBench, LLMRouterBench and RouterArena are read as published",
    )  # fmt: skip
    group.add_argument(
        "--candidates", type=text, metavar="FILE.toml",
        help="the models' prices: a [[candidates]] table for each",
    )  # fmt: skip
    group.add_argument(
        "--embedder", type=text, metavar="E",
        help="static:FOLDER or onnx:FOLDER (default: the bundled one)",
    )  # fmt: skip
    group.add_argument(
        "--leave-one-dataset-out", action="store_true",
        help="hold out a dataset at a time instead of --folds",
    )  # fmt: skip


def run_models(options: argparse.Namespace) -> int:
    """Print the report, and write the figures that are asked for."""
    from fastroute.candidates import read_candidates
    from fastroute.data import read_training_data
    from fastroute.data.grade_table import GradeTable
    from fastroute.evaluation.many_models.report import plot, to_text
    from fastroute.evaluation.many_models.run import evaluate_models, to_dict
    from fastroute.training.embedder_choice import open_choice

    if options.benchmark or options.answers or options.router or options.html:
        raise InvalidInputError("--models goes without --benchmark, --answers, --router and --html")
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
