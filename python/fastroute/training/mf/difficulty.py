"""Trains an ``mf`` router on how hard prompts are, without any model's answers.

A label is a prompt's difficulty on the scale of its file and dataset, or which of two prompts is
harder. Both are targets of the one head of ``heads.fit_head``:

- A difficulty, standardised within file and dataset to z, is the target sigmoid(1.7 z): about the
  share of a normal distribution below it. The group is file and dataset. It weighs
  1 / (1 + (standard error / standard deviation)^2).
- A pair is a group of its own, of two rows with the targets 1 - harder and harder, which weigh 1
  together: within a group only the difference is learnt.

The router's figures are out of fold: each prompt is scored by a head that was fitted to no label of
its fold's prompts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastroute._progress import progress_bar
from fastroute.data import HarderPrompt, RatedPrompt, TrainingData
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.baselines import losses
from fastroute.routers.length import LengthRouter
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.embedder_choice import choose_embedder, embedder_kept
from fastroute.training.embedding import embed
from fastroute.training.folds import fold_numbers
from fastroute.training.heads import (
    FOLDS,
    STRONG,
    WEAK,
    Head,
    fit_head,
    router_of,
    save_mf,
    sigmoid,
)
from fastroute.training.measures import rank_correlation
from fastroute.training.outcome import check_output, data_facts
from fastroute.training.with_tokens import with_tokens, without_tokens
from fastroute.types import BoolArray, Float32Array, Float64Array, Int64Array

#: Labelled prompts below which nothing can be said.
LEAST_PROMPTS = 50
#: Prompts of a file and dataset, or pairs, below which they are not in the figures.
LEAST_MEASURED = 20
PAIRS = "share of pairs in order"
_NORMAL = 1.7  # sigmoid(1.7 z) is within 0.01 of the normal distribution function


class Figure(NamedTuple):
    """How well held-out prompts were ordered."""

    #: "rank correlation" (Spearman's, mean over files and datasets by prompts) or PAIRS, the share
    #: of pairs whose harder prompt has the higher win rate.
    measure: str
    labels: int  #: number of prompts, once for each dataset they are in, or of pairs
    #: router, length: the value of the router, and of the prompt's length.
    router: float
    length: float


@dataclass(frozen=True)
class DifficultyTraining:
    """A router trained on difficulty and saved, and how it did on held-out prompts.

    Attributes:
        router: the router.
        folder: where it was saved.
        figures: one for each kind of label.
        prompts: number of prompts that it learnt from.
    """

    router: MatrixFactorizationRouter
    folder: Path
    figures: Sequence[Figure]
    prompts: int

    def table(self) -> str:
        """The figures as a Markdown table."""
        lines = [
            f"held out: {self.prompts:,} prompts in {FOLDS} folds",
            "",
            "| held out | router | prompt's length |",
            "|---|---:|---:|",
        ]
        for figure in self.figures:
            what = f"{figure.measure} ({figure.labels:,})"
            lines.append(f"| {what} | {figure.router:.4f} | {figure.length:.4f} |")
        return "\n".join(lines)

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on held-out prompts, in words."""
        return [
            loss
            for figure in self.figures
            for loss in losses(
                figure.router, figure.length, measure=figure.measure,
                random=0.5 if figure.measure == PAIRS else 0.0,
            )
        ]  # fmt: skip


def train_mf_on_difficulty(
    data: TrainingData,
    output: str | os.PathLike[str],
    *,
    embedder: str = "default",
    strong_model: str | None = None,
    weak_model: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
) -> DifficultyTraining:
    """Train an ``mf`` router on labels of difficulty, save it, and measure it.

    Its win rate says how hard a prompt is among those that it learnt from: harder prompts go to the
    strong model.

    Args:
        data: from ``fastroute.data.read_training_data(..., difficulty=True)``.
        output: the folder to write.
        embedder: "default" (the bundled one), "static:FOLDER" or "onnx:FOLDER".
        strong_model, weak_model: names of the router's pair; "strong" and "weak" by default.
        seed: of the folds.
        overwrite: replace what is in ``output``.
        progress: show progress bars on a terminal.
        facts: further facts to record in the artifact, plain JSON.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    folder = check_output(output, overwrite=overwrite)
    if data.battles or data.graded:
        raise InvalidInputError(
            f"the data has {len(data.rated) + len(data.harder):,} labels of difficulty and "
            f"{len(data.battles) + len(data.graded):,} labels of models' answers; train a router "
            "on one kind"
        )
    strong, weak = strong_model or STRONG, weak_model or WEAK
    if strong == weak:
        raise InvalidInputError(f"strong_model and weak_model are both {strong!r}")
    labels = _labels_of(data.rated, data.harder, list(data.prompts))
    chosen, embedder_source = choose_embedder(embedder, folder)
    X = embed(chosen, labels.prompts, progress=progress)
    said = with_tokens(X, chosen)
    labels = labels.where(said[labels.rows])
    known = np.unique(labels.rows)
    if len(known) < LEAST_PROMPTS:
        raise InvalidInputError(
            f"there are {len(known)} prompts with a label of difficulty, where {LEAST_PROMPTS} are "
            f"needed{without_tokens(said)}; give more data"
        )
    folds = fold_numbers(labels.prompts, FOLDS, seed)
    win_rates = np.full(len(X), np.nan)
    with progress_bar(FOLDS + 1, "train", unit="fold", shown=progress) as advance:
        for fold in range(FOLDS):
            held = folds == fold
            head = _fit(labels.without(held), X, chosen.signals, seed)
            win_rates[held] = sigmoid(X[held].astype(np.float64) @ head.pair)
            advance()
        head = _fit(labels, X, chosen.signals, seed)
        advance()
    head = replace(head, held_out_win_rates=win_rates[known])
    router = router_of(head, labels.prompts, chosen, strong, weak)
    found = _figures(labels, win_rates)
    result = DifficultyTraining(router, folder, found, len(known))
    of_data = data_facts(data)
    recorded = {
        "data": of_data,
        "settings": {"kind": "difficulty", "seed": seed, **(facts or {})},
        "slope": head.slope,
        "level": head.level,
        "ridge": head.ridge,
        "figures": [figure._asdict() for figure in found],
    }
    with embedder_kept(chosen, embedder_source, folder):
        save_mf(folder, router, training=recorded, card=_card(result, of_data))
    return result


def difficulty_vector(
    rated: Sequence[RatedPrompt],
    harder: Sequence[HarderPrompt],
    embedder: Embedder,
    *,
    seed: int = 0,
) -> Float64Array:
    """The pair vector that labels of difficulty teach, float64[d]: win rate = sigmoid(it . x).

    Raises InvalidInputError where no prompt has a token that the embedder knows, or the prompts do
    not fill three folds.
    """
    prompts = [label.prompt for label in rated]
    prompts += [prompt for pair in harder for prompt in (pair.prompt, pair.prompt_b)]
    labels = _labels_of(rated, harder, list(dict.fromkeys(prompts)))
    X = embed(embedder, labels.prompts)
    return _fit(labels.where(with_tokens(X, embedder)[labels.rows]), X, embedder.signals, seed).pair


class _Labels(NamedTuple):
    """n labels of r prompts."""

    prompts: list[str]  #: r of them
    rows: Int64Array  #: int64[n], prompt of each label
    #: int64[n]; only differences within a group are learnt. Pairs come last, two labels each.
    groups: Int64Array
    #: targets, weights: float64[n].
    targets: Float64Array
    weights: Float64Array
    paired: BoolArray  #: bool[n], whether it is half of a pair

    def where(self, kept: BoolArray) -> _Labels:
        """The labels ``kept``; of a pair both or none."""
        broken = self.paired & np.isin(self.groups, self.groups[~kept])
        kept = kept & ~broken
        return _Labels(
            self.prompts, self.rows[kept], self.groups[kept], self.targets[kept],
            self.weights[kept], self.paired[kept],
        )  # fmt: skip

    def without(self, held: BoolArray) -> _Labels:
        """The labels of no prompt that is held out, bool[r]."""
        return self.where(~held[self.rows])


def _labels_of(
    rated: Sequence[RatedPrompt], harder: Sequence[HarderPrompt], prompts: list[str]
) -> _Labels:
    number: dict[str, int] = {prompt: i for i, prompt in enumerate(prompts)}
    members: dict[str, list[RatedPrompt]] = {}
    for label in rated:
        members.setdefault(label.group, []).append(label)
    columns: list[tuple[int, int, float, float, bool]] = []
    for group, rows in enumerate(members.values()):
        difficulty = np.array([row.difficulty for row in rows], dtype=np.float64)
        spread = float(difficulty.std())
        if spread == 0.0:
            continue  # nothing is said of which is harder
        targets = sigmoid(_NORMAL * (difficulty - difficulty.mean()) / spread)
        errors = np.array([row.standard_error for row in rows]) / spread
        for row, target, error in zip(rows, targets.tolist(), errors.tolist(), strict=True):
            columns.append((number[row.prompt], group, target, 1.0 / (1.0 + error**2), False))
    for group, pair in enumerate(harder, start=len(members)):
        columns.append((number[pair.prompt], group, 1.0 - pair.harder, 0.5, True))
        columns.append((number[pair.prompt_b], group, pair.harder, 0.5, True))
    rows_, groups, targets_, weights, paired = zip(*columns, strict=True) if columns else ([],) * 5
    return _Labels(
        prompts,
        np.array(rows_, dtype=np.int64),
        np.array(groups, dtype=np.int64),
        np.array(targets_, dtype=np.float64),
        np.array(weights, dtype=np.float64),
        np.array(paired, dtype=np.bool_),
    )


def _fit(labels: _Labels, X: Float32Array, signals: int, seed: int) -> Head:
    folds = fold_numbers(labels.prompts, FOLDS, seed + 1)
    return fit_head(
        X[labels.rows],
        labels.targets,
        group_ids=np.unique(labels.groups, return_inverse=True)[1].astype(np.int64),
        weights=labels.weights,
        fold_ids=folds[labels.rows],
        signals=signals,
    )


def _figures(labels: _Labels, win_rates: Float64Array) -> list[Figure]:
    """Figures of win rates out of fold, float64[r], beside those of the length."""
    lengths = LengthRouter().win_rates(labels.prompts)
    found = []
    correlations: list[tuple[int, float, float]] = []
    for group in np.unique(labels.groups[~labels.paired]):
        mine = labels.groups == group
        rows, targets = labels.rows[mine], labels.targets[mine]
        if len(rows) >= LEAST_MEASURED:
            own = rank_correlation(win_rates[rows], targets)
            correlations.append((len(rows), own, rank_correlation(lengths[rows], targets)))
    if correlations:
        counts = [count for count, _, _ in correlations]
        router, length = np.average([row[1:] for row in correlations], axis=0, weights=counts)
        found.append(Figure("rank correlation", sum(counts), float(router), float(length)))
    first, second = labels.rows[labels.paired].reshape(-1, 2).T
    harder = labels.targets[labels.paired].reshape(-1, 2)[:, 1]
    decided = harder != 0.5
    if decided.sum() >= LEAST_MEASURED:
        shares = []
        for x in (win_rates, lengths):
            lead = np.sign(x[second] - x[first])[decided]
            right = np.where(lead == 0.0, 0.5, lead == np.sign(harder[decided] - 0.5))
            shares.append(float(right.mean()))
        found.append(Figure(PAIRS, int(decided.sum()), *shares))
    if not found:
        raise InvalidInputError(
            f"no dataset of a file has {LEAST_MEASURED} prompts with a difficulty, and there are "
            f"fewer than {LEAST_MEASURED} pairs with a harder prompt, so nothing can be measured; "
            "give more data"
        )
    return found


def _card(result: DifficultyTraining, data: Mapping[str, Any]) -> str:
    router = result.router
    assert router.embedder is not None
    files = ", ".join(f["file"] for f in data["files"])
    lost = "".join(f"\n**Warning:** {reason}.\n" for reason in result.losses())
    return f"""# An mf router trained on judged difficulty

Trained by fastroute on {data["difficulty"]:,} labels of how hard prompts are, {result.prompts:,}
prompts in all, from {files}. Embedder: `{router.embedder.name}`.
Default pair: {router.strong_model} (strong), {router.weak_model} (weak); no answer was seen.

{result.table()}
{lost}
Each held-out prompt was scored by a head that had seen no label of its fold. `artifact.json` has
what was removed from the data and all settings under `training`.
"""
