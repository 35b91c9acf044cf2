"""Adds a model to a saved ``mf`` router: what ``fastroute train add-model`` calls."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastroute.artifacts import load_artifact
from fastroute.data import TrainingData
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import embedder_folder
from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.baselines import losses
from fastroute.routers.base import EmbeddingRouter
from fastroute.routers.matrix_factorization import KIND, MatrixFactorizationRouter
from fastroute.routers.registry import create_router
from fastroute.training.embedder_choice import embedder_kept
from fastroute.training.embedding import embed
from fastroute.training.heads import save_mf
from fastroute.training.mf.added_model import add_model, log_loss_of_router
from fastroute.training.mf.factorization import Settings
from fastroute.training.mf.models import train_models
from fastroute.training.outcome import check_output, data_facts
from fastroute.training.pairs import Pairs, pairs_of
from fastroute.types import Float32Array

_FITTED = "the fitted vector"


@dataclass(frozen=True)
class ModelAddition:
    """A saved router with one model more, and how its vector did on held-out prompts.

    Attributes:
        router: scores the new model too; the others' scores are unchanged.
        folder: where it was saved.
        model: the new model.
        prompts, held_out_prompts: how many it was learnt from and measured on.
        log_losses: held-out log-loss of the new model's comparisons, in nats, by what was fitted.
        apgr, length_apgr: mean held-out APGR between the new model and a known one, of the router
            and of the length of the prompt; None with fewer than 30 prompts of every such pair.
    """

    router: MatrixFactorizationRouter
    folder: Path
    model: str
    prompts: int
    held_out_prompts: int
    log_losses: Mapping[str, float]
    apgr: float | None
    length_apgr: float | None

    def losses(self) -> list[str]:
        """The baselines and simpler fits that the vector does not beat, in words."""
        own = self.log_losses[_FITTED]
        found = losses(self.apgr, self.length_apgr)
        return found + [
            f"the log-loss of {_FITTED}, {own:.4f}, is not below that of {name}, {value:.4f}"
            for name, value in self.log_losses.items()
            if name.startswith(("the mean", "that and")) and own >= value
        ]


def check_folders(
    router_folder: str | os.PathLike[str], output: str | os.PathLike[str], *, overwrite: bool
) -> Path:
    """The output folder. Raises as ``check_output``, and where it is the router's own."""
    if Path(output).resolve() == Path(router_folder).resolve():
        raise InvalidInputError(f"output is {os.fspath(output)!r}, the router itself; name another")
    return check_output(output, overwrite=overwrite)


def embedder_of(router: EmbeddingRouter, folder: str | os.PathLike[str]) -> Embedder:
    """The embedder of a saved router. Raises InvalidInputError where it is not there."""
    if router.embedder is None:
        raise InvalidInputError(
            f"router {os.fspath(folder)}: its embedder is neither the bundled one nor in its folder"
        )
    return router.embedder


def add_model_to_router(
    router_folder: str | os.PathLike[str],
    model: str,
    data: TrainingData,
    output: str | os.PathLike[str],
    *,
    retrain_data: TrainingData | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> ModelAddition:
    """Fit the vector of ``model`` beside those of a trained router, and save a new router.

    Args:
        router_folder: a saved ``mf`` router with calibration.
        model: the new model, as ``data`` names it.
        data: comparisons of it with the router's models.
        output: the folder to write, another than ``router_folder``.
        retrain_data: what the router was trained on with ``data``: all models are trained again on
            it, to report how much better that would be.
        held_out: share of the prompts that the figures are on; the router is fitted to all.
        seed: of what is held out.
        overwrite: replace what is in ``output``.
        progress: show progress bars on a terminal.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    folder = check_folders(router_folder, output, overwrite=overwrite)
    router = create_router("mf", checkpoint_path=router_folder)
    assert isinstance(router, MatrixFactorizationRouter)
    embedder = embedder_of(router, router_folder)
    if router.provenance.calibration is None:
        raise InvalidInputError(
            f"router {os.fspath(router_folder)} has no calibration; train it again"
        )
    pairs = pairs_of(data, seed=seed)
    X = embed(embedder, pairs.prompts, progress=progress)
    added = add_model(router, model, pairs, X, held_out=held_out, seed=seed)
    figures = {
        "the mean of the others": added.prior_log_loss,
        "that and a level": added.level_log_loss,
        _FITTED: added.log_loss,
    }
    if retrain_data is not None:
        figures["all models trained again"] = _retrained(
            retrain_data, embedder, added.held_out, X, held_out, seed, progress
        )
    recorded = dict(load_artifact(router_folder, kind=KIND).config.get("training", {}))
    recorded["added"] = [
        *recorded.get("added", []),
        {"model": model, "data": data_facts(data), "log_loss": figures, "apgr": added.apgr},
    ]
    with embedder_kept(embedder, embedder_folder(router_folder), folder):
        save_mf(folder, added.router, training=recorded)
    return ModelAddition(
        added.router,
        folder,
        model,
        added.prompts,
        added.held_out_prompts,
        figures,
        added.apgr,
        added.length_apgr,
    )


def _retrained(
    data: TrainingData,
    embedder: Embedder,
    held_out_pairs: Pairs,
    X: Float32Array,
    held_out: float,
    seed: int,
    progress: bool,
) -> float:
    """Held-out log-loss of the new model's pairs where all models are trained again.

    The same prompts are held out: that is decided by their text.
    """
    pairs = pairs_of(data, seed=seed)
    trained = train_models(
        pairs, embed(embedder, pairs.prompts, progress=progress), embedder,
        settings=Settings(seed=seed), held_out=held_out,
    )  # fmt: skip
    return log_loss_of_router(trained.router, held_out_pairs, X)
