"""``fastroute train mf``: a router between any number of models, or by how hard prompts are."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import add_flag, add_option, say_warnings
from fastroute.cli.streams import say
from fastroute.cli.train.options import (
    DATA_HELP,
    add_data,
    add_embedder,
    add_output,
    add_pair,
    check_output,
    read_data,
    say_next,
)
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.data import TrainingData
    from fastroute.training.mf.factorization import Settings

# Of the factors, which two models do not have.
_OF_FACTORS = ("dimensions", "epochs", "patience", "ridge")


def configure(parser: argparse.ArgumentParser) -> None:
    add_data(
        parser,
        what=f"{DATA_HELP}; or how hard prompts are: prompt and difficulty, or prompt, "
        "prompt_b and harder",
    )
    add_output(parser)
    add_embedder(parser)
    add_pair(parser)
    add_option(parser, "--centre-by", choices=("dataset",),
        help="learn only differences within a dataset, so that the router does not learn which "
        "source a prompt came from")  # fmt: skip
    add_option(parser, "--ties", choices=("use", "drop"), default="use",
        help="learn from ties as half a win each, or not at all (default: use)")  # fmt: skip
    add_flag(parser, "--compare-ties", "train the other way too, and report both")
    for name, what in (
        ("dimensions", "length of a model's embedding (default: 32)"),
        ("epochs", "passes over the data at most (default: 100)"),
        ("patience", "epochs without a better held-out loss before it stops (default: 5)"),
    ):
        add_option(parser, f"--{name} N", what, int)
    add_option(parser, "--ridge R", "strength of the shrinkage (default: 300)", float)
    add_option(parser, "--held-out P", type=float,
        help="share of prompts held out, half to stop and calibrate by, half for the figures; of "
        "two models all of it is for the figures (default: 0.1, more if there are few)",
    )  # fmt: skip
    add_option(parser, "--seed N", "seed of all random numbers", int, default=0)
    add_flag(parser, "--resume", "resume an interrupted training")


def run(options: argparse.Namespace) -> int:
    """Train, save, and print the figures."""
    from fastroute.training import train_mf

    settings = _settings(options)
    check_output(options)
    data = read_data(options, difficulty=True)
    if data.rated or data.harder:
        return _run_on_difficulty(options, data)
    given = [f"--{name}" for name in _OF_FACTORS if getattr(options, name) is not None]
    if len(data.models) == 2 and given:
        raise InvalidInputError(
            f"{', '.join(given)}: the data is of two models, whose difference is fitted in one "
            "step; leave it out"
        )
    try:
        trained = train_mf(
            data, options.output, embedder=options.embedder, strong_model=options.strong_model,
            weak_model=options.weak_model, settings=settings,
            centre=options.centre_by is not None, ties=options.ties,
            compare_ties=options.compare_ties, held_out=options.held_out, resume=options.resume,
            overwrite=options.overwrite, progress=True,
            facts={"turns": options.turns, "conflicts": options.conflicts},
        )  # fmt: skip
    except KeyboardInterrupt:
        if len(data.models) > 2:
            say("interrupted; the same command with --resume continues")
        raise
    router = trained.router
    print(f"\n{trained.table()}")
    print(f"\nwrote {options.output}: {len(router.models)} models, default pair "
          f"{router.strong_model} and {router.weak_model}")  # fmt: skip
    say_next("mf", options.output, router)
    return say_warnings([], trained.losses())


def _run_on_difficulty(options: argparse.Namespace, data: TrainingData) -> int:
    from fastroute.training import train_mf_on_difficulty

    given = [
        f"--{name}"
        for name in (*_OF_FACTORS, "held-out", "centre-by", "compare-ties", "resume")
        if getattr(options, name.replace("-", "_")) not in (None, False)
    ]
    if given or options.ties != "use":
        raise InvalidInputError(
            f"{', '.join(given) or '--ties'}: has no effect on labels of difficulty, which are "
            "centred by dataset, fitted in one step and measured on folds; leave it out"
        )
    trained = train_mf_on_difficulty(
        data, options.output, embedder=options.embedder, strong_model=options.strong_model,
        weak_model=options.weak_model, seed=options.seed, overwrite=options.overwrite,
        progress=True, facts={"turns": options.turns, "conflicts": options.conflicts},
    )  # fmt: skip
    print(f"\n{trained.table()}")
    print(f"\nwrote {options.output}: the harder a prompt, the higher its win rate")
    say_next("mf", options.output, trained.router)
    return say_warnings([], trained.losses())


def _settings(options: argparse.Namespace) -> Settings:
    from fastroute.training.mf.factorization import Settings

    chosen: dict[str, Any] = {"seed": options.seed}
    for name in _OF_FACTORS:
        value = getattr(options, name)
        if value is not None:
            if not 0 < value < 1e9:
                raise InvalidInputError(f"--{name} must be above 0 and below 1e9, got {value}")
            chosen[name] = value
    if options.seed < 0:
        raise InvalidInputError(f"--seed must be 0 or more, got {options.seed}")
    return Settings(**chosen)
