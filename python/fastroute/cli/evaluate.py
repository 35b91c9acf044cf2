"""``fastroute evaluate``: routers on benchmarks, as tables, JSON, figures and a page."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from typing import TYPE_CHECKING

from fastroute.cli.evaluate_answers import add_answer_options, run_answers
from fastroute.cli.evaluate_models import add_model_options, run_models
from fastroute.cli.options import (
    DATA_HELP,
    NAMED_BENCHMARKS,
    PAIR_METAVAR,
    ROUTER_HELP,
    add_flag,
    add_intervals,
    add_leniency,
    add_option,
    check_reports,
    common_settings,
    load_benchmarks,
    open_cache,
    values_of,
)
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.evaluation.run import Trainer
    from fastroute.routers.base import Router


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--benchmark B ...", default=[], action="extend",
        help=f"{NAMED_BENCHMARKS}, or a .jsonl, .csv or .parquet file with prompt, weak, strong "
        "and optionally cost_weak, cost_strong, id")  # fmt: skip
    add_option(parser, "--data FOLDER", DATA_HELP)
    add_option(parser, "--router R ...", action="extend",
        help=f"{ROUTER_HELP}; may be given several times (default: mf)")  # fmt: skip
    parser.add_argument(
        "--pair", nargs=2, action="append", metavar=PAIR_METAVAR,
        help="two models of a file with scores of many; may be given several times",
    )  # fmt: skip
    add_option(parser, "--weak MODEL",
        help="with --strong, one pair; with --answers, the model whose answer is checked",
    )  # fmt: skip
    add_option(parser, "--strong MODEL",
        help="with --weak, one pair; with --answers, the model asked where answers differ",
    )  # fmt: skip
    add_option(parser, "--protocol P", type=str, default="zero-shot",
        help="zero-shot (default), gold (the hashed 10.7%% of MMLU is not scored) or in-domain "
        "(k-fold)")  # fmt: skip
    add_option(parser, "--folds K", "of in-domain", int, default=5)
    add_option(parser, "--method M", type=str, default="exact",
        help="exact (default), or routellm: thresholds at deciles, as in published numbers",
    )  # fmt: skip
    add_option(parser, "--axis A", type=str, default="calls",
        help="calls (default), or cost: dollars, from cost_weak and cost_strong")  # fmt: skip
    add_intervals(parser)
    add_leniency(parser)
    add_flag(parser, "--timings", "print where the time was spent; does not use the cache")
    add_option(parser, "--latency-ms FAST SLOW", type=float,
        help="of a cascade: milliseconds per call of each member; measured if not given",
    )  # fmt: skip
    add_option(parser, "--latency-prompts N", type=int, default=200,
        help="of a cascade: prompts to measure latencies on (default: 200)")  # fmt: skip
    add_answer_options(parser)
    add_model_options(parser)
    output = parser.add_mutually_exclusive_group()
    add_flag(output, "--json", "print JSON instead of tables")
    add_flag(output, "--markdown", "print Markdown tables")
    add_option(parser, "--html FILE", "write a self-contained report")
    add_option(parser, "--plot FILE", "write a figure: .png, .svg or .pdf", action="append")


def run(options: argparse.Namespace) -> int:
    """Print the report, and write it to the files of ``--html`` and ``--plot``."""
    if options.models:
        return run_models(options)
    if options.candidates or options.embedder or options.leave_one_dataset_out:
        raise InvalidInputError(
            "--candidates, --embedder and --leave-one-dataset-out need --models"
        )
    if options.answers:
        return run_answers(options)
    if not options.benchmark:
        raise InvalidInputError(
            "give --benchmark, or --answers with --weak and --strong, or --models"
        )
    if options.helper or options.price:
        raise InvalidInputError("--helper and --price need --answers")
    from fastroute.evaluation.benchmarks.published import mt_bench_points
    from fastroute.evaluation.report.page import write_html
    from fastroute.evaluation.report.plots import save_figure
    from fastroute.evaluation.report.report import to_dict
    from fastroute.evaluation.report.tables import to_markdown, to_text
    from fastroute.evaluation.run import evaluate

    figures = list(options.plot or ())
    check_reports(figures, options.html)
    benchmarks = load_benchmarks(
        options.benchmark, data=options.data, pairs=_pairs(options), skip_bad=options.skip_bad
    )
    routers, trainers = _routers(options)
    with open_cache(options.no_cache or options.timings) as cache:
        report = evaluate(
            routers,
            benchmarks,
            trainers=trainers,
            fold_count=options.folds,
            cache=cache,
            latency_ms=None if options.latency_ms is None else tuple(options.latency_ms),
            **values_of(options, "protocol", "method", "axis", "latency_prompts"),
            **common_settings(options),
        )
    points = mt_bench_points(options.data) if "mt-bench" in options.benchmark else ()
    if options.json:
        print(json.dumps(to_dict(report, points=points), indent=2, allow_nan=False))
    elif options.markdown:
        print(to_markdown(report, points=points), end="")
    else:
        print(to_text(report, points=points, timings=options.timings), end="")
    if options.html:
        command = shlex.join(["fastroute", *sys.argv[1:]])
        write_html(report, options.html, points=points, command=command)
    for file in figures:
        save_figure(report, file, points=points)
    return 0


def _pairs(options: argparse.Namespace) -> list[list[str]]:
    """The pairs of ``--pair``, and the one of ``--strong`` and ``--weak``."""
    pairs: list[list[str]] = list(options.pair or [])
    if (options.strong is None) != (options.weak is None):
        raise InvalidInputError("give both --strong and --weak, or neither")
    if options.strong is not None:
        pairs.append([f"strong={options.strong}", f"weak={options.weak}"])
    return pairs


def _routers(options: argparse.Namespace) -> tuple[dict[str, Router], dict[str, Trainer] | None]:
    """Routers by label and, for the in-domain protocol, how to train those that can be."""
    from fastroute.routers.registry import find_spec
    from fastroute.routers.spec import load_name
    from fastroute.routers.specification import parse_router

    in_domain = options.protocol == "in-domain"
    routers: dict[str, Router] = {}
    trainers: dict[str, Trainer] = {}
    for specification in options.router or ["mf"]:
        choice = parse_router(specification)
        if choice.label in routers:
            raise InvalidInputError(
                f"--router: two routers are labelled {choice.label!r}; give one a label: "
                f"{choice.name},...,label=other"
            )
        spec = find_spec(choice.name)
        if spec.batch_option is not None:  # the same win rates for any number of threads
            choice.config.setdefault(spec.batch_option, os.cpu_count() or 1)
        if in_domain and spec.trainer is not None:
            train = load_name(spec.trainer)
            routers[choice.label], trainers[choice.label] = train(choice.config, options.seed)
        else:
            routers[choice.label] = choice.make()
    return routers, trainers if in_domain else None
