"""``fastroute evaluate --answers``: a cascade by evidence, replayed on recorded answers."""

from __future__ import annotations

import argparse
import json

from fastroute.cli.options import add_option, price, values_of
from fastroute.errors import InvalidInputError


def add_answer_options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    group = parser.add_argument_group("recorded answers (a cascade by evidence)")
    add_option(group, "--answers FILE ...",
        help="files with answers and scores by model, joined by question, instead of --benchmark",
    )  # fmt: skip
    add_option(group, "--helper MODEL", action="append", default=[],
        help="another cheap model asked beside the weak one; may be given several times",
    )  # fmt: skip
    add_option(group, "--price MODEL=IN/OUT ...", action="extend", default=[],
        help="dollars per million tokens in and out, of every model")  # fmt: skip


def run_answers(options: argparse.Namespace) -> int:
    """Print the figures."""
    from fastroute.evaluation.benchmarks.answers import read_answers
    from fastroute.evaluation.evidence_replay import replay
    from fastroute.evaluation.report.evidence import to_text
    from fastroute.routers.specification import parse_router

    if not options.weak or not options.strong:
        raise InvalidInputError("--answers needs --weak MODEL and --strong MODEL")
    if options.benchmark:
        raise InvalidInputError("give --answers or --benchmark, not both")
    prices = dict(map(price, options.price)) or None
    recorded = read_answers(options.answers)
    win_rates = {}
    for specification in options.router or ["mf"]:
        choice = parse_router(specification)
        win_rates[choice.label] = choice.make().win_rates(recorded.prompts)
    result = replay(
        recorded,
        helpers=options.helper,
        prices=prices,
        prompt_win_rates={k: v for k, v in win_rates.items() if k not in ("length", "random")},
        **values_of(options, "weak", "strong", "folds", "resamples", "seed"),
    )
    if options.json:
        print(json.dumps(result.to_dict(), indent=2, allow_nan=False))
    else:
        print(to_text(result), end="")
    return 0
