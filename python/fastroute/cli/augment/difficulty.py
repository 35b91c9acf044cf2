"""``fastroute augment difficulty``: how hard prompts are, from a model that compares them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.augment.asking import (
    add_judge,
    add_requests,
    facts_of,
    print_report,
    run_judge,
    say_missing,
    spent,
)
from fastroute.cli.options import add_flag, add_option
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.label.chat_model import ChatModel
    from fastroute.training.label.difficulty import DifficultyReport
    from fastroute.training.label.journal import Journal

_LEAST_RELIABILITY = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--data FILE", required=True,
        help="prompts: a .txt file of one a line, or .jsonl, .csv (also .gz) or .parquet with a "
        "column prompt; no answers are needed")  # fmt: skip
    add_option(parser, "--output FILE.jsonl", required=True,
        help="prompt, difficulty (Elo, mean 1000), standard_error and judgements")  # fmt: skip
    add_option(parser, "--rounds N", type=int, default=6,
        help="how many others each prompt is compared with, in two questions each (default: 6)",
    )  # fmt: skip
    add_option(parser, "--sample N", "judge N of the prompts, drawn at random", int)
    add_option(parser, "--longest N", type=int, default=8000,
        help="most characters of a prompt that the judge sees; of a longer one it sees the "
        "beginning and the end (default: 8000)")  # fmt: skip
    add_option(parser, "--seed N", "seed of the sample and the pairs", int, default=0)
    add_judge(parser, "{first} and {second}", tokens=256)
    add_requests(parser)
    add_flag(parser, "--json", "print the report as JSON")


def run(options: argparse.Namespace) -> int:
    """Show the cost, ask for consent, judge, write the ratings and print how it went."""
    from fastroute.data.jsonl import check_not_read, write_rows
    from fastroute.training.label.difficulty import PROMPT, DifficultyJudge

    check_not_read(
        options.output, data=options.data, judge_prompt=options.judge_prompt,
        journal=options.journal,
    )  # fmt: skip
    prompts = _prompts(options)

    def make(judge: ChatModel, journal: Journal, template: str) -> DifficultyJudge:
        return DifficultyJudge(
            judge, journal=journal, rounds=options.rounds, seed=options.seed, template=template,
            longest=options.longest,
        )  # fmt: skip

    report, judge = run_judge(options, PROMPT, make, prompts)
    write_rows(options.output, report.rows(Path(options.data).name.split(".")[0]))
    facts = _facts(report, judge)
    if options.json:
        print(json.dumps(facts, indent=2))
        return say_missing([report.judged])
    return _print(report, judge, facts, options.output)


def _prompts(options: argparse.Namespace) -> list[str]:
    from numpy.random import default_rng

    from fastroute.evaluation.benchmarks.traffic import load_prompts

    prompts = list(dict.fromkeys(load_prompts(options.data)))
    if options.seed < 0:
        raise InvalidInputError(f"--seed must be 0 or more, got {options.seed}")
    if options.sample is None or options.sample >= len(prompts):
        return prompts
    if options.sample < 2:
        raise InvalidInputError(f"--sample must be at least 2, got {options.sample}")
    drawn = sorted(default_rng(options.seed).permutation(len(prompts))[: options.sample].tolist())
    return [prompts[i] for i in drawn]


def _facts(report: DifficultyReport, judge: ChatModel) -> dict[str, Any]:
    import numpy as np

    from fastroute.training.measures import rank_correlation

    judged = report.ratings.judgements > 0
    lengths = np.array([len(prompt) for prompt in report.prompts], dtype=np.float64)
    errors = report.ratings.standard_error[judged]
    return {
        "prompts": int(judged.sum()),
        "pairs": len(report.outcomes),
        "rounds": report.rounds,
        "repeated": report.repeated,
        "shortened": report.shortened,
        "agreed": report.agreed,
        "disagreed": report.disagreed,
        "first_twice": report.first_twice,
        "unparseable": report.unparseable,
        "standard_error": float(errors.mean()) if len(errors) else None,
        "reliability": report.ratings.reliability,
        "length_rank_correlation": (
            rank_correlation(report.ratings.difficulty[judged], lengths[judged])
        ),
        "judge": facts_of(report.judged, judge),
    }


def _print(report: DifficultyReport, judge: ChatModel, facts: dict[str, Any], output: str) -> int:
    print(f"verdicts of {judge.name}: {spent(report.judged, judge)}")
    print(
        f"wrote {facts['prompts']:,} prompts to {output}, rated by {facts['pairs']:,} pairs in "
        f"{report.rounds} complete rounds"
    )
    if facts["prompts"]:
        print(
            f"standard error {facts['standard_error']:.0f} on average (400 is odds of 10 to 1); "
            f"reliability {facts['reliability']:.2f}; rank correlation with the prompt's length "
            f"{facts['length_rank_correlation']:.2f}"
        )
    status = print_report(
        report, [report.judged], "prompt",
        (
            (report.repeated, "prompts were given again and are left out"),
            (report.shortened, "prompts were shown without their middle (--longest)"),
        ),
    )  # fmt: skip
    if facts["prompts"] and facts["reliability"] < _LEAST_RELIABILITY:
        say(
            f"warning: the reliability, {facts['reliability']:.2f}, is below "
            f"{_LEAST_RELIABILITY}: more than half of the ratings' differences may be chance; "
            "raise --rounds (what is in the journal is not asked again), or use a better judge"
        )
    print(f"next: fastroute train mf --data {output} --output my-router")
    return status
