"""``fastroute augment judge``: battles from a language model that judges pairs of answers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastroute.cli.augment.asking import (
    add_judge,
    add_model,
    add_requests,
    chat_model,
    facts_of,
    print_report,
    run_judge,
    say_missing,
    spent,
)
from fastroute.cli.options import add_flag, add_option
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.label.answers import AnsweredPrompt
    from fastroute.training.label.chat_model import ChatModel
    from fastroute.training.label.journal import Journal
    from fastroute.training.label.judge import JudgeReport


def configure(parser: argparse.ArgumentParser) -> None:
    add_option(parser, "--data FILE", required=True,
        help=".jsonl, .csv (also .gz) or .parquet: prompt, and answers as an object `answers`, as "
        "columns MODEL_response, as model_a, response_a, model_b, response_b, or one a row as "
        "model, response; optionally dataset, id")  # fmt: skip
    add_option(parser, "--model-a MODEL", "one model", required=True)
    add_option(parser, "--model-b MODEL", "the other", required=True)
    add_option(parser, "--output FILE.jsonl", "battles", required=True)
    add_judge(parser, "{prompt}, {first} and {second}", tokens=512)
    add_model(parser, "answer", "the two models, where answers are missing", tokens=1024)
    add_requests(parser)
    add_flag(parser, "--json", "print the report as JSON")


def run(options: argparse.Namespace) -> int:
    """Show the cost, ask for consent, judge, write the battles and print how it went."""
    from fastroute.data.jsonl import check_not_read, write_rows
    from fastroute.training.label.answers import read_answers

    check_not_read(
        options.output, data=options.data, judge_prompt=options.judge_prompt,
        journal=options.journal,
    )  # fmt: skip
    rows = read_answers(options.data)
    answerers = {}
    if options.answer_base_url is not None:
        answerers = {
            name: chat_model(options, "answer", name, price)
            for name, price in (
                (options.model_a, options.model_a_price),
                (options.model_b, options.model_b_price),
            )
        }
    models = options.model_a, options.model_b
    _check_answers(models, [row.answers for row in rows], bool(answerers))
    report, judge = judge_rows(options, models, rows, answerers)
    write_rows(options.output, [battle.row() for battle in report.battles])
    if options.json:
        print(json.dumps(_facts(report, judge, answerers), indent=2))
        return say_missing([report.judged, *report.generated.values()])
    return print_judged(report, judge, answerers, options.output)


def judge_rows(
    options: argparse.Namespace,
    models: tuple[str, str],
    rows: Sequence[AnsweredPrompt],
    answerers: Mapping[str, ChatModel],
) -> tuple[JudgeReport, ChatModel]:
    """The judge, and what it made of ``rows``, after consent to the cost."""
    from fastroute.training.label.judge import PairJudge
    from fastroute.training.label.verdicts import PROMPT

    def make(judge: ChatModel, journal: Journal, template: str) -> PairJudge:
        return PairJudge(judge, *models, journal=journal, answerers=answerers, template=template)

    return run_judge(options, PROMPT, make, rows)


def _check_answers(models: tuple[str, str], answers: list[dict[str, str]], generate: bool) -> None:
    """Say so if a model's name fits nothing in the file: a slip, and not for the judge to find."""
    for option, model in zip(("--model-a", "--model-b"), models, strict=True):
        if not generate and not any(model in row for row in answers):
            there = sorted({name for row in answers for name in row})
            raise InvalidInputError(
                f"{option} {model!r} has no answer in --data, which has "
                f"{'those of ' + ', '.join(there) if there else 'none at all'}; give one of "
                "these, or --answer-base-url to have answers generated"
            )


def _facts(
    report: JudgeReport, judge: ChatModel, answerers: Mapping[str, ChatModel]
) -> dict[str, Any]:
    return {
        "battles": len(report.battles),
        "winners": dict(report.winners),
        "agreed": report.agreed,
        "disagreed": report.disagreed,
        "first_twice": report.first_twice,
        "equal_answers": report.equal_answers,
        "unparseable": report.unparseable,
        "without_answers": report.without_answers,
        "judge": facts_of(report.judged, judge),
        "answers": {
            name: facts_of(asked, answerers[name]) for name, asked in report.generated.items()
        },
    }


def print_judged(
    report: JudgeReport, judge: ChatModel, answerers: Mapping[str, ChatModel], output: str
) -> int:
    """Print how it went and what it cost; the exit status: 1 if an answer is missing."""
    for name, asked in report.generated.items():
        print(f"answers of {name}: {spent(asked, answerers[name])}")
    print(f"verdicts of {judge.name}: {spent(report.judged, judge)}")
    won = ", ".join(f"{count:,} {winner}" for winner, count in sorted(report.winners.items()))
    print(f"wrote {len(report.battles):,} battles to {output}" + (f": {won}" if won else ""))
    counts = (
        (report.equal_answers, "pairs of equal answers are ties, unasked"),
        (report.without_answers, "prompts lack an answer, and were not judged"),
    )
    return print_report(report, [report.judged, *report.generated.values()], "answer", counts)
