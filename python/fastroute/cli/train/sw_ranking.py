"""``fastroute train sw_ranking``: battles to a fitted, saved router."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import text
from fastroute.cli.train.options import (
    add_data,
    add_embedder,
    add_pair,
    check_output,
    embed,
    read_data,
    say_next,
)

if TYPE_CHECKING:
    from fastroute.training.sw_ranking import Progress


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument(
        "--output", type=text, required=True, metavar="FOLDER", help="where the router goes"
    )
    add_embedder(parser)
    add_pair(parser)
    parser.add_argument(
        "--per-prompt", type=int, default=2, metavar="N",
        help="battles that are drawn from one graded result at most (default: 2)",
    )  # fmt: skip
    parser.add_argument(
        "--num-tiers",
        type=int,
        metavar="N",
        help="tiers (default: 10, or as many as models)",
    )
    parser.add_argument(
        "--mode", choices=("auto", "exact", "far_field"), default="auto",
        help="how a prompt is scored (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--storage", choices=("float32", "float16", "int8"), default="float32",
        help="of the embeddings (default: float32)",
    )  # fmt: skip
    parser.add_argument("--index", type=text, metavar="FACTORY", help="FAISS index: HNSW32 ...")
    parser.add_argument(
        "--held-out", type=float, default=0.1, metavar="P",
        help="share of prompts that the thresholds are measured on by a router that was not "
        "fitted to them; the saved router is fitted to all (default: 0.1)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is held out")


def run(options: argparse.Namespace) -> int:
    """Fit, save, and print the figures."""
    from fastroute.evaluation.progress import ProgressBar
    from fastroute.training.embedder_choice import choose_embedder
    from fastroute.training.sw_ranking import MOST_SCORED, battles_of, fit_ranking

    check_output(options.output)
    data = read_data(options)
    battles, left_out = battles_of(data, options.per_prompt)
    if left_out:
        print(f"left out, not comparable to the rest: {', '.join(left_out)}", file=sys.stderr)
    output = Path(options.output)
    embedder = choose_embedder(options.embedder, output)
    X = embed(embedder, [battle.prompt for battle in battles])
    about = min(MOST_SCORED, round(options.held_out * len({battle.prompt for battle in battles})))
    with ProgressBar(max(about, 1), "score held-out", shown=sys.stderr.isatty()) as bar:
        progress: Progress = bar
        settings: dict[str, Any] = {
            name: getattr(options, name) for name in ("num_tiers", "mode", "storage", "index")
        }
        router, figures = fit_ranking(
            battles, X, embedder, strong_model=options.strong_model,
            weak_model=options.weak_model, held_out=options.held_out, seed=options.seed,
            progress=progress, **settings,
        )  # fmt: skip
    router.save(output)
    models = len(router.model_ratings_)
    print(f"\nheld out: {figures.prompts:,} prompts, {figures.pairs:,} battles")
    print(f"log-loss of the pair's battles {figures.log_loss:.4f}, calibration error "
          f"{figures.calibration_error:.4f}" if figures.pairs else
          "no held-out battle is between the pair, so there is no figure of it")  # fmt: skip
    print(f"\nwrote {output}: {len(battles):,} battles of {models} models, "
          f"{router.strong_model} or {router.weak_model}, {router.mode_} mode")  # fmt: skip
    say_next("sw_ranking", options.output, router)
    return 0
