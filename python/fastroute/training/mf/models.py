"""Trains ``mf`` routers between any number of models, and measures them on held-out prompts.

1. Some prompts are held out, by their text: half to stop by and to set slope and level, half for
   the figures alone.
2. The factors are learnt (``factorization``) from embeddings centred within each dataset, or over
   all.
3. Levels: how good each model is whatever the prompt. Bradley-Terry strengths beside the factors'
   scores, in place of the levels by dataset, which no prompt to come has.
4. Slope and level of the whole, two numbers, by cross-entropy on the first held-out half: that
   calibrates the win rate.

A model's scores are then a vector: factors times slope, plus its strength along the vector whose
product with every embedding is nearest 1 (``heads.constant_vector``). Data of two models need none
of this: the linear head (``heads.fit_head``) fits the one difference exactly and calibrates itself,
so that all prompts that are held out are for the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastroute.artifacts import hash_prompts
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.policy import calibrated
from fastroute.provenance import Provenance
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.folds import fold_numbers
from fastroute.training.heads import (
    FOLDS,
    constant_vector,
    fit_head,
    fit_scale,
)
from fastroute.training.mf.checkpoint import fingerprint, load_state, save_state
from fastroute.training.mf.factorization import NAMES, Settings, State, learn, start
from fastroute.training.mf.held_out import Figures, figures, length_apgr
from fastroute.training.pairs import TIES, Pairs, Ties, held_out_parts
from fastroute.training.strengths import fit_strengths
from fastroute.training.with_tokens import with_tokens, without_tokens
from fastroute.types import Float32Array, Float64Array, Int64Array

#: Prompts of each part, and to learn from, below which nothing can be said.
LEAST_PROMPTS = 10
#: Share held out, and how many prompts of each part it is raised to where there are few.
HELD_OUT = 0.1
_FEW_PROMPTS = 15
# Ridge of the strengths.
_STRENGTH_RIDGE = 1.0


@dataclass(frozen=True, slots=True)
class TrainedModels:
    """A trained router, and how it did."""

    router: MatrixFactorizationRouter  #: scores every model; its default pair is ``pair_of``'s
    figures: Figures  #: on the second half of the held-out prompts
    levels_alone: Figures  #: the same of strengths alone, which send all prompts to one model
    length_apgr: float | None  #: mean APGR of sending longer prompts to the stronger model, or None
    state: State | None  #: of learning; None for two models
    #: slope, level: what the factors' scores and the strengths were multiplied by.
    slope: float
    level: float
    held_out: float  #: share of the prompts that was held out


def train_models(
    pairs: Pairs,
    X: Float32Array,
    embedder: Embedder | None,
    *,
    settings: Settings | None = None,
    centre: bool = False,
    ties: Ties = "use",
    held_out: float | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
    journal: Path | None = None,
    resume: bool = False,
    after_epoch: Callable[[State], None] = lambda _: None,
) -> TrainedModels:
    """Train an ``mf`` router on ``pairs``.

    Args:
        pairs: of two models or more.
        X: float32[r, d], embeddings of the rows' prompts by ``embedder``. Rows of zeros (prompts
            without any token) are not learnt from.
        embedder: the router's; None for one that scores embeddings only.
        settings: of the factors; its seed also holds prompts out.
        centre: learn only differences within a dataset.
        ties: "use" them as half a win each, or "drop" them. Held-out ties count always.
        held_out: share of the prompts held out, above 0 and at most 0.5; by default 0.1, or more
            where that would be fewer than 15 prompts a part.
        strong_model, weak_model: the router's pair; by default the strongest model, and the one in
            the middle.
        journal: folder in which the state is kept after each epoch.
        resume: go on from the state in it.
        after_epoch: is called after each epoch.

    Raises InvalidInputError for too few prompts or models, an unknown model, or a journal of
    another training.
    """
    settings = settings or Settings()
    check_request(
        pairs, ties=ties, held_out=held_out, strong_model=strong_model, weak_model=weak_model
    )
    said = with_tokens(X, embedder)
    two = len(pairs.models) == 2
    share = held_out
    if share is None:
        few = _FEW_PROMPTS * (1 if two else 2) / len(pairs.prompts)
        share = min(max(HELD_OUT, few), 0.5)
    stop, test = held_out_parts(pairs.prompts, share, settings.seed)
    if two:
        stop, test = np.zeros_like(stop), stop | test
    parts = [pairs.of_rows(said & part) for part in (~(stop | test), stop, test)]
    if ties == "drop":
        parts[0] = parts[0].where(parts[0].decided)
    for part, what in zip(parts, ("to learn from", "to stop by", "for the figures"), strict=True):
        needed = 0 if two and what == "to stop by" else LEAST_PROMPTS
        if (count := len(np.unique(part.rows))) < needed:
            raise InvalidInputError(
                f"there are {count} prompts {what}, where {needed} are needed"
                f"{without_tokens(said)}; give more data, or another share than "
                f"held_out={share:g}"
            )
    learnt, stopping, testing = parts
    u = constant_vector(X[said].astype(np.float64), np.ones(int(said.sum())))
    alone = strength = strengths(learnt, np.zeros(len(learnt)))
    state: State | None = None
    held_out_rates: Float64Array | None = None
    if two:
        matrix, scales, held_out_rates = _of_two(
            learnt, X, settings, centre, embedder.signals if embedder else 0
        )
    else:
        centred = _centred(X, pairs, np.unique(learnt.rows), centre)
        groups = pairs.groups if centre else ("",)
        of_groups = [_in_groups(part, centre) for part in parts]
        belongs_to = fingerprint(of_groups[0], of_groups[1], centred[0], settings)
        if journal is not None and resume:
            state = load_state(journal, belongs_to)
        else:
            state = start(settings, X.shape[1], len(pairs.models), len(groups))

        def keep(now: State) -> None:
            if journal is not None:
                save_state(journal, now, belongs_to)
            after_epoch(now)

        state = learn(state, centred[0], of_groups[0], of_groups[1], settings, keep)
        U, V, _ = (state.arrays[f"best.{name}"].astype(np.float64) for name in NAMES)
        matrix, strength, scales = _calibrated(V @ U / centred[1], u, X, learnt, stopping)
    margins = _margins(matrix, X, testing)
    strong, weak = pair_of(pairs.models, strength, strong_model, weak_model)
    router = MatrixFactorizationRouter.of_vectors(
        pairs.models, matrix.astype(np.float32), strong_model=strong, weak_model=weak,
        embedder=embedder,
    )  # fmt: skip
    if held_out_rates is None:
        held_out_rates = router.win_rates_from_embeddings(X[said & (stop | test)])
    elif strong != pairs.models[1]:
        held_out_rates = 1.0 - held_out_rates
    known = calibrated(
        Provenance(trained_on=hash_prompts(pairs.prompts)),
        held_out_rates,
        calibrated_on=f"{len(held_out_rates):,} held-out prompts",
    )
    return TrainedModels(
        router.with_provenance(known),
        figures(testing, margins, strength),
        figures(testing, alone[testing.b] - alone[testing.a], alone),
        length_apgr(testing, alone),
        state,
        *scales,
        share,
    )


def strengths(pairs: Pairs, offset: Float64Array) -> Float64Array:
    """Bradley-Terry strength of each model, float64[models], natural logarithm of odds, mean 0.

    Beside ``offset``, float64[n], the part of each pair's margin that is known.
    """
    return fit_strengths(
        pairs.a, pairs.b, pairs.preference, pairs.weights, len(pairs.models),
        ridge=_STRENGTH_RIDGE, offset=offset,
    )  # fmt: skip


def pair_of(
    models: Sequence[str],
    strength: Float64Array,
    strong_model: str | None = None,
    weak_model: str | None = None,
) -> tuple[str, str]:
    """The names given, by default the strongest model and the one in the middle.

    Raises InvalidInputError for a model that is not there, or one model twice.
    """
    order: list[int] = np.argsort(-strength, kind="stable").tolist()
    for argument, model in (("strong_model", strong_model), ("weak_model", weak_model)):
        if model is not None and model not in models:
            raise InvalidInputError(
                f"{argument} is {model!r}, which the data does not have; it has "
                f"{', '.join(models[i] for i in order[:10])}{' ...' if len(models) > 10 else ''}"
            )
    strong = strong_model or next(models[i] for i in order if models[i] != weak_model)
    middle = [models[i] for i in order[len(order) // 2 :]] + [models[i] for i in order[::-1]]
    weak = weak_model or next(model for model in middle if model != strong)
    if strong == weak:
        raise InvalidInputError(
            f"strong_model and weak_model are both {strong!r}; name two different models"
        )
    return strong, weak


def check_request(
    pairs: Pairs,
    *,
    ties: object = "use",
    held_out: float | None = None,
    strong_model: str | None = None,
    weak_model: str | None = None,
) -> None:
    """Raise InvalidInputError for arguments of ``train_models`` that would be refused at its end.

    Embedding and training may take hours: what can be known before them is said before them.
    """
    if ties not in TIES:
        raise InvalidInputError(f"ties must be one of {', '.join(TIES)}, got {ties!r}")
    if held_out is not None and not 0.0 < held_out <= 0.5:
        raise InvalidInputError(f"held_out must be above 0 and at most 0.5, got {held_out}")
    if not len(pairs):
        raise InvalidInputError(
            "no prompt has two models to compare; give battles, or scores of two models a prompt"
        )
    # Of the strengths only the order is used, and names are checked without any.
    pair_of(pairs.models, np.zeros(len(pairs.models)), strong_model, weak_model)


def _in_groups(pairs: Pairs, centre: bool) -> Pairs:
    if centre:
        return pairs
    none = np.zeros_like(pairs.group_ids)
    return Pairs(
        pairs.models, pairs.prompts, ("",), none, pairs.rows, pairs.a, pairs.b, pairs.preference,
        pairs.weights,
    )  # fmt: skip


def _centred(
    X: Float32Array, pairs: Pairs, learnt: Int64Array, centre: bool
) -> tuple[Float32Array, float]:
    """X less the mean of each dataset's rows that are learnt from, at a root mean square of 1.

    Returns it, and what it was divided by.
    """
    ids = _in_groups(pairs, centre).group_ids
    count = len(pairs.groups)
    rows = ids[learnt]
    means = np.zeros((count, X.shape[1]))
    np.add.at(means, rows, X[learnt].astype(np.float64))
    means /= np.maximum(np.bincount(rows, minlength=count), 1)[:, None]
    less = X - means[ids]
    scale = float(np.sqrt(np.mean(less[learnt] ** 2))) or 1.0
    return (less / scale).astype(np.float32), scale


def _margins(matrix: Float64Array, X: Float32Array, pairs: Pairs) -> Float64Array:
    """Score of b less score of a, float64[n]."""
    rows = np.unique(pairs.rows)
    scores = X[rows].astype(np.float64) @ matrix.T
    local = np.searchsorted(rows, pairs.rows)
    return scores[local, pairs.b] - scores[local, pairs.a]


def _calibrated(
    factors: Float64Array,
    u: Float64Array,
    X: Float32Array,
    learnt: Pairs,
    stopping: Pairs,
) -> tuple[Float64Array, Float64Array, tuple[float, float]]:
    """The vectors of all models [models, d], their strengths, and slope and level."""
    # So that strengths mean the same with and without factors: a factor's mean score is 0.
    mean_score = X[np.unique(learnt.rows)].astype(np.float64) @ factors.T
    factors = factors - np.outer(mean_score.mean(axis=0), u)
    strength = strengths(learnt, _margins(factors, X, learnt))
    along = np.outer(strength, u)
    F = np.stack([_margins(factors, X, stopping), _margins(along, X, stopping)], axis=1)
    slope, level = fit_scale(F, stopping.preference, stopping.weights)
    level = max(float(level), 0.0)
    return slope * factors + level * along, level * strength, (float(slope), level)


def _of_two(
    learnt: Pairs, X: Float32Array, settings: Settings, centre: bool, signals: int
) -> tuple[Float64Array, tuple[float, float], Float64Array]:
    """The vectors of two models, slope and level, and held-out win rates of the second model."""
    second = learnt.preference.copy()
    swapped = learnt.a > learnt.b
    second[swapped] = 1.0 - second[swapped]
    ids = _in_groups(learnt, centre).group_ids[learnt.rows]
    head = fit_head(
        X[learnt.rows],
        second,
        group_ids=np.unique(ids, return_inverse=True)[1].astype(np.int64),
        weights=learnt.weights,
        fold_ids=fold_numbers([learnt.prompts[row] for row in learnt.rows], FOLDS, settings.seed),
        signals=signals,
    )
    vectors = np.stack([-head.pair / 2.0, head.pair / 2.0])
    return vectors, (head.slope, head.level), head.held_out_win_rates
