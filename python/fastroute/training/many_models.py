"""Trains ``models`` routers on graded prompts, and adds a model to one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import default_rng

from fastroute.artifacts import hash_prompts, load_artifact
from fastroute.data import TrainingData
from fastroute.data.grade_table import GradeTable
from fastroute.data.records import GradedResult
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import embedder_folder
from fastroute.errors import InvalidInputError
from fastroute.provenance import Provenance
from fastroute.routers.many_models.add_model import add_model
from fastroute.routers.many_models.examples import (
    KEPT_PROMPTS,
    GradedExamples,
    KeptPrompts,
    beginning,
)
from fastroute.routers.many_models.fit import Fitted, fit_estimator, log_loss
from fastroute.routers.many_models.router import KIND, ModelsRouter
from fastroute.routers.matrix_factorization import bundled_direction
from fastroute.training.embedder_choice import choose_embedder, embedder_kept
from fastroute.training.embedding import embed
from fastroute.training.folds import fold_numbers
from fastroute.training.mf.add import check_folders, embedder_of
from fastroute.training.outcome import check_output, data_facts
from fastroute.training.with_tokens import with_tokens
from fastroute.types import Float32Array

FOLDS = 5


@dataclass(frozen=True)
class ModelsTraining:
    """A trained and saved ``models`` router, and how it did on held-out prompts.

    Attributes:
        router: fitted to all prompts.
        folder: where it was saved.
        prompts: how many it was fitted to.
        log_loss, level_log_loss: nats a grade on held-out prompts: the router's, and that of the
            models' levels alone.
        standard_error: of their difference.
        neighbors: how many graded neighbours it looks at; 0 where they did not help.
    """

    router: ModelsRouter
    folder: Path
    prompts: int
    log_loss: float
    level_log_loss: float
    standard_error: float
    neighbors: int

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on held-out prompts, in words.

        By two standard errors: its settings were chosen by the same grades.
        """
        if self.log_loss < self.level_log_loss - 2 * self.standard_error:
            return []
        levels = f"{self.level_log_loss:.4f}, that of the models' levels alone"
        least = f"by more than two standard errors, {2 * self.standard_error:.4f}"
        return [f"its log-loss, {self.log_loss:.4f}, is not below {levels}, {least}"]


def train_models(
    data: TrainingData,
    output: str | os.PathLike[str],
    *,
    embedder: str = "default",
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
    keep_prompts: KeptPrompts = "none",
) -> ModelsTraining:
    """Train a ``models`` router on the graded results in ``data``, save it, and measure it.

    Args:
        data: graded results, from ``fastroute.data.read_training_data``; battles are not used.
        output: the folder to write.
        embedder: "default" (the bundled one), "static:FOLDER" or "onnx:FOLDER".
        seed: of the folds.
        overwrite: replace what is in ``output``.
        progress: show a progress bar on a terminal.
        facts: further facts to record in the artifact, plain JSON.
        keep_prompts: what the artifact keeps of the prompts, for explanations: "none", "ids" (as
            the data names them, or file and line), "beginnings" (80 characters) or "texts".

    Raises InvalidInputError for arguments or data that can't be used.
    """
    folder = check_output(output, overwrite=overwrite)
    if keep_prompts not in KEPT_PROMPTS:
        raise InvalidInputError(
            f"keep_prompts must be one of {', '.join(KEPT_PROMPTS)}, got {keep_prompts!r}"
        )
    table = GradeTable.of(data.graded)
    if len(table.models) < 2:
        only = ", ".join(table.models)
        raise InvalidInputError(f"the data has grades of {only!r} only; give two models")
    chosen, source = choose_embedder(embedder, folder)
    X = embed(chosen, table.prompts, progress=progress)
    fitted = fit_table(table, X, chosen, seed=seed)
    router = ModelsRouter(
        fitted.estimator, embedder=chosen, provenance=_provenance(data, table),
        examples=_examples(data, table, X, keep_prompts),
    )  # fmt: skip
    recorded = {
        "data": data_facts(data),
        "settings": {"seed": seed, **fitted.settings._asdict(), **(facts or {})},
        "log_loss": fitted.log_loss,
        "level_log_loss": fitted.level_log_loss,
    }
    with embedder_kept(chosen, source, folder):
        router.save(folder, training=recorded)
    return ModelsTraining(
        router, folder, len(fitted.held_out), fitted.log_loss, fitted.level_log_loss,
        fitted.standard_error, fitted.settings.neighbors,
    )  # fmt: skip


def fit_table(table: GradeTable, X: Float32Array, embedder: Embedder, *, seed: int = 0) -> Fitted:
    """Fit the estimator of all models in ``table``, whose prompts have embeddings ``X``.

    Prompts without known tokens teach nothing. Raises as ``fit_estimator``.
    """
    said = with_tokens(X, embedder)
    folds = fold_numbers(table.prompts, FOLDS, seed)
    return fit_estimator(
        table.models, np.ascontiguousarray(X[said]), table.grades[said], folds[said],
        difficulty=bundled_direction(embedder),
    )  # fmt: skip


@dataclass(frozen=True)
class ModelsAddition:
    """A saved ``models`` router with one model more.

    Attributes:
        router: knows the new model too; estimates of the others are unchanged.
        folder: where it was saved.
        model: the new model.
        prompts: how many graded prompts it was learnt from.
        log_loss, level_log_loss: nats a grade on prompts held out in 5 folds: of the estimates, and
            of the model's level alone.
    """

    router: ModelsRouter
    folder: Path
    model: str
    prompts: int
    log_loss: float
    level_log_loss: float

    def losses(self) -> list[str]:
        """The baselines that the estimates do not beat on held-out prompts, in words."""
        if self.log_loss < self.level_log_loss:
            return []
        level = f"{self.level_log_loss:.4f}, that of its level alone"
        return [f"the log-loss of {self.model}, {self.log_loss:.4f}, is not below {level}"]


def add_model_to_models(
    router_folder: str | os.PathLike[str],
    model: str,
    data: TrainingData,
    output: str | os.PathLike[str],
    *,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
) -> ModelsAddition:
    """Learn one model more from a few graded prompts (50 are enough), and save a new router.

    Args:
        router_folder: a saved ``models`` router.
        model: the new model, as ``data`` names it.
        data: graded results of it. Grades of the known models on the same prompts make the estimate
            better; other rows are not used.
        output: the folder to write, another than ``router_folder``.
        seed: of the folds of the figures.
        overwrite: replace what is in ``output``.
        progress: show a progress bar on a terminal.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    folder = check_folders(router_folder, output, overwrite=overwrite)
    router = ModelsRouter.load(router_folder)
    embedder = embedder_of(router, router_folder)
    table = _with_known(data.graded, model)
    X = embed(embedder, table.prompts, progress=progress)
    said = with_tokens(X, embedder)
    X, grades = np.ascontiguousarray(X[said]), table.grades[said, table.models.index(model)]
    columns = [table.models.index(m) if m in table.models else -1 for m in router.models]
    padded = np.hstack([table.grades[said], np.full((len(X), 1), np.nan)])
    others = padded[:, columns]
    added = add_model(router.estimator, model, X, grades, others)
    folds = default_rng(seed).permutation(len(X)) % FOLDS
    held_out, levels = np.empty(len(X)), np.empty(len(X))
    for k in range(FOLDS):
        held = folds == k
        few = np.ascontiguousarray(X[~held])
        part = add_model(router.estimator, model, few, grades[~held], others[~held])
        held_out[held] = part.select([model]).estimate(X[held]).probability[:, 0]
        levels[held] = grades[~held].mean()
    losses = log_loss(held_out, grades), log_loss(levels, grades)
    recorded = dict(load_artifact(router_folder, kind=KIND).config.get("training", {}))
    recorded["added"] = [
        *recorded.get("added", []),
        {"model": model, "data": data_facts(data), "log_loss": losses[0]},
    ]
    known = router.provenance
    hashes = _provenance(data, table).trained_on
    assert hashes is not None
    if known.trained_on is not None:
        hashes = np.union1d(known.trained_on, hashes)
    larger = ModelsRouter(
        added, strong_model=router.strong_model, weak_model=router.weak_model,
        embedder=embedder, provenance=replace(known, trained_on=hashes, checksum=None),
        examples=router.examples,
    )  # fmt: skip
    with embedder_kept(embedder, embedder_folder(router_folder), folder):
        larger.save(folder, training=recorded)
    return ModelsAddition(larger, folder, model, len(X), *losses)


def _with_known(rows: Sequence[GradedResult], model: str) -> GradeTable:
    """The prompts on which ``model`` has a grade, with all grades that ``rows`` have of them."""
    merged: dict[str, GradedResult] = {}
    for row in rows:
        seen = merged.get(row.prompt)
        merged[row.prompt] = (
            row if seen is None else replace(seen, scores={**row.scores, **seen.scores})
        )
    graded = [row for row in merged.values() if model in row.scores]
    if not graded:
        raise InvalidInputError(f"the data has no grade of model {model!r}")
    return GradeTable.of(graded)


def _examples(
    data: TrainingData, table: GradeTable, X: Float32Array, keep: KeptPrompts
) -> GradedExamples | None:
    if keep == "none":
        return None
    if keep == "ids":
        labels = [row.id or f"{row.file}, {row.where}" for row in data.graded]
    else:
        labels = [p if keep == "texts" else beginning(p) for p in table.prompts]
    return GradedExamples(labels, table.models, table.grades.astype(np.float32), X)


def _provenance(data: TrainingData, table: GradeTable) -> Provenance:
    return Provenance(
        data=tuple(Path(file.file).name for file in data.report.files),
        trained_on=hash_prompts(table.prompts),
    )
