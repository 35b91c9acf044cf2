"""Trains an ``mf`` router from data to a saved artifact with a card."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastroute._progress import progress_bar
from fastroute.data import TrainingData
from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.baselines import losses
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.embedder_choice import choose_embedder, embedder_kept
from fastroute.training.embedding import embed
from fastroute.training.heads import save_mf
from fastroute.training.mf.checkpoint import remove_state
from fastroute.training.mf.factorization import Settings, State
from fastroute.training.mf.held_out import Figures
from fastroute.training.mf.models import TrainedModels, check_request, train_models
from fastroute.training.outcome import check_output, data_facts
from fastroute.training.pairs import Ties, pairs_of

_ROWS = (
    ("log-loss", "log_loss"),
    ("log-loss without ties", "log_loss_decided"),
    ("accuracy", "accuracy"),
    ("calibration error", "calibration_error"),
    ("APGR, mean over pairs", "apgr"),
)


@dataclass(frozen=True)
class MfTraining:
    """A trained and saved router, and how it did on held-out prompts.

    Attributes:
        router: the router.
        folder: where it was saved.
        figures: held-out figures by what was trained: the router first, "strengths alone" (each
            model's level, whatever the prompt), and the other treatment of ties where asked for.
        length_apgr: APGR of sending longer prompts to the stronger model; None where there is none.
    """

    router: MatrixFactorizationRouter
    folder: Path
    figures: Mapping[str, Figures]
    length_apgr: float | None

    def table(self) -> str:
        """The figures as a Markdown table."""
        first = next(iter(self.figures.values()))
        apgr_of = f"APGR over {first.apgr_pairs} pairs of models"
        if not first.apgr_pairs:
            apgr_of = (
                "no APGR, which needs a pair of models with graded results of both on the same "
                "held-out prompts"
            )
        counts = f"{first.prompts:,} prompts, {first.pairs:,} comparisons of two models"
        lines = [
            f"held out: {counts}; {apgr_of}",
            "",
            f"| held out | {' | '.join(self.figures)} |",
            "|---|" + "---:|" * len(self.figures),
        ]
        for title, name in _ROWS:
            values = [getattr(f, name) for f in self.figures.values()]
            cells = ["" if value is None else f"{value:.4f}" for value in values]
            lines.append(f"| {title} | {' | '.join(cells)} |")
        if self.length_apgr is not None:
            lines += [
                "",
                f"APGR of the length of the prompt: {self.length_apgr:.4f}; of random: 0.5",
            ]
        return "\n".join(lines)

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on held-out prompts, in words."""
        own = next(iter(self.figures.values()))
        alone = self.figures["strengths alone"]
        if own.apgr is None:
            if own.log_loss < alone.log_loss:
                return []
            said = f"its log-loss, {own.log_loss:.4f}, is not below {alone.log_loss:.4f}"
            return [f"{said}, that of the models' strengths alone"]
        return losses(own.apgr, self.length_apgr)


def train_mf(
    data: TrainingData,
    output: str | os.PathLike[str],
    *,
    embedder: str = "default",
    strong_model: str | None = None,
    weak_model: str | None = None,
    settings: Settings | None = None,
    centre: bool = False,
    ties: Ties = "use",
    compare_ties: bool = False,
    held_out: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> MfTraining:
    """Train an ``mf`` router between all models in ``data``, save it, and measure it.

    Args:
        data: battles and graded results, from ``fastroute.data.read_training_data``.
        output: the folder to write. An interrupted training of several models is kept there.
        embedder: "default" (the bundled one), "static:FOLDER" or "onnx:FOLDER".
        strong_model, weak_model: the default pair; by default the strongest model and the median.
        settings: of the factors; two models have none, and their difference is fitted exactly.
        centre: learn only differences within a dataset.
        ties: "use" them as half a win each, or "drop" them.
        compare_ties: train the other way too, and report both.
        held_out: share of prompts held out; see ``mf.models.train_models``.
        resume: continue an interrupted training in ``output``.
        overwrite: replace what is in ``output``.
        progress: show progress bars on a terminal.
        facts: further facts to record in the artifact, plain JSON.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    settings = settings or Settings()
    folder = check_output(output, overwrite=overwrite, resume=resume)
    if data.rated or data.harder:
        raise InvalidInputError(
            "the data has labels of difficulty, which say nothing of models; give them to "
            "train_mf_on_difficulty, without other labels"
        )
    pairs = pairs_of(data, seed=settings.seed)
    two = len(data.models) == 2
    check_request(pairs, held_out=held_out, strong_model=strong_model, weak_model=weak_model)
    if two and resume:
        raise InvalidInputError(
            "resume has no effect: the difference of two models is fitted in one step; leave it out"
        )
    chosen, embedder_source = choose_embedder(embedder, folder)
    X = embed(chosen, pairs.prompts, progress=progress)

    def train(ties: Ties, journal: Path | None) -> TrainedModels:
        with progress_bar(
            settings.epochs, "train", unit="epoch", shown=progress and not two
        ) as advance:

            def after_epoch(_: State) -> None:
                advance()

            return train_models(
                pairs, X, chosen, settings=settings, centre=centre, ties=ties, held_out=held_out,
                strong_model=strong_model, weak_model=weak_model, journal=journal,
                resume=resume and journal is not None, after_epoch=after_epoch,
            )  # fmt: skip

    trained = train(ties, None if two else folder)
    figures = {f"ties: {ties}": trained.figures, "strengths alone": trained.levels_alone}
    if compare_ties:
        other: Ties = "drop" if ties == "use" else "use"
        figures[f"ties: {other}"] = train(other, None).figures
    result = MfTraining(trained.router, folder, figures, trained.length_apgr)
    of_data = data_facts(data)
    recorded = {
        "data": of_data,
        "settings": {
            "kind": "linear head" if two else "factors",
            "centre_by": "dataset" if centre else None,
            "ties": ties,
            "held_out": trained.held_out,
            "seed": settings.seed,
            **({} if two else asdict(settings)),
            **(facts or {}),
        },
        "epochs": None if trained.state is None else trained.state.epoch,
        "best_epoch": None if trained.state is None else trained.state.best_epoch,
        "slope": trained.slope,
        "level": trained.level,
        "length_apgr": trained.length_apgr,
        "figures": {name: value.as_json() for name, value in figures.items()},
    }
    with embedder_kept(chosen, embedder_source, folder):
        save_mf(folder, trained.router, training=recorded, card=_card(result, of_data))
    remove_state(folder)
    return result


def _card(result: MfTraining, data: Mapping[str, Any]) -> str:
    router = result.router
    assert router.embedder is not None
    files = ", ".join(f["file"] for f in data["files"])
    lost = "".join(f"\n**Warning:** {reason}.\n" for reason in result.losses())
    return f"""# An mf router of {len(router.models)} models

Trained by fastroute on {data["battles"]:,} battles and {data["graded"]:,} graded results,
{data["prompts"]:,} prompts in all, from {files}. Embedder: `{router.embedder.name}`.
Default pair: {router.strong_model} (strong), {router.weak_model} (weak).

{result.table()}
{lost}
These figures are on held-out prompts that were used for nothing else. "Strengths alone" is how good
each model is whatever the prompt. `artifact.json` has what was removed from the data and all
settings under `training`.
"""
