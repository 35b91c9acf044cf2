"""``fastroute augment judge``: battles from a language model that judges pairs of answers."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import text
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.label.asking import Asked
    from fastroute.training.label.chat_model import ChatModel, Estimate
    from fastroute.training.label.judge import JudgeReport

_PRICES = ("IN", "OUT")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--data", type=text, required=True, metavar="FILE",
        help=".jsonl, .csv (also .gz) or .parquet: prompt, and answers as an object `answers`, as "
        "columns MODEL_response, as model_a, response_a, model_b, response_b, or one a row as "
        "model, response; optionally dataset, id",
    )  # fmt: skip
    parser.add_argument("--model-a", type=text, required=True, metavar="MODEL", help="one model")
    parser.add_argument("--model-b", type=text, required=True, metavar="MODEL", help="the other")
    parser.add_argument("--output", type=text, required=True, metavar="FILE.jsonl", help="battles")
    parser.add_argument(
        "--journal", type=text, metavar="FILE",
        help="file that stores each answer as it arrives; run the same command again to request "
        "only the missing ones (default: OUTPUT.journal)",
    )  # fmt: skip
    _add_model(parser, "judge", "the judge", tokens=512)
    parser.add_argument("--judge-model", type=text, required=True, metavar="MODEL")
    parser.add_argument(
        "--judge-prompt", type=text, metavar="FILE",
        help="another prompt for the judge, with {prompt}, {first} and {second}; it must ask for "
        "a last line [[A]], [[B]] or [[C]] (a tie)",
    )  # fmt: skip
    _add_model(parser, "answer", "the two models, where answers are missing", tokens=1024)
    parser.add_argument(
        "--concurrency", type=int, default=8, metavar="N", help="requests at a time (default: 8)"
    )
    parser.add_argument(
        "--retries", type=int, default=5, metavar="N",
        help="attempts after the first: no connection, 408, 409, 429, 5xx (default: 5)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, default=300.0, metavar="S", help="seconds an answer may take"
    )
    parser.add_argument("--yes", action="store_true", help="start without asking for consent")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def _add_model(parser: argparse.ArgumentParser, role: str, what: str, *, tokens: int) -> None:
    group = parser.add_argument_group(f"{role}: {what}")
    group.add_argument(
        f"--{role}-base-url", type=text, metavar="URL",
        help="OpenAI-compatible API, such as http://localhost:8000/v1"
        + (" (default: OpenAI's)" if role == "judge" else "; without it no answer is generated"),
    )  # fmt: skip
    group.add_argument(
        f"--{role}-key-variable", type=text, metavar="NAME",
        help="environment variable that holds the API key (default: OPENAI_API_KEY, but only "
        "for OpenAI's own host)",
    )  # fmt: skip
    for name in ("judge",) if role == "judge" else ("model-a", "model-b"):
        group.add_argument(
            f"--{name}-price", type=float, nargs=2, metavar=_PRICES,
            help="dollars per million tokens of input and of output",
        )  # fmt: skip
    group.add_argument(
        f"--{role}-max-tokens", type=int, default=tokens, metavar="N",
        help=f"most tokens of an answer (default: {tokens})",
    )  # fmt: skip
    group.add_argument(
        f"--{role}-options", type=text, metavar="JSON",
        help="further fields of each request; null leaves one out: "
        '\'{"max_tokens": null, "max_completion_tokens": 900}\'',
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Show the cost, ask for consent, judge, write the battles and print how it went."""
    from fastroute.data.jsonl import check_not_read, write_rows
    from fastroute.training.label.answers import read_answers
    from fastroute.training.label.journal import Journal
    from fastroute.training.label.judge import PairJudge
    from fastroute.training.label.verdicts import PROMPT

    check_not_read(
        options.output, data=options.data, judge_prompt=options.judge_prompt,
        journal=options.journal,
    )  # fmt: skip
    rows = read_answers(options.data)
    judge = _model(options, "judge", options.judge_model, options.judge_price)
    answerers = {}
    if options.answer_base_url is not None:
        answerers = {
            name: _model(options, "answer", name, price)
            for name, price in (
                (options.model_a, options.model_a_price),
                (options.model_b, options.model_b_price),
            )
        }
    template = PROMPT if options.judge_prompt is None else _read(options.judge_prompt)
    with Journal(options.journal or f"{options.output}.journal") as journal, ExitStack() as bars:
        if journal.damaged:
            say(f"journal: {journal.damaged} damaged lines were skipped and are requested again")
        pairs = PairJudge(
            judge,
            options.model_a,
            options.model_b,
            journal=journal,
            answerers=answerers,
            template=template,
        )
        _check_answers(pairs.models, [row.answers for row in rows], bool(answerers))
        _get_consent(pairs.estimates(rows), options.yes)
        report = pairs.run(
            rows,
            concurrency=options.concurrency,
            progress=lambda what, count: _bar(bars, what, count),
            on_drain=lambda n: say(
                f"stopping: waiting for {n} running requests, to store their answers; press "
                "Ctrl-C again to discard them"
            ),
        )
        write_rows(options.output, [battle.row() for battle in report.battles])
    if options.json:
        print(json.dumps(_facts(report, judge, answerers), indent=2))
    else:
        _print(report, judge, answerers, options.output)
    return 1 if report.missing else 0


def _model(
    options: argparse.Namespace, role: str, name: str, price: list[float] | None
) -> ChatModel:
    from fastroute.http.request import Endpoint
    from fastroute.training.label.chat_model import ChatModel

    def given(option: str) -> Any:
        return getattr(options, f"{role}_{option}")

    key = None
    if given("key_variable") is not None:
        key = os.environ.get(given("key_variable"))
        if not key:
            raise InvalidInputError(
                f"--{role}-key-variable: the environment has no {given('key_variable')!r}; set it "
                "to the API key"
            )
    further: Any = {}
    if given("options") is not None:
        try:
            further = json.loads(given("options"))
        except ValueError as error:
            raise InvalidInputError(f"--{role}-options is not JSON: {error}") from error
        if not isinstance(further, dict):
            raise InvalidInputError(f"--{role}-options must be a JSON object")
    return ChatModel(
        name,
        # An answer that broke off is needed all the same, so it is asked for again at once.
        Endpoint(
            given("base_url"),
            key,
            timeout_s=options.timeout,
            max_retries=options.retries,
            retry_cut_answers=True,
        ),
        max_tokens=given("max_tokens"),
        options=further,
        usd_per_mtok=None if price is None else (price[0], price[1]),
    )


def _read(file: str) -> str:
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"--judge-prompt {file} can't be read: {error}") from error


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


def _get_consent(estimates: list[Estimate], yes: bool) -> None:
    """Show what it will take. Raises InvalidInputError unless that is agreed to."""
    from fastroute.training.label.chat_model import dollars

    for one in estimates:
        say(str(one))
    costs = [one.most_usd for one in estimates if one.questions]
    if len(costs) > 1:
        known = [cost for cost in costs if cost is not None]
        unknown = "" if len(known) == len(costs) else ", and what has no price"
        say(f"in all at most about {dollars(sum(known))}{unknown}")
    if yes or not costs:
        return
    if not sys.stdin.isatty():
        raise InvalidInputError("nothing was requested; add --yes to accept the cost")
    print("Continue? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise InvalidInputError("nothing was requested, because the cost was not confirmed")


def _bar(bars: ExitStack, what: str, count: int) -> Callable[[], object]:
    from fastroute._progress import progress_bar

    bars.close()  # the one before is done
    shown = sys.stderr.isatty() and count > 0
    return bars.enter_context(progress_bar(count, what, unit="question", shown=shown))


def _spent(asked: Asked, model: ChatModel) -> str:
    from fastroute.training.label.chat_model import dollars

    usd = model.usd(asked.prompt_tokens, asked.completion_tokens)
    return (
        f"{asked.answered:,} answered now, {asked.kept:,} were in the journal, "
        f"{len(asked.failures):,} failed, {asked.unasked:,} not asked; "
        f"{asked.prompt_tokens:,} tokens in, {asked.completion_tokens:,} out"
        + ("" if usd is None else f", {dollars(usd)}")
    )


def _facts(
    report: JudgeReport, judge: ChatModel, answerers: dict[str, ChatModel]
) -> dict[str, Any]:
    def of(asked: Asked, model: ChatModel) -> dict[str, Any]:
        return {
            "answered": asked.answered,
            "in_journal": asked.kept,
            "failed": len(asked.failures),
            "unasked": asked.unasked,
            "cut": asked.cut,
            "prompt_tokens": asked.prompt_tokens,
            "completion_tokens": asked.completion_tokens,
            "uncounted": asked.uncounted,
            "usd": model.usd(asked.prompt_tokens, asked.completion_tokens),
        }

    return {
        "battles": len(report.battles),
        "winners": dict(report.winners),
        "agreed": report.agreed,
        "disagreed": report.disagreed,
        "first_twice": report.first_twice,
        "equal_answers": report.equal_answers,
        "unparseable": report.unparseable,
        "without_answers": report.without_answers,
        "judge": of(report.judged, judge),
        "answers": {name: of(asked, answerers[name]) for name, asked in report.generated.items()},
    }


def _print(
    report: JudgeReport, judge: ChatModel, answerers: dict[str, ChatModel], output: str
) -> None:
    for name, asked in report.generated.items():
        print(f"answers of {name}: {_spent(asked, answerers[name])}")
    print(f"verdicts of {judge.name}: {_spent(report.judged, judge)}")
    won = ", ".join(f"{count:,} {winner}" for winner, count in sorted(report.winners.items()))
    print(f"wrote {len(report.battles):,} battles to {output}" + (f": {won}" if won else ""))
    every = [report.judged, *report.generated.values()]
    judged = report.agreed + report.disagreed
    if judged:
        print(
            f"orders agreed on {report.agreed:,} of {judged:,} pairs; of the others, "
            f"{report.first_twice:,} times the answer shown first was preferred both times"
        )
    for count, what in (
        (report.equal_answers, "pairs of equal answers are ties, unasked"),
        (report.without_answers, "prompts lack an answer, and were not judged"),
        (report.unparseable, "verdicts can't be read; their pairs give no battle"),
        (
            sum(asked.cut for asked in every),
            "answers were truncated; raise --judge-max-tokens or --answer-max-tokens",
        ),
        (
            sum(asked.uncounted for asked in every),
            "answers have no usable token count; the sums above exclude them",
        ),
    ):
        if count:
            print(f"{count:,} {what}")
    for example in report.unparseable_examples:
        print(f"  not a verdict: ...{' '.join(example.split())[-120:]!r}")
    failures = [error for asked in every for error in asked.failures]
    for message in list(dict.fromkeys(" ".join(str(error).split()) for error in failures))[:3]:
        say(f"failed: {message}")
    if report.missing:
        say(
            f"{report.missing:,} questions have no answer; run the same command again to request "
            "only those"
        )
