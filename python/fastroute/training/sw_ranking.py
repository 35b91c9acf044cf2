"""Fits ``sw_ranking`` routers to training data, with thresholds measured on held-out prompts."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._progress import progress_bar
from fastroute.artifacts import hash_prompts
from fastroute.data import TrainingData
from fastroute.data.battles import LEAST_PROMPT_CHARACTERS
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.baselines import length_apgr, losses
from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error
from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.sw_ranking.battle_table import rate_models
from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter
from fastroute.training.embedder_choice import choose_embedder, embedder_kept
from fastroute.training.embedding import embed
from fastroute.training.graded_battles import PER_PROMPT, comparable, graded_battles
from fastroute.training.mf.held_out import LEAST_PROMPTS
from fastroute.training.mf.models import pair_of
from fastroute.training.outcome import check_output
from fastroute.training.pairs import held_out_parts
from fastroute.training.with_tokens import with_tokens
from fastroute.types import Battle, BoolArray, Float32Array, Float64Array

MOST_TIERS = 10
#: Held-out prompts that are scored: enough for the quantiles, and seconds in exact mode.
MOST_SCORED = 2000
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class RankingFigures:
    """How a router fitted without them did on held-out prompts.

    Attributes:
        prompts: how many were scored.
        pairs: battles between the router's pair among them.
        log_loss: of those battles, in nats; NaN without any.
        calibration_error: of those battles; NaN without any.
        constant_log_loss: of those battles by their own mean, in nats: what a router that knows
            nothing of prompts can reach; NaN without any.
    """

    prompts: int
    pairs: int
    log_loss: float
    calibration_error: float
    constant_log_loss: float = float("nan")
    apgr: float | None = None
    length_apgr: float | None = None


def battles_of(data: TrainingData, per_prompt: int = PER_PROMPT) -> tuple[list[Battle], list[str]]:
    """The battles of ``data`` that can be rated, and the models left out.

    Graded results give battles as ``graded_battles`` draws them; prompts of under 16 characters
    give none. Raises InvalidInputError where none is left.
    """
    if per_prompt < 1:
        raise InvalidInputError(f"per_prompt must be at least 1, got {per_prompt}")
    battles = [battle.as_battle() for battle in data.battles]
    for row in data.graded:
        battles += graded_battles(row, per_prompt, aliases={})
    long = [b for b in battles if len(b.prompt.strip()) >= LEAST_PROMPT_CHARACTERS]
    kept, left_out = comparable(long) if long else ([], [])
    if not kept:
        raise InvalidInputError(
            "no battles can be rated: models must have won and lost against each other, on prompts "
            f"of at least {LEAST_PROMPT_CHARACTERS} characters"
        )
    return kept, left_out


@dataclass(frozen=True)
class RankingTraining:
    """A fitted and saved ``sw_ranking`` router, and how it did on held-out prompts.

    Attributes:
        router: fitted to all battles.
        folder: where it was saved.
        battles: how many it was fitted to.
        left_out: models that could not be compared with the rest.
        figures: of a router fitted without the held-out prompts.
    """

    router: SimilarityWeightedRouter
    folder: Path
    battles: int
    left_out: tuple[str, ...]
    figures: RankingFigures

    def losses(self) -> list[str]:
        """The baselines that the router does not beat on held-out prompts, in words."""
        figures = self.figures
        found = losses(figures.apgr, figures.length_apgr)
        own, constant = figures.log_loss, figures.constant_log_loss
        if figures.pairs and not own < constant:
            said = f"its log-loss on the pair's battles, {own:.4f}, is not below that of one"
            found.append(f"{said} constant win rate, {constant:.4f}")
        return found


def train_sw_ranking(
    data: TrainingData,
    output: str | os.PathLike[str],
    *,
    embedder: str = "default",
    strong_model: str | None = None,
    weak_model: str | None = None,
    per_prompt: int = PER_PROMPT,
    held_out: float = 0.1,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    **options: Any,
) -> RankingTraining:
    """Fit an ``sw_ranking`` router to the battles of ``data``, save it, and measure it.

    Args:
        data: battles and graded results, from ``fastroute.data.read_training_data``.
        output: the folder to write.
        embedder: "default" (the bundled one), "static:FOLDER" or "onnx:FOLDER".
        strong_model, weak_model: the pair; by default the best rated, and the median.
        per_prompt: battles drawn from one graded result at most.
        held_out, seed: as for ``fit_ranking``.
        overwrite: replace what is in ``output``.
        progress: show progress bars on a terminal.
        options: of ``SimilarityWeightedRouter``, such as ``num_tiers``, ``mode`` and ``storage``.

    Raises InvalidInputError for arguments or data that can't be used.
    """
    folder = check_output(output, overwrite=overwrite)
    battles, left_out = battles_of(data, per_prompt)
    chosen, embedder_source = choose_embedder(embedder, folder)
    X = embed(chosen, [battle.prompt for battle in battles], progress=progress)
    about = min(MOST_SCORED, round(held_out * len({battle.prompt for battle in battles})))
    with progress_bar(max(about, 1), "score held-out", shown=progress) as advance:
        router, figures = fit_ranking(
            battles, X, chosen, strong_model=strong_model, weak_model=weak_model,
            held_out=held_out, seed=seed, progress=advance, **options,
        )  # fmt: skip
    with embedder_kept(chosen, embedder_source, folder):
        router.save(folder)
    return RankingTraining(router, folder, len(battles), tuple(left_out), figures)


def fit_ranking(
    battles: Sequence[Battle],
    X: Float32Array,
    embedder: Embedder | None,
    *,
    strong_model: str | None = None,
    weak_model: str | None = None,
    num_tiers: int | None = None,
    held_out: float = 0.1,
    seed: int = 0,
    progress: Progress = lambda _: None,
    **options: Any,
) -> tuple[SimilarityWeightedRouter, RankingFigures]:
    """A router fitted to all ``battles``, calibrated by one that did not see the held-out prompts.

    Args:
        battles: n battles that can be rated.
        X: float32[n, d], embeddings of their prompts. Zero rows are left out.
        embedder: the router's.
        strong_model, weak_model: the pair; by default the best rated, and the one in the middle.
        num_tiers: of ratings; by default 10, or as many as there are models.
        held_out: share of prompts that thresholds are measured on, 0 to 0.5; 0 for none.
        seed: of what is held out.
        progress: is called with the prompts scored.
        options: of ``SimilarityWeightedRouter``.
    """
    if not 0.0 <= held_out <= 0.5:
        raise InvalidInputError(f"held_out must be from 0 to 0.5, got {held_out}")
    said = with_tokens(X, embedder)
    battles = [battle for battle, kept in zip(battles, said, strict=True) if kept]
    X = X[said]
    models = sorted({m for battle in battles for m in (battle.model_a, battle.model_b)})
    tiers = min(MOST_TIERS, len(models)) if num_tiers is None else num_tiers
    columns = list(zip(*battles, strict=True))
    table = rate_models(len(X), columns[1], columns[2], columns[3], tiers, {})
    strong, weak = pair_of(table.models, np.asarray(table.elo), strong_model, weak_model)
    router = SimilarityWeightedRouter(
        strong_model=strong, weak_model=weak, num_tiers=tiers, embedder=embedder, **options
    )
    figures, rates = RankingFigures(0, 0, float("nan"), float("nan")), None
    if held_out > 0.0:
        first, second = held_out_parts([battle.prompt for battle in battles], held_out, seed)
        rates, figures = _held_out(router, battles, X, first | second, progress)
    known = Provenance(trained_on=hash_prompts(battle.prompt for battle in battles))
    if rates is not None and len(rates):
        known = calibrated(known, rates, calibrated_on=f"{len(rates):,} held-out prompts")
    router.fit(X, columns[1], columns[2], columns[3], provenance=known)
    return router, figures


def _held_out(
    router: SimilarityWeightedRouter,
    battles: Sequence[Battle],
    X: Float32Array,
    out: BoolArray,
    progress: Progress,
) -> tuple[Float64Array, RankingFigures]:
    """Win rates of the held-out prompts, by ``router`` fitted to the others, and its figures."""
    inside = [battle for battle, held in zip(battles, out, strict=True) if not held]
    rated = set(comparable(inside)[0]) if inside else set()
    kept = np.array([battle in rated for battle in battles]) & ~out
    rest = [battle for battle, taken in zip(battles, kept, strict=True) if taken]
    left = {m for battle in rest for m in (battle.model_a, battle.model_b)}
    missing = [m for m in (router.strong_model, router.weak_model) if m not in left]
    if missing or len(left) < router.num_tiers:
        raise InvalidInputError(
            f"held_out leaves too few battles to rate {', '.join(missing) or 'the tiers'} without "
            "the held-out prompts; give more battles, fewer num_tiers, or held_out 0 for none"
        )
    columns = list(zip(*rest, strict=True))
    router.fit(X[kept], columns[1], columns[2], columns[3])
    inside = [battle for battle, held in zip(battles, out, strict=True) if held]
    return held_out_figures(router, inside, X[out], progress)


def held_out_figures(
    router: SimilarityWeightedRouter,
    battles: Sequence[Battle],
    X: Float32Array,
    progress: Progress = lambda _: None,
) -> tuple[Float64Array, RankingFigures]:
    """Win rates of the prompts of ``battles`` by a router that was not fitted to them, and figures.

    ``X``, float32[n, d], are their embeddings; ``progress`` is called with the prompts scored.
    """
    place: dict[str, int] = {}
    for i, battle in enumerate(battles):
        place.setdefault(battle.prompt, i)
    chosen = dict(list(place.items())[:MOST_SCORED])
    rate_of = {}
    for prompt, i in chosen.items():
        rate_of[prompt] = router.win_rate_from_embedding(X[i])
        progress(1)
    predicted, won, texts = [], [], []
    for battle in battles:
        if {battle.model_a, battle.model_b} == {router.strong_model, router.weak_model}:
            if battle.prompt not in rate_of:
                continue
            strong_is_b = battle.model_b == router.strong_model
            predicted.append(rate_of[battle.prompt])
            texts.append(battle.prompt)
            for_b = {"model_a": 0.0, "model_b": 1.0}.get(battle.winner, 0.5)
            won.append(for_b if strong_is_b else 1.0 - for_b)
    rates = np.array(list(rate_of.values()), dtype=np.float64)
    if not predicted:
        return rates, RankingFigures(len(rates), 0, float("nan"), float("nan"))
    p, y = np.array(predicted), np.array(won)
    safe = np.clip(p, 1e-12, 1.0 - 1e-12)
    loss = float(np.mean(-y * np.log(safe) - (1.0 - y) * np.log1p(-safe)))
    mean = float(y.mean())
    terms = [share * math.log(share) for share in (mean, 1.0 - mean) if share > 0.0]
    error = expected_calibration_error(p, y)
    area, by_length = None, None
    if len(p) >= LEAST_PROMPTS and mean > 0.5:  # else there is no gap to recover
        area = apgr(curve(p, 1.0 - y, y))
        by_length = length_apgr(texts, 1.0 - y, y)
    return rates, RankingFigures(len(rates), len(p), loss, error, -sum(terms), area, by_length)
