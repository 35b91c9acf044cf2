"""``fastroute train sw_ranking``: battles to a fitted, saved router."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fastroute.cli.options import add_option, say_warnings
from fastroute.cli.streams import say
from fastroute.cli.train.options import (
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
    from fastroute.training import PartsTraining, RankingTraining


def configure(parser: argparse.ArgumentParser) -> None:
    add_data(parser)
    add_output(parser)
    add_embedder(parser)
    add_pair(parser)
    add_option(parser, "--per-prompt N", type=int, default=2,
        help="battles that are drawn from one graded result at most (default: 2)")  # fmt: skip
    add_option(parser, "--num-tiers N", "tiers (default: 10, or as many as models)", int)
    add_option(parser, "--mode", choices=("auto", "exact", "far_field"), default="auto",
        help="how a prompt is scored (default: auto)")  # fmt: skip
    add_option(parser, "--storage", choices=("float32", "float16", "int8"), default="float32",
        help="of the embeddings (default: float32)")  # fmt: skip
    add_option(parser, "--index FACTORY", "FAISS index: HNSW32 ...")
    add_option(parser, "--held-out P", type=float, default=0.1,
        help="share of prompts that the thresholds are measured on by a router that was not "
        "fitted to them; the saved router is fitted to all (default: 0.1)")  # fmt: skip
    add_option(parser, "--seed N", "of what is held out", int, default=0)
    add_option(parser, "--engine", choices=("local", "ray"),
        help="fit battles that need not fit in memory, a part of the files at a time, on this "
        "machine or on Ray Data; repeated battles are not removed then")  # fmt: skip
    add_option(parser, "--workers N", type=int, default=1,
        help="with --engine: processes, or actors of Ray (default: 1)")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Fit, save, and print the figures."""
    from fastroute.training import train_sw_ranking

    check_output(options)
    settings = {name: getattr(options, name) for name in ("num_tiers", "mode", "storage", "index")}
    if options.engine is not None:
        trained: RankingTraining = _in_parts(options)
    else:
        trained = train_sw_ranking(
            read_data(options), options.output, embedder=options.embedder,
            strong_model=options.strong_model, weak_model=options.weak_model,
            per_prompt=options.per_prompt, held_out=options.held_out, seed=options.seed,
            overwrite=options.overwrite, progress=True, **settings,
        )  # fmt: skip
    router, figures = trained.router, trained.figures
    if trained.left_out:
        say(f"left out, not comparable: {', '.join(trained.left_out)}")
    print(f"\nheld out: {figures.prompts:,} prompts, {figures.pairs:,} battles of the pair")
    if figures.pairs:
        print(f"log-loss of them {figures.log_loss:.4f} (of a constant: "
              f"{figures.constant_log_loss:.4f}), calibration error "
              f"{figures.calibration_error:.4f}")  # fmt: skip
        if figures.apgr is not None:
            print(f"APGR of them {figures.apgr:.4f}, of the length of the prompt "
                  f"{figures.length_apgr:.4f}, of random routing 0.5")  # fmt: skip
    warnings = []
    if figures.apgr is None:
        warnings.append(
            f"whether this router beats the baselines was not measured: {figures.pairs:,} held-out "
            "battles are between the pair, where 30 are needed that the strong model wins in the "
            "majority; give more battles of the pair, or a larger --held-out"
        )
    print(f"\nwrote {options.output}: {trained.battles:,} battles of "
          f"{len(router.model_ratings_)} models, default pair {router.strong_model} and "
          f"{router.weak_model}, {router.mode_} mode")  # fmt: skip
    say_next("sw_ranking", options.output, router)
    return say_warnings(warnings, trained.losses())


def _in_parts(options: argparse.Namespace) -> PartsTraining:
    from fastroute.training import train_sw_ranking_in_parts
    from fastroute.training.exclusion import read_evaluation_prompts

    others = {"mode": "auto", "storage": "float32", "index": None, "turns": "first",
              "conflicts": "remove", "english": False, "data_report": None, "per_prompt": 2,
              "seed": 0}  # fmt: skip
    for name, default in others.items():
        if getattr(options, name) != default:
            raise InvalidInputError(
                f"--{name.replace('_', '-')} has no effect with --engine; leave one of them out"
            )
    excluded = options.exclude_evaluation
    trained = train_sw_ranking_in_parts(
        options.data, options.output, embedder=options.embedder,
        strong_model=options.strong_model, weak_model=options.weak_model,
        num_tiers=options.num_tiers, held_out=options.held_out,
        exclude=read_evaluation_prompts(excluded) if excluded else None,
        skip_bad=options.skip_bad, workers=options.workers, engine=options.engine,
        overwrite=options.overwrite, progress=True,
    )  # fmt: skip
    for reason, count in trained.dropped.items():
        print(f"left out {count:,} rows: {reason}")
    if trained.router.provenance.trained_on is None:
        say("more than 4,000,000 prompts: the router does not list them, so an evaluation on them "
            "is not refused")  # fmt: skip
    return trained
