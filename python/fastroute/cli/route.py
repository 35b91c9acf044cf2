"""``fastroute route``: prompts in, decisions out; nothing is sent to a model."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from fastroute.cli.decision_table import Table, beginning, line_width, percent
from fastroute.cli.options import add_flag, add_option, add_router, number
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.routers.base import Router
    from fastroute.types import Decision


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "prompts",
        nargs="+",
        metavar="PROMPT",
        help="a prompt to route; - reads prompts from standard input, a line each",
    )
    add_router(parser)
    threshold = parser.add_mutually_exclusive_group()
    add_option(threshold, "--threshold T", type=str,
        help="win rate, 0 to 1, from which the strong model answers (default: the router's "
        "operating point, or 0.5)")  # fmt: skip
    add_option(threshold, "--strong-share P", type=str,
        help="choose the threshold that sends this share, 0 to 1, of prompts like the ones the "
        "router was calibrated on to the strong model")  # fmt: skip
    add_option(parser, "--strong-model NAME", "its name", default="strong")
    add_option(parser, "--weak-model NAME", "its name", default="weak")
    add_flag(parser, "--json", "print one JSON object a prompt")


def run(options: argparse.Namespace) -> int:
    """Print a decision a prompt, each as soon as it is made."""
    from fastroute.decider import Decider

    decider = Decider([_router(options)], options.strong_model, options.weak_model)
    threshold, share = (
        None if word is None else number(option, word)
        for option, word in (
            ("--threshold", options.threshold),
            ("--strong-share", options.strong_share),
        )
    )
    several = len(options.prompts) > 1 or "-" in options.prompts
    table: Table | None = None
    for prompt in _prompts(options.prompts):
        decision = decider.decide(prompt, None, threshold, strong_share=share)
        if options.json:
            print(json.dumps(decision._asdict()), flush=True)
        elif several:
            if table is None:
                table = Table(decider, decision, share)
            print(table.row(decision, prompt), flush=True)
        else:
            print(_line(decision, prompt), flush=True)
    return 0


def _line(decision: Decision, prompt: str) -> str:
    """One decision, for people."""
    sign = ">=" if decision.strong else "< "
    difficulty = "" if decision.difficulty is None else f"harder than {percent(decision)}, "
    line = (
        f"{decision.model}  {difficulty}win rate {decision.win_rate:.4f} {sign} threshold "
        f"{decision.threshold:.4f}  ({decision.router}, {decision.latency_us:.0f} us)  "
    )
    return line + beginning(prompt, line_width() - len(line))


def _router(options: argparse.Namespace) -> Router:
    """The router, with the names of the pair where its config lets it know models by name."""
    from fastroute.routers.registry import find_spec
    from fastroute.routers.specification import parse_router

    choice = parse_router(options.router)
    if find_spec(choice.name).takes_pair(choice.config):
        for key in ("strong_model", "weak_model"):
            value = getattr(options, key)
            if value != key.removesuffix("_model"):
                choice.config.setdefault(key, value)
    return choice.make()


def _prompts(words: Sequence[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            # A byte that is not UTF-8 must not lose the line that it is in.
            stream = open(  # noqa: SIM115 - closefd=False: standard input is not ours to close
                sys.stdin.fileno(), encoding="utf-8", errors="replace", closefd=False
            )
            lines = iter(stream)
            while True:
                try:
                    line = next(lines, None)
                except OSError as error:  # a folder, or a stream that is open for writing only
                    reason = error.strerror or error
                    raise InvalidInputError(f"standard input can't be read: {reason}") from error
                if line is None:
                    break
                yield line.rstrip("\r\n")
        else:
            yield word
