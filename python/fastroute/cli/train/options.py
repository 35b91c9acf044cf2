"""What the kinds of training share: data in, progress, and what to run next."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute._files import os_errors_as
from fastroute.cli.options import add_flag, add_option, text, values_of
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.data import GradedResult, TrainingData
    from fastroute.routers.base import Router

DATA_HELP = (
    "battles, graded results or labels 1 to 5: .jsonl, .csv or .parquet, each perhaps .gz, Chatbot "
    "Arena's CSV too, or a folder of such files; may be given several times"
)
_SHARES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)


def add_data(
    parser: argparse.ArgumentParser,
    *,
    required: bool = True,
    conflicts: str = "remove",
    english: bool = False,
    what: str = DATA_HELP,
) -> None:
    """Add ``--data``, what is removed from it, and where the report goes.

    ``conflicts`` and ``english`` are defaults, ``what`` is the help of ``--data``.
    """
    add_option(parser, "--data FILE ...", what, action="extend", required=required)
    add_option(parser, "--exclude-evaluation PATH", action="append", default=[],
        help="leave out prompts of this evaluation set: a file of prompts, or a checkout of "
        "RouteLLM; may be given several times")  # fmt: skip
    add_option(parser, "--turns", choices=("first", "last", "all"), default="first",
        help="which of a conversation's turns is the prompt (default: first)")  # fmt: skip
    add_option(parser, "--conflicts", choices=("remove", "average"), default=conflicts,
        help="how to treat conflicting labels of the same prompt and models "
        f"(default: {conflicts})")  # fmt: skip
    parser.add_argument(
        "--english", action=argparse.BooleanOptionalAction, default=english,
        help="leave out prompts with more than 5 %% Chinese characters, and AGIEval's Chinese "
        f"datasets (default: {'--english' if english else '--no-english'})",
    )  # fmt: skip
    add_flag(parser, "--skip-bad", "leave malformed rows out instead of stopping")
    add_option(parser, "--data-report FILE.json", "write what was removed, and why")


def add_embedder(parser: argparse.ArgumentParser) -> None:
    """Add ``--embedder``."""
    add_option(parser, "--embedder E", default="default",
        help="default (the bundled one), static:FOLDER or onnx:FOLDER; a folder is copied to "
        "OUTPUT/embedder-HASH")  # fmt: skip


def add_pair(parser: argparse.ArgumentParser) -> None:
    """Add ``--strong`` and ``--weak``, also under the names that ``serve`` has."""
    for name, which in (("strong", "the strongest"), ("weak", "the one in the middle")):
        parser.add_argument(
            f"--{name}", f"--{name}-model", dest=f"{name}_model", type=text, metavar="NAME",
            help=f"the pair's {name} model (default: {which})",
        )  # fmt: skip


def add_output(parser: argparse.ArgumentParser, what: str = "where the router goes") -> None:
    """Add ``--output`` and ``--overwrite``."""
    add_option(parser, "--output FOLDER", what, required=True)
    add_flag(parser, "--overwrite", "replace what is in the output folder")


def check_output(options: argparse.Namespace) -> None:
    """Check ``--output`` before data is read. Raises as ``training.outcome.check_output``."""
    from fastroute.training.outcome import check_output as check

    check(
        options.output,
        overwrite=options.overwrite,
        resume=getattr(options, "resume", False),
    )


def add_pairs(parser: argparse.ArgumentParser) -> None:
    """Add ``--strong`` and ``--weak``, several of each."""
    for name in ("strong", "weak"):
        parser.add_argument(
            f"--{name}", f"--{name}-model", dest=f"{name}_model", type=text, action="extend",
            nargs="+", default=[], metavar="NAME",
            help=f"the {name} models in the data (default: the one that is named {name!r})",
        )  # fmt: skip


def read_files(
    options: argparse.Namespace, files: list[str], *, difficulty: bool = False
) -> TrainingData:
    """The data of ``files``, cleaned as the options of ``add_data`` say."""
    from fastroute.data import read_training_data
    from fastroute.training.exclusion import read_evaluation_prompts

    excluded = options.exclude_evaluation
    return read_training_data(
        files,
        exclude=read_evaluation_prompts(excluded) if excluded else None,
        difficulty=difficulty,
        **values_of(options, "turns", "conflicts", "skip_bad", "english"),
    )


def read_data(
    options: argparse.Namespace, *, aside: bool = False, difficulty: bool = False
) -> TrainingData:
    """The data of ``--data``, cleaned, with labels of ``difficulty`` or not; says what was removed.

    On standard output, or with ``aside`` on standard error, where the output is a document.
    """
    data = read_files(options, options.data, difficulty=difficulty)
    for line in data.report.lines():
        if aside:
            say(line)
        else:
            print(line, flush=True)
    if options.data_report:
        content = json.dumps(data.report.as_json(), indent=2, ensure_ascii=False) + "\n"
        with os_errors_as(
            InvalidInputError, f"--data-report {options.data_report} can't be written"
        ):
            Path(options.data_report).write_text(content, "utf-8")
    return data


def read_compared(options: argparse.Namespace) -> list[GradedResult]:
    """The graded results of ``--data``, for kinds that compare the models of each dataset.

    Says on standard error what was removed. Raises InvalidInputError where there is none, or a
    dataset has scores of one model only, between which nothing is compared.
    """
    data = read_data(options, aside=True)
    if not data.graded:
        raise InvalidInputError("--data has battles only; scores of models are needed here")
    if data.battles:
        say(f"{len(data.battles):,} battles can't be used here and are left out")
    check_compared(data.graded)
    return list(data.graded)


def check_compared(rows: Sequence[GradedResult]) -> None:
    """Raise InvalidInputError for a dataset with scores of one model, and name it."""
    models: dict[str, set[str]] = {}
    for row in rows:
        models.setdefault(row.group, set()).update(row.scores)
    for row in rows:
        if len(models[row.group]) < 2:
            raise InvalidInputError(
                f"{row.file}, {row.where}: its dataset {row.dataset!r} has scores of 1 model, "
                "where at least 2 are compared"
            )


def say_next(name: str, folder: str, router: Router) -> None:
    """The thresholds for some shares of strong calls, and what to run next."""
    from fastroute.policy import threshold_for_strong_share

    known = router.provenance
    if known.calibration is not None:
        print("\nthreshold for a share of strong calls, on held-out prompts")
        for share in _SHARES:
            print(f"  {share:>4.0%}  {threshold_for_strong_share(known.calibration, share):.5f}")
    point = known.operating_point
    if point is not None and point.strong_share is not None:
        print(f"default: {point.threshold:.5f}, for {point.strong_share:.0%} strong calls")
    specification = f"{name},checkpoint_path={folder}"
    print("\nnext")
    print(f"  fastroute evaluate --router {specification} --benchmark GRADED.jsonl")
    print(f"  fastroute calibrate --router {specification} --strong-share 0.3 --prompts YOURS.txt")
