"""``fastroute journal judge``: verdicts on answers and their shadows, within a day's dollars."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastroute.cli.augment.asking import add_judge, add_requests, run_judge, say_missing, spent
from fastroute.cli.journal.options import add_span, add_url, opened, span
from fastroute.cli.options import add_option
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from fastroute.learning.judging import Models
    from fastroute.training.label.answers import AnsweredPrompt
    from fastroute.training.label.chat_model import ChatModel
    from fastroute.training.label.journal import Journal


def configure(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "Prompts and answers must have been kept ([journal] prompts and answers) and shadows asked "
        "([shadow]). A pair is judged once by each judge. Suits a timer, with --yes."
    )
    add_url(parser)
    add_span(parser)
    add_option(parser, "--by", choices=("model", "evidence", "key"), default="model",
        help="evidence compares the answers' values instead of asking --judge-model: equal ones "
        "are a tie, and others have no verdict; key grades both by the answers of --key",
    )  # fmt: skip
    add_option(parser, "--key FILE",
        help="prompt (or request's id) and answer, as for augment golden; with --by key",
    )  # fmt: skip
    add_option(parser, "--daily-usd USD", type=float,
        help="judge no more pairs than this allows in a day (UTC); needs --judge-price",
    )  # fmt: skip
    add_judge(
        parser, "{prompt}, {first} and {second}", tokens=512, required=False,
        journal="JOURNAL.judge, beside a journal in SQLite",
    )  # fmt: skip
    add_requests(parser)


def run(options: argparse.Namespace) -> int:
    """Judge, and keep the verdicts."""
    from fastroute.learning.judging import EVIDENCE, by_evidence, by_key, unjudged_pairs
    from fastroute.training.label.golden import read_key

    name = options.judge_model if options.by == "model" else options.by
    if name is None:
        raise InvalidInputError("give --judge-model, or --by evidence or key")
    if (options.key is None) == (options.by == "key"):
        raise InvalidInputError("--by key and --key FILE go together")
    key = {} if options.key is None else read_key(options.key)
    if options.daily_usd is not None and options.judge_price is None:
        raise InvalidInputError("--daily-usd needs --judge-price")
    since, until = span(options)
    status = 0
    with opened(options.url) as engine:
        if options.by == "model":
            options.journal = options.journal or _journal_file(engine)
        with engine.connect() as connection:
            pairs = unjudged_pairs(connection, name, since, until)
        if not pairs:
            print(f"nothing to judge: every pair has a verdict of {name}, or no pair was kept")
        for models, rows in pairs.items():
            if options.by == "key":
                judged = list(by_key(models, rows, key))
                _keep(engine, models, judged)
                if len(judged) < len(rows):
                    say(f"left out {len(rows) - len(judged):,} pairs that are not in the key")
            elif name == EVIDENCE:
                _keep(engine, models, by_evidence(models, rows))
            else:
                status = max(status, _ask(options, engine, models, rows))
    return status


def _ask(
    options: argparse.Namespace, engine: Engine, models: Models, rows: Sequence[AnsweredPrompt]
) -> int:
    """Have a model judge; the exit status."""
    from fastroute.learning.judging import CappedJudge, spent_today
    from fastroute.training.label.verdicts import PROMPT

    most_usd = options.daily_usd
    if most_usd is not None:
        with engine.connect() as connection:
            most_usd = max(0.0, most_usd - spent_today(connection))
    judges: list[CappedJudge] = []

    def make(judge: ChatModel, journal: Journal, template: str) -> CappedJudge:
        judges.append(CappedJudge(judge, *models, journal=journal, template=template))
        judges[0].most_usd = most_usd
        return judges[0]

    report, model = run_judge(options, PROMPT, make, rows)
    _keep(engine, models, judges[0].judgements())
    print(f"verdicts of {model.name}: {spent(report.judged, model)}")
    return say_missing([report.judged])


def _keep(engine: Engine, models: tuple[str, str], rows: Iterable[dict[str, Any]]) -> None:
    from fastroute.journal.database import insert_new, writing
    from fastroute.journal.schema import JUDGEMENTS

    judged = list(rows)
    with writing(engine) as connection:
        insert_new(connection, JUDGEMENTS, judged)
    winners = [row["winner"] for row in judged]
    counts = ", ".join(
        f"{winners.count(name):,} {said}"
        for name, said in ((models[0], models[0]), (models[1], models[1]), ("tie", "ties"))
    )
    print(f"{len(judged):,} pairs judged: {counts}, {winners.count(None):,} without a verdict")


def _journal_file(engine: Engine) -> str:
    """Where the judge's answers are kept as they come; nothing is paid twice."""
    if engine.dialect.name != "sqlite":
        raise InvalidInputError("give --journal FILE, where the judge's answers are kept")
    return f"{engine.url.database}.judge"
