"""``fastroute tune``: from an export of graded traffic to a router with a guarantee."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.artifacts import MANIFEST
from fastroute.cli.options import add_flag, add_option, check_new, price, text, values_of
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.learning import Export, Goal, ModelsResult, Price, TuneResult

#: The exit status where the router should not be used.
DO_NOT_USE = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Exit status: 0 use the router, 3 do not use it (no router is written), 2 the input can't "
        "be used."
    )
    parser.add_argument(
        "export", type=text, nargs="+", metavar="EXPORT",
        help="prompts with grades of models: .csv, .jsonl or .parquet, each perhaps .gz; or a "
        "database's URL, such as sqlite:///traffic.db?table=graded",
    )  # fmt: skip
    add_option(parser, "--query SELECT", "rows of the database, instead of a table")
    for side in ("weak", "strong"):
        add_option(parser, f"--{side} NAME",
            help=f"column of the {side} model's grades, or its name in the rows (default: by the "
            "mean grade, where there are two)")  # fmt: skip
        add_option(parser, f"--{side}-model NAME",
            help="its name at its provider (default: its name in the export)")  # fmt: skip
    add_option(parser, "--helper NAME", action="append", default=[],
        help="another cheap model with answers in the export, for a cascade; may be given several "
        "times")  # fmt: skip
    add_option(parser, "--models NAME ...", default=[],
        help="choose among these instead of a pair (default: all, where there are more than two)",
    )  # fmt: skip
    add_option(parser, "--model-names NAME=MODEL ...", default=[],
        help="names at their providers of --models or --helper (default: as in the export)",
    )  # fmt: skip
    add_goal(parser)
    add_option(parser, "--price NAME=IN/OUT ...", action="extend", default=[],
        help="dollars per million tokens in and out, by the model's name in the export",
    )  # fmt: skip
    add_option(parser, "--requests-per-month N", "for dollars a month", int)
    add_option(parser, "--grades LOW-HIGH",
        help="scale of the grades, such as 1-5 (default: told from the data)")  # fmt: skip
    add_option(parser, "--prompt-column NAME", "default: told from the names")
    add_option(parser, "--time-column NAME", "default: told from the names")
    add_option(parser, "--output-tokens N", type=int, default=300,
        help="length of an answer where the export has neither tokens nor answers (default: 300)",
    )  # fmt: skip
    add_option(parser, "--output FOLDER", "where the router goes")
    add_flag(parser, "--overwrite", "replace what is in the folder")
    add_flag(parser, "--keep", "write the router even if it should not be used")
    add_flag(parser, "--skip-bad", "leave malformed rows out instead of stopping")
    add_flag(parser, "--dry-run", "say what was understood of the export, and stop")
    add_option(parser, "--suggest N", type=int,
        help="write the N prompts to grade next to --output, a .jsonl file, and stop")  # fmt: skip
    add_option(parser, "--seed N", "of the splits", int, default=0)
    add_flag(parser, "--json", "print the result as JSON")


def add_goal(parser: argparse.ArgumentParser) -> None:
    """Add the options of a promise."""
    goal = parser.add_mutually_exclusive_group()
    add_option(goal, "--target-quality Q", type=float,
        help="promise this part of the strong model's quality (default: 0.95)")  # fmt: skip
    add_option(goal, "--target-share P", type=float,
        help="promise at most this share of strong calls, 0 to 1")  # fmt: skip
    add_option(goal, "--target-spend USD", type=float,
        help="promise at most so many dollars per 1,000 requests")  # fmt: skip
    add_option(parser, "--confidence C", "of the promise (default: 0.95)", float, default=0.95)


def goal_of(options: argparse.Namespace) -> Goal:
    """The goal that options of ``add_goal`` ask for."""
    from fastroute.learning import Goal

    if options.target_share is not None:
        return Goal("share", options.target_share, options.confidence)
    if options.target_spend is not None:
        return Goal("spend", options.target_spend, options.confidence)
    quality = 0.95 if options.target_quality is None else options.target_quality
    return Goal("quality", quality, options.confidence)


def run(options: argparse.Namespace) -> int:
    """Tune, save, and print the verdict."""
    from fastroute.learning import Price, save_result, tune_models, tune_router
    from fastroute.learning.many_models.words import account_of
    from fastroute.learning.tune.words import lines
    from fastroute.training.outcome import check_output

    if options.suggest is not None:
        return _suggest(options)
    prices = {name: Price(*dollars) for name, dollars in map(price, options.price)}
    goal = goal_of(options)
    names = _names(options.model_names)
    if options.output is None and not options.dry_run:
        raise InvalidInputError("give --output FOLDER, or --dry-run to see what is understood")
    if options.output is not None:
        check_output(options.output, overwrite=options.overwrite)
    export = _read(options, prices)
    if options.dry_run:
        if options.json:
            print(json.dumps({"understood": list(export.understood)}, indent=2))
        else:
            print("\n".join(export.understood))
        return 0
    for line in export.understood:
        say(line)
    found: TuneResult | ModelsResult
    if export.is_pair:
        found = tune_router(
            export, goal, strong_model=options.strong_model, weak_model=options.weak_model,
            names=names, prices=prices, requests_per_month=options.requests_per_month,
            seed=options.seed, progress=True,
        )  # fmt: skip
    else:
        found = tune_models(
            export, goal, names=names, prices=prices, seed=options.seed, progress=True,
            requests_per_month=options.requests_per_month,
        )  # fmt: skip
    output = str(options.output)
    found = save_result(found, output, keep=options.keep)
    if options.json:
        print(json.dumps(found.to_dict(), indent=2, allow_nan=False))
    else:
        print("\n".join(lines(account_of(found))))
        print(f"\nwrote {output}: {_written(output, found.folder is not None)}")
    return 0 if found.verdict == "use" else DO_NOT_USE


def _suggest(options: argparse.Namespace) -> int:
    """Write the rows of the export to grade next, as they stand in it."""
    from fastroute.data.jsonl import check_not_read, write_rows
    from fastroute.learning import suggest_prompts
    from fastroute.learning.tune.sources import read_sources

    if options.output is None or not options.output.endswith(".jsonl"):
        raise InvalidInputError("--suggest needs --output FILE.jsonl")
    for source in options.export:
        check_not_read(options.output, export=source)
    check_new(options.output, overwrite=options.overwrite)
    export = _read(options, {}, need_grades=False)
    chosen = suggest_prompts(export, options.suggest, progress=True)
    rows = {where: row for _, where, row in read_sources(options.export, options.query)}
    picked = [rows[export.where[i]] for i in chosen]
    # Parquet and databases have dates, which JSON has not.
    write_rows(options.output, [json.loads(json.dumps(row, default=str)) for row in picked])
    print(f"wrote {options.output}: {len(picked):,} prompts to grade, the most informative first")
    return 0


def _written(folder: str, with_router: bool) -> str:
    if not with_router:
        old = Path(folder, MANIFEST).exists()
        return "result.json and report.html, but no router (--keep writes it anyway)" + (
            "; the router that was there is unchanged" if old else ""
        )
    serve = f"fastroute serve --config {Path(folder, 'gateway.toml')}"
    return f"the router, report.html and gateway.toml; next: {serve}"


def _names(given: list[str]) -> dict[str, str]:
    pairs = [word.partition("=") for word in given]
    for name, equals, model in pairs:
        if not (name and equals and model):
            raise InvalidInputError(f"--model-names: {name!r} must be NAME=MODEL")
    return {name: model for name, _, model in pairs}


def _read(
    options: argparse.Namespace, prices: dict[str, Price], *, need_grades: bool = True
) -> Export:
    from fastroute.learning import read_export

    named = values_of(
        options, "weak", "strong", "models", "query", "grades", "prompt_column", "time_column",
        "output_tokens", "skip_bad",
    )  # fmt: skip
    return read_export(
        options.export, helpers=options.helper, prices=prices, need_grades=need_grades, **named
    )
