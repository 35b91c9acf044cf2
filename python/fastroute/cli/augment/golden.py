"""``fastroute augment golden``: graded results from an answer key."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from fastroute.cli.options import add_flag, add_option
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--data FILE", required=True,
        help=".jsonl, .csv (also .gz) or .parquet: prompt (or question), and models' responses as "
        "an object `answers`, as columns MODEL_response, or one a row as model, response; "
        "optionally dataset, id")  # fmt: skip
    add_option(parser, "--key FILE", required=True,
        help="prompt (or question, or id) and answer: a letter, a number, a solution that ends "
        "with #### 42, or a position in `choices` from 0")  # fmt: skip
    add_option(parser, "--output FILE.jsonl", "results", required=True)
    add_option(parser, "--kind", choices=("auto", "choice", "number"), default="auto",
        help="of the key's answers (default: auto, row by row)")  # fmt: skip
    add_flag(parser, "--json", "print the report as JSON")


def run(options: argparse.Namespace) -> int:
    """Grade, write the results and print how many responses had no answer in them."""
    from fastroute.data.jsonl import check_not_read, write_rows
    from fastroute.training.label.answers import read_answers
    from fastroute.training.label.golden import grade, read_key

    check_not_read(options.output, data=options.data, key=options.key)
    report = grade(read_answers(options.data), read_key(options.key, options.kind))
    if not report.rows:
        raise InvalidInputError(
            f"no prompt of --data {options.data} is in --key {options.key} and answered: "
            f"{report.without_key:,} are not in the key, {report.without_answers:,} have no answer"
        )
    write_rows(options.output, report.rows)
    models = dict(sorted(report.models.items()))
    if options.json:
        facts = {
            "prompts": len(report.rows),
            "without_key": report.without_key,
            "without_answers": report.without_answers,
            "models": {name: asdict(grades) for name, grades in models.items()},
        }
        print(json.dumps(facts, indent=2, ensure_ascii=False))
        return 0
    print(f"wrote {len(report.rows):,} graded prompts to {options.output}")
    for name, grades in models.items():
        total = grades.right + grades.wrong + grades.unextractable
        print(
            f"{name}: {grades.right / total:.1%} right, {grades.wrong / total:.1%} wrong, "
            f"{grades.unextractable / total:.1%} ({grades.unextractable:,}) without a "
            "recognizable answer, which count as wrong"
        )
        for example in grades.examples:
            print(f"  no answer found: ...{' '.join(example.split())!r}")
    if report.without_key:
        say(f"left out {report.without_key:,} prompts that are not in the key")
    if report.without_answers:
        say(f"left out {report.without_answers:,} prompts without answers")
    return 0
