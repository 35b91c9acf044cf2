"""``fastroute train models``: P(success) of each of many models, from graded prompts."""

from __future__ import annotations

import argparse

from fastroute.cli.options import add_option, say_warnings
from fastroute.cli.train.options import (
    add_data,
    add_embedder,
    add_output,
    check_output,
    read_data,
)
from fastroute.routers.many_models.examples import KEPT_PROMPTS


def configure(parser: argparse.ArgumentParser) -> None:
    add_data(parser, conflicts="average")
    add_output(parser)
    add_embedder(parser)
    add_option(parser, "--seed N", "of the folds", int, default=0)
    add_option(parser, "--keep-prompts", choices=KEPT_PROMPTS, default="none",
        help="what the router keeps of the prompts, for explanations (default: %(default)s)",
    )  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Train, save, and print the figures."""
    from fastroute.training import train_models

    check_output(options)
    trained = train_models(
        read_data(options), options.output, embedder=options.embedder, seed=options.seed,
        overwrite=options.overwrite, progress=True,
        facts={"turns": options.turns, "conflicts": options.conflicts},
        keep_prompts=options.keep_prompts,
    )  # fmt: skip
    router = trained.router
    print(f"\n{trained.prompts:,} prompts; figures are on held-out prompts, in nats a grade")
    print(f"  {trained.log_loss:.4f}  the router")
    print(f"  {trained.level_log_loss:.4f}  the models' levels alone")
    print("\nP(success) on an average prompt")
    levels = sorted(zip(router.estimator.levels.tolist(), router.models, strict=True), reverse=True)
    for level, model in levels:
        print(f"  {level:.3f}  {model}")
    said = f"{trained.neighbors} neighbours" if trained.neighbors else "no neighbours"
    print(f"\nwrote {options.output}: {len(router.models)} models, {said} a prompt")
    print("\nnext")
    print("  fastroute evaluate --models GRADED.jsonl --candidates MODELS.toml")
    return say_warnings([], trained.losses())
