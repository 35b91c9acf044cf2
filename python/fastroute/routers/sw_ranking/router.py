"""The ``sw_ranking`` router: similarity-weighted Elo over past battles (Ong et al. 2024)."""

from __future__ import annotations

import operator
import os
import threading
from collections.abc import Sequence
from typing import Literal, NoReturn, get_args

import numpy as np

from fastroute import _native
from fastroute._arrays import check_array, check_length, check_num_threads
from fastroute._validate import check_prompts
from fastroute.artifacts import check_folder, hash_prompts, read_consistently
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError, InvalidTypeError, NotFittedError, RatingError
from fastroute.provenance import Provenance
from fastroute.routers.base import EmbeddingRouter, check_embedder, check_pair
from fastroute.routers.sw_ranking import artifact
from fastroute.routers.sw_ranking.battle_table import ELO_ORIGIN, ELO_PER_RATING, rate_models
from fastroute.routers.sw_ranking.contents import OPTIONS
from fastroute.routers.sw_ranking.explanation import Explanation, NearBattle
from fastroute.routers.sw_ranking.fit import Fitted, Fitter
from fastroute.routers.sw_ranking.neighbors import STORAGES, NeighborIndex, Storage, UnitRows
from fastroute.types import WINNERS, Float32Array, Float64Array

Mode = Literal["auto", "exact", "far_field"]
MODES: tuple[Mode, ...] = get_args(Mode)

#: From so many battles on, "auto" is the far field. It is 20 times as fast at half as many, but
#: looking at all of them takes a millisecond or two, and with few in a tier it errs by over 1e-3.
FAR_FIELD_FROM = 20_000


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
        mode: "exact" looks at every battle for every prompt. "far_field" looks at the nearest and
            at moments of the rest, so that a prompt costs the same among any number of battles;
            its error depends on the data, a few 1e-4 with many battles and more with few (1.5e-3
            was seen on 3,000 random ones); ``max_error`` measures and bounds it. "auto" is
            "far_field" from 20,000 battles on, but "exact" where ``strict`` asks for RouteLLM's
            very numbers.
        embedder: makes prompt embeddings; needed for text only.
        num_threads: threads for one prompt in exact mode, and for ``fit``.
        storage: "float32", "float16" or "int8" embeddings. The smaller ones stream faster in exact
            mode; win rates move by about 1e-6 (float16) and 1e-5 (int8).
        index: a string for ``faiss.index_factory`` (inner product) that finds the nearest battles
            in the far field: "Flat", "HNSW32", "IVF1024,Flat", "HNSW32_SQ8" ... By default one that
            suits the number of battles, over the embeddings' 128 principal axes.
        index_parameters: how hard it searches, such as "nprobe=16" or "efSearch=64".
        index_in_axes: whether ``index`` holds embeddings along the principal axes, which is
            smaller and quicker, or whole. By default whole if ``index`` is given.
        max_error: the largest error of a win rate that you accept in the far field (where "auto"
            chooses exact mode there is none; with mode="exact" it is refused). ``fit`` then
            chooses its size by measuring on battles held out, reports ``measured_error_``, and
            falls back to exact mode with a warning where it can't hold the bound. None: the
            default size, not measured.

    Where no battle has a positive similarity to the prompt, or its weights leave the tiers
    unconnected, the weights mean nothing: the win rate is that of equal weights
    (``win_rate_without_signal``), or with ``strict`` a RatingError.

    Learned by ``fit``: ``model_ratings_`` (Elo by model, best first), ``model_tiers_`` (tier by
    model, 0 the best), ``tier_ratings_`` (Elo of the tiers at equal weights, float64[num_tiers]),
    ``mode_`` ("exact" or "far_field"), ``measured_error_`` (float, or None).
    """

    name = "sw_ranking"

    def __init__(
        self,
        *,
        strong_model: str = "gpt-4-1106-preview",
        weak_model: str = "mixtral-8x7b-instruct-v0.1",
        num_tiers: int = 10,
        strict: bool = False,
        mode: Mode = "auto",
        embedder: Embedder | None = None,
        num_threads: int = 1,
        storage: Storage = "float32",
        index: str | None = None,
        index_parameters: str | None = None,
        index_in_axes: bool | None = None,
        max_error: float | None = None,
    ) -> None:
        if mode not in MODES:
            raise InvalidInputError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if storage not in STORAGES:
            raise InvalidInputError(
                f"storage must be one of {', '.join(STORAGES)}, got {storage!r}"
            )
        if (
            isinstance(num_tiers, bool)
            or not isinstance(num_tiers, int)
            or not 1 <= num_tiers <= _native.MOST_TIERS
        ):
            raise InvalidInputError(
                f"num_tiers must be an int from 1 to {_native.MOST_TIERS}, got {num_tiers!r}"
            )
        if max_error is not None and (
            isinstance(max_error, bool)
            or not isinstance(max_error, (int, float))
            or not 0 < max_error < 1
        ):
            raise InvalidInputError(
                f"max_error must be a number between 0 and 1, or None, got {max_error!r}"
            )
        if mode == "exact" and max_error is not None:
            raise InvalidInputError(
                f"max_error is {max_error!r} with mode='exact', which has no error to bound; leave "
                "max_error out, or use mode='auto' or 'far_field'"
            )
        check_pair(strong_model, weak_model)
        self.strong_model, self.weak_model = strong_model, weak_model
        self.num_tiers = num_tiers
        if not isinstance(strict, bool):
            raise InvalidTypeError(f"strict must be True or False, got {strict!r}")
        if index is not None:
            NeighborIndex.check_factory(index)
        NeighborIndex.check_parameters(index_parameters)
        self.strict = strict
        self.mode = mode
        self.embedder = check_embedder(embedder)
        self.num_threads = check_num_threads(num_threads)
        self.storage: Storage = storage
        self.index = index
        self.index_parameters = index_parameters
        self.index_in_axes = index is None if index_in_axes is None else bool(index_in_axes)
        self.max_error = max_error
        self.measured_error_: float | None = None
        self._fitted: Fitted | None = None
        self._writing = threading.Lock()

    def fit(
        self,
        embeddings: Float32Array,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        *,
        provenance: Provenance | None = None,
    ) -> SimilarityWeightedRouter:
        """Learn from n battles.

        Args:
            embeddings: float32[n, d], C-contiguous, one prompt embedding a battle, of any length
                but zero. Copied once, scaled to length one.
            model_a, model_b: n model names each.
            winner: n of "model_a", "model_b", "tie", "tie (bothbad)".

            provenance: what is recorded of the router once it is fitted; by default nothing.

        Raises InvalidInputError for malformed input, RatingError where the battles have no finite
        ratings (a model that only won or only lost, or groups that never met).
        """
        check_array("embeddings", embeddings, np.float32, 2)
        pair = {"strong_model": self.strong_model, "weak_model": self.weak_model}
        table = rate_models(len(embeddings), model_a, model_b, winner, self.num_tiers, pair)
        vectors = UnitRows.store(embeddings, self.storage)
        far = self.mode == "far_field" or (
            self.mode == "auto" and not self.strict and len(vectors) >= FAR_FIELD_FROM
        )
        fitter = self.fitter()
        error: float | None = None
        if not far:
            fitted = fitter.exact(table, vectors)
        elif self.max_error is None:
            fitted = fitter.far(table, vectors)
        else:
            fitted, error = fitter.far_within(table, vectors, self.max_error)
        with self._writing:
            self._provenance = Provenance() if provenance is None else provenance
            self._publish(fitted)
            self.measured_error_ = error
            self.model_ratings_ = {table.models[i]: float(table.elo[i]) for i in table.best_first()}
            self.model_tiers_ = {table.models[i]: int(table.tiers[i]) for i in table.best_first()}
        return self

    def add_battles(
        self,
        embeddings: Float32Array,
        model_a: Sequence[str],
        model_b: Sequence[str],
        winner: Sequence[str],
        prompts: Sequence[str] | None = None,
    ) -> SimilarityWeightedRouter:
        """Learn from more battles between the models of ``fit``, without starting again.

        The tiers stay as ``fit`` cut them (so do ``model_ratings_`` and ``model_tiers_``), and so
        do the axes of the far field; the ratings of the tiers, the moments and the index are then
        those of all battles: moments are sums. Arguments as for ``fit``. Other threads may score
        prompts meanwhile: each prompt sees all of the new battles or none. With ``max_error`` the
        error is measured again, on some of the new battles before they count, ``measured_error_``
        is the largest so far, and where it passes the bound the router says so and goes on in exact
        mode, as at ``fit``. After as many battles again, call ``fit``.

        ``prompts``, n texts, are those of the battles: where the provenance has ``trained_on``
        they are added to it. Without them it would no longer hold every prompt, and an evaluation
        on one of the new ones would not be refused, so it is None afterwards. So is everything
        else in the provenance: it was of the router as it was.
        """
        with self._writing:
            now = self._state()
            check_array("embeddings", embeddings, np.float32, 2)
            more = now.table.read(len(embeddings), model_a, model_b, winner)
            check_length("embeddings", embeddings, now.battles.dimensions, "the router")
            texts = None if prompts is None else check_prompts(prompts)
            if texts is not None and len(texts) != len(embeddings):
                raise InvalidInputError(
                    f"prompts has {len(texts)} texts for {len(embeddings)} embeddings; give one a "
                    "battle, or none at all"
                )
            vectors, error = UnitRows.store(embeddings, self.storage), self.measured_error_
            if self.max_error is None or error is None or now.far is None:
                fitted = self.fitter().joined(now, more, vectors)
            else:
                fitted, newest = self.fitter().joined_within(now, more, vectors, self.max_error)
                error = max(error, newest)
            trained_on = self.provenance.trained_on
            if texts is not None and trained_on is not None:
                trained_on = np.union1d(trained_on, hash_prompts(texts))
            else:
                trained_on = None
            # Before the new battles count: no one may take their win rates for the old ones.
            self._provenance = Provenance(trained_on=trained_on)
            self.measured_error_ = error
            self._publish(fitted)
        return self

    def win_rate_from_embedding(self, x: Float32Array) -> float:
        """Win rate for one prompt embedding, float32[d]."""
        return self._win_rate(self._state(), x, self.num_threads)

    def win_rates_from_embeddings(
        self, X: Float32Array, *, num_threads: int | None = None
    ) -> Float64Array:
        now = self._state()
        threads = check_num_threads(self.num_threads if num_threads is None else num_threads)
        check_array("X", X, np.float32, 2)
        check_length("X", X, now.battles.dimensions, "the router")
        rates = np.full(len(X), np.nan)
        if now.far is not None and len(X) > 1:
            for first, block in now.far.win_rates(X, threads):
                rates[first : first + len(block)] = block
        for i in np.flatnonzero(
            np.isnan(rates)
        ):  # milliseconds each at most, so Ctrl-C is heard in between
            try:
                rates[i] = self._win_rate(now, X[i], threads)
            except InvalidInputError as error:
                raise type(error)(f"X[{i}]: {error}") from None
        return rates

    @property
    def win_rate_without_signal(self) -> float:
        """Win rate at equal weights: what the battles say when the prompt says nothing."""
        now = self._state()
        return now.preference()

    def explain(self, prompt: str, count: int = 10) -> Explanation:
        """Why a prompt has its win rate: see ``explain_from_embedding``."""
        return self.explain_from_embedding(self._embedder().embed(prompt), count)

    def explain_from_embedding(self, x: Float32Array, count: int = 10) -> Explanation:
        """The nearest battles with their weights, the ratings of the tiers, and the win rate.

        In the far field the nearest battles are those that its index finds, and no more of them
        than it takes exactly (128, or what ``max_error`` chose), however large ``count`` is.
        """
        now = self._state()
        if isinstance(count, bool) or not isinstance(count, (int, np.integer)) or count < 1:
            raise InvalidInputError(f"count must be an int of at least 1, got {count!r}")
        count = operator.index(count)
        win_rate = self._win_rate(now, x, self.num_threads)
        unit = x / np.linalg.norm(x.astype(np.float64))
        found = None if now.far is None else now.far.win_rate(x)
        if now.far is not None and found is not None:
            near = now.far.near(x)
            near = near[near >= 0]
            similarities = now.vectors.take(near) @ unit
            ratings, shift, _, _ = now.far.field.rate(x, near)
            if now.strong != now.weak:  # what the axes of the cells miss, half to each of the pair
                ratings[now.strong] += shift / 2
                ratings[now.weak] -= shift / 2
        else:
            similarities = np.concatenate([block @ unit for _, block in now.vectors.blocks()])
            near = np.argsort(-similarities, kind="stable")[:count]
            similarities = similarities[near]
            ratings, status = now.battles.rate(x, now.start, self.num_threads)
            ratings = ratings if status == "converged" else now.start
        order = np.argsort(-similarities, kind="stable")[:count]
        largest = similarities[order[0]]
        table = now.table
        nearest = []
        for i, s in zip(near[order], similarities[order], strict=True):
            nearest.append(
                NearBattle(
                    battle=int(i if now.order is None else now.order[i]),
                    model_a=table.models[table.a[i]],
                    model_b=table.models[table.b[i]],
                    winner=WINNERS[{1: 0, -1: 1, 0: 2}[int(table.outcome[i])]],
                    similarity=float(s),
                    weight=float(10.0 * 10.0 ** (s / largest)) if largest > 0 else 1.0,
                )
            )
        return Explanation(win_rate, nearest, ELO_PER_RATING * ratings + ELO_ORIGIN)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save the fitted router, with its index, for ``load``; the embedder is not saved.

        A save over another that is interrupted leaves the old router or an ArtifactError at
        ``load``, never a mixture. The provenance is saved with it.
        """
        with self._writing:  # what belongs together, at one moment
            fitted, error = self._state(), self.measured_error_
            provenance = self.provenance
            options = {name: getattr(self, name) for name in OPTIONS}
        artifact.save(
            folder,
            fitted,
            options=options,
            embedder=self.embedder,
            measured_error=error,
            provenance=provenance,
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        embedder: Embedder | None = None,
        num_threads: int = 1,
        verify: bool = False,
    ) -> SimilarityWeightedRouter:
        """Load a saved router. Its large files stay on disk, mapped, and processes share them.

        Only their lengths, samples of them and whether they go together are checked, since to read
        gigabytes for a checksum takes longer than to start; ``verify=True`` reads and checks all.
        Small files are always verified. Errors as ``fastroute.artifacts.load_artifact``.
        """
        check_embedder(embedder)
        check_num_threads(num_threads)
        path = check_folder(folder)

        def read() -> tuple[artifact.Saved, SimilarityWeightedRouter, Fitted]:
            saved = artifact.open_saved(path, embedder=embedder, verify=verify)
            with saved.reading():
                router = cls(**saved.options, embedder=embedder, num_threads=num_threads)
                return saved, router, saved.fitted(router.fitter())

        saved, router, fitted = read_consistently(path, read)
        router._provenance = saved.artifact.provenance
        router._publish(fitted)
        router.measured_error_ = saved.measured_error
        table = fitted.table
        router.model_ratings_ = {table.models[i]: float(table.elo[i]) for i in table.best_first()}
        router.model_tiers_ = {table.models[i]: int(table.tiers[i]) for i in table.best_first()}
        return router

    def __reduce__(self) -> NoReturn:
        raise InvalidTypeError(
            "a sw_ranking router can't be pickled or copied; call router.save(folder), and "
            "SimilarityWeightedRouter.load(folder) where you need it"
        )

    def _publish(self, fitted: Fitted) -> None:
        self._fitted = fitted
        self.mode_: Mode = "exact" if fitted.far is None else "far_field"
        self.tier_ratings_ = ELO_PER_RATING * fitted.start + ELO_ORIGIN

    def fitter(self) -> Fitter:
        """What a fit needs of the arguments."""
        return Fitter(
            self.strong_model,
            self.weak_model,
            self.num_tiers,
            self.strict,
            self.num_threads,
            self.storage,
            self.index,
            self.index_parameters,
            self.index_in_axes,
        )

    def _win_rate(self, now: Fitted, x: Float32Array, num_threads: int) -> float:
        if now.far is not None:
            rate = now.far.win_rate(x)
            if rate is not None:
                return rate
        ratings, status = now.battles.rate(x, now.start, num_threads)
        if status == "converged":
            return now.preference(ratings)
        if self.strict:
            raise RatingError(
                "no finite rating for this prompt: "
                + (
                    "no battle has a positive similarity to it"
                    if status == "nothing_similar"
                    else "its weights leave the tiers unconnected"
                )
            )
        return now.preference()

    def _state(self) -> Fitted:
        if self._fitted is None:
            raise NotFittedError(
                "this sw_ranking router has no battles; call fit(embeddings, model_a, model_b, "
                "winner) or load(folder) first"
            )
        return self._fitted
