"""The ``sw_ranking`` router: similarity-weighted Elo over past battles (Ong et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute._arrays import check_array, check_length
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError, InvalidTypeError, NotFittedError, RatingError
from fastroute.neighbors import NeighborIndex
from fastroute.routers.base import EmbeddingRouter, check_embedder
from fastroute.types import WINNERS, Float32Array, Float64Array

Mode = Literal["exact"]
MODES: tuple[Mode, ...] = ("exact",)

#: Elo = 400 / ln 10 * rating + 1000, shifted so that this model, where present, has 1082.
_ELO_PER_RATING = 400.0 / math.log(10.0)
_ELO_ANCHOR = ("llama-2-70b-chat", 1082.0)
_ELO_ORIGIN = 1000.0

_OUTCOMES = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0}


class SimilarityWeightedRouter(EmbeddingRouter):
    """Rates the models on past battles, each weighted by its similarity to the prompt.

    At ``fit``: Bradley-Terry ratings of all models, cut into ``num_tiers`` tiers that minimise
    the summed variance of ratings. For a prompt q: s_i = cos(e_i, q) for every battle,
    w_i = 10 * 10^(s_i / max s), Bradley-Terry ratings R of the tiers with those weights (a tie is
    half a win each), win rate = 1 - 1 / (1 + 10^((R_strong - R_weak) / 400)). Source: arXiv
    2406.18665, section 4.1, and RouteLLM's code.

    Args:
        strong_model, weak_model: the pair to score; both must occur in the battles.
        num_tiers: number of tiers, at most the number of models.
        strict: reproduce RouteLLM's code, which takes a battle within one tier for evidence on
            that tier's own rating. By default such a battle says nothing, as in the formula.
        mode: "exact" looks at every battle for every prompt.
        embedder: makes prompt embeddings; needed for text only.
        num_threads: threads for one prompt.

    Where no battle has a positive similarity to the prompt, or its weights leave the tiers
    unconnected, the weights mean nothing: the win rate is that of equal weights
    (``win_rate_without_signal``), or with ``strict`` a RatingError.

    Learned by ``fit``: ``model_ratings_`` (Elo by model, best first), ``model_tiers_`` (tier by
    model, 0 the best), ``tier_ratings_`` (Elo of the tiers at equal weights, float64[num_tiers]).
    """

    name = "sw_ranking"

    def __init__(
        self,
        *,
        strong_model: str = "gpt-4-1106-preview",
        weak_model: str = "mixtral-8x7b-instruct-v0.1",
        num_tiers: int = 10,
        strict: bool = False,
        mode: Mode = "exact",
        embedder: Embedder | None = None,
        num_threads: int = 1,
    ) -> None:
        if mode not in MODES:
            raise InvalidInputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if (
            isinstance(num_tiers, bool)
            or not isinstance(num_tiers, int)
            or not 1 <= num_tiers <= _native.MOST_TIERS
        ):
            raise InvalidInputError(
                f"num_tiers must be an int from 1 to {_native.MOST_TIERS}, got {num_tiers!r}"
            )
        self.strong_model, self.weak_model = strong_model, weak_model
        self.num_tiers = num_tiers
        if not isinstance(strict, bool):
            raise InvalidTypeError(f"strict must be True or False, got {strict!r}")
        self.strict = strict
        self.mode = mode
        self.embedder = check_embedder(embedder)
        self.num_threads = _native.check_num_threads(num_threads)
        self._index: NeighborIndex | None = None

    def fit(
        self,
        embeddings: Float32Array,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
    ) -> SimilarityWeightedRouter:
        """Learn from n battles.

        Args:
            embeddings: float32[n, d], C-contiguous, one prompt embedding a battle, of any length
                but zero. Copied once, scaled to length one, into a FAISS index.
            model_a, model_b: n model names each.
            winner: n of "model_a", "model_b", "tie", "tie (bothbad)".

        Raises InvalidInputError for malformed input, RatingError where the battles have no finite
        ratings (a model that only won or only lost, or groups that never met).
        """
        check_array("embeddings", embeddings, np.float32, 2)
        names_a, names_b = _names("model_a", model_a), _names("model_b", model_b)
        outcome = _outcomes(winner)
        if not len(embeddings) == len(names_a) == len(names_b) == len(outcome) > 0:
            raise InvalidInputError(
                "embeddings, model_a, model_b and winner must have the same length, at least 1, "
                f"got {len(embeddings)}, {len(names_a)}, {len(names_b)} and {len(outcome)}"
            )
        models, ids = np.unique(np.concatenate([names_a, names_b]), return_inverse=True)
        a, b = ids[: len(names_a)], ids[len(names_a) :]
        if (a == b).any():
            i = int(np.argmax(a == b))
            raise InvalidInputError(
                f"battle {i} is of {str(names_a[i])!r} with itself; drop battles of a model with "
                "itself"
            )
        for argument, model in (
            ("strong_model", self.strong_model),
            ("weak_model", self.weak_model),
        ):
            if model not in models:
                raise InvalidInputError(
                    f"{argument} is {model!r}, which is in no battle; the battles are between "
                    f"{', '.join(map(str, models[:8]))}{' ...' if len(models) > 8 else ''}"
                )
        if len(models) < self.num_tiers:
            raise InvalidInputError(
                f"num_tiers is {self.num_tiers}, more than the {len(models)} models in the "
                f"battles; pass num_tiers={len(models)} or fewer"
            )

        elo = _elo(models, a, b, outcome)
        order = np.argsort(-elo, kind="stable")
        tier_of_sorted = _native.cut_rating_tiers(elo[order], self.num_tiers)
        tiers = np.empty_like(tier_of_sorted)
        tiers[order] = tier_of_sorted

        cells = _native.battle_cells(tiers[a], tiers[b], outcome, self.num_tiers)
        cell_sums = np.bincount(cells, minlength=2 * self.num_tiers**2 + self.num_tiers)
        tier_ratings = _native.rate_cells(
            cell_sums.astype(np.float64), self.num_tiers, self.strict, np.zeros(self.num_tiers)
        )
        index = NeighborIndex(embeddings.shape[1])
        index.add(embeddings)

        # The battles keep the index alive: a refit must not free it under another thread's query.
        self._battles = _native.TieredBattles(
            index.rows(), cells, self.num_tiers, self.strict, owner=index
        )
        self._index = index
        self._start = tier_ratings
        self._strong = int(tiers[np.searchsorted(models, self.strong_model)])
        self._weak = int(tiers[np.searchsorted(models, self.weak_model)])
        self.model_ratings_ = {str(models[i]): float(elo[i]) for i in order}
        self.model_tiers_ = {str(models[i]): int(tiers[i]) for i in order}
        self.tier_ratings_ = _ELO_PER_RATING * tier_ratings + _ELO_ORIGIN
        return self

    def win_rate_from_embedding(self, x: Float32Array) -> float:
        """Win rate for one prompt embedding, float32[d]."""
        return self._win_rate(x, self.num_threads)

    def win_rates_from_embeddings(
        self, X: Float32Array, *, num_threads: int | None = None
    ) -> Float64Array:
        self._check_fitted()
        threads = self.num_threads if num_threads is None else num_threads
        check_array("X", X, np.float32, 2)
        check_length("X", X, self._battles.dimensions, "the router")
        rates = np.empty(len(X))
        for i, x in enumerate(X):  # milliseconds each, so Ctrl-C is heard in between
            try:
                rates[i] = self._win_rate(x, threads)
            except InvalidInputError as error:
                raise type(error)(f"X[{i}]: {error}") from None
        return rates

    @property
    def win_rate_without_signal(self) -> float:
        """Win rate at equal weights: what the battles say when the prompt says nothing."""
        self._check_fitted()
        return self._preference(self._start)

    def _win_rate(self, x: Float32Array, num_threads: int) -> float:
        self._check_fitted()
        ratings, status = self._battles.rate(x, self._start, num_threads)
        if status == "converged":
            return self._preference(ratings)
        if self.strict:
            raise RatingError(
                "no finite rating for this prompt: "
                + (
                    "no battle has a positive similarity to it"
                    if status == "nothing_similar"
                    else "its weights leave the tiers unconnected"
                )
            )
        return self.win_rate_without_signal

    def _preference(self, ratings: Float64Array) -> float:
        # 1 - 1 / (1 + 10^((R_s - R_w) / 400)), with R in Elo, is the sigmoid of the difference;
        # written so that no difference overflows and the win rate of a sure loss keeps its digits.
        odds = math.exp(-abs(ratings[self._strong] - ratings[self._weak]))
        strong_leads = ratings[self._strong] >= ratings[self._weak]
        return 1.0 / (1.0 + odds) if strong_leads else odds / (1.0 + odds)

    def _check_fitted(self) -> None:
        if self._index is None:
            raise NotFittedError(
                "this sw_ranking router has no battles; call fit(embeddings, model_a, model_b, "
                "winner) first"
            )


def _names(argument: str, values: Sequence[str]) -> npt.NDArray[np.str_]:
    # Looked at before NumPy sees them: it would write a number as a string.
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidTypeError(
            f"{argument} must be a sequence of str, one a battle, got {values!r}"
        )
    names = list(values)
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise InvalidTypeError(f"{argument}[{i}] must be a str, got {name!r}")
    return np.array(names, dtype=np.str_)


def _outcomes(winner: Sequence[str]) -> npt.NDArray[np.int8]:
    names = _names("winner", winner)
    outcomes = np.empty(len(names), dtype=np.int8)
    for i, value in enumerate(names):
        if value not in _OUTCOMES:
            raise InvalidInputError(
                f"winner[{i}] is {str(value)!r}; it must be one of {', '.join(map(repr, WINNERS))}"
            )
        outcomes[i] = _OUTCOMES[value]
    return outcomes


def _elo(
    models: npt.NDArray[np.str_],
    a: npt.NDArray[np.intp],
    b: npt.NDArray[np.intp],
    outcome: npt.NDArray[np.int8],
) -> Float64Array:
    """Elo of every model from all battles at equal weight, float64[models]."""
    count = len(models)
    winner, loser = np.where(outcome >= 0, a, b), np.where(outcome >= 0, b, a)
    decided = np.where(outcome == 0, 1.0, 2.0)
    won = np.bincount(winner * count + loser, decided, count * count)
    tied = outcome == 0
    won_back = np.bincount(b[tied] * count + a[tied], minlength=count * count)
    wins = (won + won_back).astype(np.float64).reshape(count, count)
    groups = _native.rating_groups(wins)
    if groups.max() > 0:
        small = np.argmin(np.bincount(groups))
        members = ", ".join(map(str, models[groups == small][:5]))
        raise RatingError(
            f"no finite ratings: against all others, {members} only won, only lost or never met "
            f"(there are {groups.max() + 1} such groups); drop the battles of those models or add "
            "some that connect them"
        )
    elo = _ELO_PER_RATING * _native.fit_bradley_terry(wins) + _ELO_ORIGIN
    anchor, rating = _ELO_ANCHOR
    at = np.flatnonzero(models == anchor)
    if at.size:
        elo += rating - elo[at[0]]
    shifted: Float64Array = elo
    return shifted
