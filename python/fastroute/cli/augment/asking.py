"""What the kinds of ``augment`` that ask a language model share: options, consent, reports."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from fastroute.cli.options import add_flag, add_option, text
from fastroute.cli.streams import say
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.training.label.asking import Asked, Judging
    from fastroute.training.label.chat_model import ChatModel, Estimate
    from fastroute.training.label.journal import Journal
    from fastroute.training.label.verdicts import Tally

_Item = TypeVar("_Item")
_Report = TypeVar("_Report")
_PRICES = ("IN", "OUT")


def add_judge(
    parser: argparse.ArgumentParser,
    fields: str,
    *,
    tokens: int,
    required: bool = True,
    journal: str = "OUTPUT.journal",
) -> None:
    """Add ``--journal`` and the judge; ``fields`` are those of its prompt, in words."""
    add_option(parser, "--journal FILE",
        help="file that stores each answer as it arrives; run the same command again to request "
        f"only the missing ones (default: {journal})")  # fmt: skip
    add_model(
        parser, "judge", "the model that judges", tokens=tokens,
        further={
            "--judge-model": {"required": required, "metavar": "MODEL", "help": "its name"},
            "--judge-prompt": {
                "metavar": "FILE",
                "help": f"another prompt for the judge, with {fields}; it must ask for a last line "
                "[[A]], [[B]] or [[C]] (a tie)",
            },
        },
    )  # fmt: skip


def add_requests(parser: argparse.ArgumentParser) -> None:
    """Add how requests are sent, and ``--yes``."""
    add_option(parser, "--concurrency N", "requests at a time (default: 8)", int, default=8)
    add_option(parser, "--retries N", type=int, default=5,
        help="attempts after the first: no connection, 408, 409, 429, 5xx (default: 5)",
    )  # fmt: skip
    add_option(parser, "--timeout S", "seconds an answer may take", float, default=300.0)
    add_flag(parser, "--yes", "start without asking for consent")


def add_model(
    parser: argparse.ArgumentParser,
    role: str,
    what: str,
    *,
    tokens: int,
    further: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Add where the models of ``role`` are, their prices, what is sent to them, and ``further``
    texts, in a group."""
    group = parser.add_argument_group(f"{role}: {what}")
    add_option(group, f"--{role}-base-url URL",
        help="OpenAI-compatible API, such as http://localhost:8000/v1"
        + (" (default: OpenAI's)" if role == "judge" else "; without it no answer is generated"),
    )  # fmt: skip
    add_option(group, f"--{role}-key-variable NAME",
        help="environment variable that holds the API key (default: OPENAI_API_KEY, but only "
        "for OpenAI's own host)")  # fmt: skip
    for name in ("judge",) if role == "judge" else ("model-a", "model-b"):
        group.add_argument(
            f"--{name}-price", type=float, nargs=2, metavar=_PRICES,
            help="dollars per million tokens of input and of output",
        )  # fmt: skip
    add_option(group, f"--{role}-max-tokens N", type=int, default=tokens,
        help=f"most tokens of an answer (default: {tokens})")  # fmt: skip
    add_option(group, f"--{role}-options JSON",
        help="further fields of each request; null leaves one out: "
        '\'{"max_tokens": null, "max_completion_tokens": 900}\'')  # fmt: skip
    for name, settings in further.items():
        group.add_argument(name, type=text, **settings)


def chat_model(
    options: argparse.Namespace, role: str, name: str, price: list[float] | None
) -> ChatModel:
    """The model ``name`` with the options of ``role``. Raises InvalidInputError for bad ones."""
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


def _template(file: str | None, default: str) -> str:
    """The text of ``--judge-prompt``, or the default."""
    if file is None:
        return default
    try:
        return Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"--judge-prompt {file} can't be read: {error}") from error


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


def run_judge(
    options: argparse.Namespace,
    prompt: str,
    make: Callable[[ChatModel, Journal, str], Judging[_Item, _Report]],
    items: Sequence[_Item],
) -> tuple[_Report, ChatModel]:
    """The report of the judge that ``make`` gives on ``items``, after consent to the cost, and
    the model that judged. ``make`` has the template, by default ``prompt``, as its last argument.
    """
    from fastroute.training.label.journal import Journal

    model = chat_model(options, "judge", options.judge_model, options.judge_price)
    template = _template(options.judge_prompt, prompt)
    with Journal(options.journal or f"{options.output}.journal") as journal, ExitStack() as bars:
        if journal.damaged:
            say(f"journal: {journal.damaged} damaged lines were skipped and are requested again")
        judge = make(model, journal, template)
        _get_consent(judge.estimates(items), options.yes)
        report = judge.run(
            items, concurrency=options.concurrency, on_drain=_say_draining,
            progress=lambda what, count: _bar(bars, what, count),
        )  # fmt: skip
    return report, model


def _say_draining(running: int) -> None:
    """Say after Ctrl-C what is waited for."""
    say(
        f"stopping: waiting for {running} running requests, to store their answers; press Ctrl-C "
        "again to discard them"
    )


def _bar(bars: ExitStack, what: str, count: int) -> Callable[[], object]:
    from fastroute._progress import progress_bar

    bars.close()  # the one before is done
    shown = sys.stderr.isatty() and count > 0
    return bars.enter_context(progress_bar(count, what, unit="question", shown=shown))


def spent(asked: Asked, model: ChatModel) -> str:
    """How asking ``model`` went and what it cost, in words."""
    from fastroute.training.label.chat_model import dollars

    usd = model.usd(asked.prompt_tokens, asked.completion_tokens)
    return (
        f"{asked.answered:,} answered now, {asked.kept:,} were in the journal, "
        f"{len(asked.failures):,} failed, {asked.unasked:,} not asked; "
        f"{asked.prompt_tokens:,} tokens in, {asked.completion_tokens:,} out"
        + ("" if usd is None else f", {dollars(usd)}")
    )


def facts_of(asked: Asked, model: ChatModel) -> dict[str, Any]:
    """How asking ``model`` went, as plain JSON."""
    return {
        "answered": asked.answered,
        "in_journal": asked.kept,
        "failed": len(asked.failures),
        "unasked": asked.unasked,
        "truncated": asked.truncated,
        "prompt_tokens": asked.prompt_tokens,
        "completion_tokens": asked.completion_tokens,
        "uncounted": asked.uncounted,
        "usd": model.usd(asked.prompt_tokens, asked.completion_tokens),
    }


def print_report(
    tally: Tally, asked: Sequence[Asked], what: str, counts: Sequence[tuple[int, str]] = ()
) -> int:
    """Print how the orders agreed, ``counts`` above 0, and what went wrong; the exit status.

    ``what`` was judged; it is the subject of "shown first was preferred".
    """
    judged = tally.agreed + tally.disagreed
    if judged:
        print(
            f"orders agreed on {tally.agreed:,} of {judged:,} pairs; of the others, "
            f"{tally.first_twice:,} times the {what} shown first was preferred both times"
        )
    for count, said in (
        *counts,
        (tally.unparseable, "verdicts can't be read; their pairs are left out"),
        (sum(one.truncated for one in asked), "answers were truncated; raise the most tokens"),
        (
            sum(one.uncounted for one in asked),
            "answers have no usable token count; the sums above exclude them",
        ),
    ):
        if count:
            print(f"{count:,} {said}")
    for example in tally.unparseable_examples:
        print(f"  not a verdict: ...{' '.join(example.split())[-120:]!r}")
    return say_missing(asked)


def say_missing(asked: Sequence[Asked]) -> int:
    """Say on standard error what failed; the exit status: 1 if an answer is missing."""
    failures = [error for one in asked for error in one.failures]
    for message in list(dict.fromkeys(" ".join(str(error).split()) for error in failures))[:3]:
        say(f"failed: {message}")
    missing = sum(one.missing for one in asked)
    if missing:
        say(
            f"{missing:,} questions have no answer; run the same command again to request only "
            "those"
        )
    return 1 if missing else 0
