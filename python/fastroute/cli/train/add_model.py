"""``fastroute train add-model``: one model more in a trained mf router, the others unchanged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fastroute.cli.options import text
from fastroute.cli.train.options import (
    add_data,
    check_output,
    data_facts,
    embed,
    read_data,
    read_files,
    say_next,
)
from fastroute.errors import InvalidInputError

if TYPE_CHECKING:
    from fastroute.embedders.base import Embedder
    from fastroute.training.pairs import Pairs
    from fastroute.types import Float32Array


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--router", type=text, required=True, metavar="FOLDER", help="a trained mf router"
    )
    parser.add_argument(
        "--model", type=text, required=True, metavar="NAME", help="the new model, as in the data"
    )
    add_data(parser)
    parser.add_argument(
        "--output", type=text, required=True, metavar="FOLDER", help="where the new router goes"
    )
    parser.add_argument(
        "--retrain-data", type=text, action="extend", nargs="+", default=[], metavar="FILE",
        help="what the router was trained on: trains all models again, to report how much better "
        "that would be",
    )  # fmt: skip
    parser.add_argument(
        "--held-out", type=float, default=0.2, metavar="P",
        help="share of the prompts that the figures are on; the router is fitted to all "
        "(default: 0.2)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of what is held out")


def run(options: argparse.Namespace) -> int:
    """Fit the new model's vector, save, and print the figures."""
    from fastroute.artifacts import load_artifact
    from fastroute.routers.matrix_factorization import KIND, MatrixFactorizationRouter
    from fastroute.routers.registry import EMBEDDER_FOLDER, create_router, has_embedder
    from fastroute.training.embedder_choice import copy_embedder, remove_embedder
    from fastroute.training.heads import save_mf
    from fastroute.training.mf.added_model import add_model
    from fastroute.training.pairs import pairs_of

    if Path(options.output).resolve() == Path(options.router).resolve():
        raise InvalidInputError(f"--output is {options.output!r}, the router itself; name another")
    router = create_router("mf", checkpoint_path=options.router)
    assert isinstance(router, MatrixFactorizationRouter)
    if router.embedder is None:
        raise InvalidInputError(
            f"--router {options.router}: its embedder is neither the bundled one nor in its folder"
        )
    if router.provenance.calibration is None:
        raise InvalidInputError(f"--router {options.router} was never calibrated; train it again")
    check_output(options.output)
    data = read_data(options)
    pairs = pairs_of(data, seed=options.seed)
    X = embed(router.embedder, pairs.prompts)
    added = add_model(router, options.model, pairs, X, held_out=options.held_out, seed=options.seed)
    figures = {
        "the mean of the others": added.prior_log_loss,
        "that and a level": added.level_log_loss,
        "the fitted vector": added.log_loss,
    }
    if options.retrain_data:
        figures["all models trained again"] = _retrained(
            options, router.embedder, added.held_out, X
        )
    print(f"\nheld-out log-loss of {options.model}, {added.held_out_prompts:,} prompts (learnt "
          f"from {added.prompts:,})")  # fmt: skip
    for name, value in figures.items():
        print(f"  {value:.4f}  {name}")
    training = dict(load_artifact(options.router, kind=KIND).config.get("training", {}))
    training.setdefault("added", [])
    training["added"] = [
        *training["added"],
        {"model": options.model, "data": data_facts(data), "log_loss": figures},
    ]
    if has_embedder(options.router):
        copy_embedder(Path(options.router) / EMBEDDER_FOLDER, options.output)
    else:
        remove_embedder(options.output)
    save_mf(options.output, added.router, training=training)
    print(f"\nwrote {options.output}: {len(added.router.models)} models, "
          f"{router.strong_model} or {router.weak_model} by default; the others' scores are "
          "what they were")  # fmt: skip
    say_next("mf", options.output, added.router)
    return 0


def _retrained(
    options: argparse.Namespace, embedder: Embedder, held_out: Pairs, X: Float32Array
) -> float:
    """Held-out log-loss of the new model's pairs where all models are trained again.

    The same prompts are held out: that is decided by their text.
    """
    from fastroute.training.mf.added_model import log_loss_of_router
    from fastroute.training.mf.factorization import Settings
    from fastroute.training.mf.models import train_models
    from fastroute.training.pairs import pairs_of

    everything = read_files(options, [*options.retrain_data, *options.data])
    pairs = pairs_of(everything, seed=options.seed)
    trained = train_models(
        pairs, embed(embedder, pairs.prompts), embedder, settings=Settings(seed=options.seed),
        held_out=options.held_out,
    )  # fmt: skip
    return log_loss_of_router(trained.router, held_out, X)
