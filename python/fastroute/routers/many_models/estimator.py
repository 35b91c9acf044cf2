"""P(success) of each model on a prompt, with an interval.

For a prompt x, a model's score is its mean level, a part that all models share (how hard the prompt
is) and its own deviation from that, both ridge regressions of grades on the embedding and on which
clusters of graded prompts are nearest. The nearest graded prompts move both parts. A logistic
calibration, fitted to scores of held-out prompts, makes the score a probability.
``csrc/kernels/success_estimate.hpp`` has the formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from fastroute import _native
from fastroute._arrays import check_array, check_finite, check_length
from fastroute._validate import available_threads, check_prompt
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.routers.many_models.clusters import Clusters
from fastroute.routers.many_models.neighbors import Evidence, GradedNeighbors
from fastroute.types import BoolArray, Float32Array, Float64Array

#: Scores are kept this far from 0 and 1 before their logit is taken.
EDGE = 0.01
#: How an estimate went, in the kernel's numbers.
_ABSTAINED, _NOT_FINITE = 1, 2


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """P(success) of each model on each prompt.

    Attributes:
        models: the columns' models.
        probability: float64[n, models].
        low, high: float64[n, models], a 95 % interval of the probability.
        abstained: bool[n], whether the graded prompts say nothing of this one. Its probabilities
            are then each model's level.
    """

    models: tuple[str, ...]
    probability: Float64Array
    low: Float64Array
    high: Float64Array
    abstained: BoolArray


@dataclass(frozen=True, slots=True, eq=False)
class Heads:
    """What is learnt of each model, a row each.

    Attributes:
        own: float32[m, d], its own deviation from the shared part.
        by_cluster: float32[m, clusters], that in each cluster.
        count: float64[m], how many grades nearby its deviation counts for; infinite where
            neighbours do not improve it.
        level: float64[m], the model's mean success.
        slope, offset: float64[m], of the logistic calibration.
        noise: float64[m], standard deviation of grades around held-out probabilities.
        graded: float64[m], how many prompts it was learnt from; 0 for a prior alone.
    """

    own: Float32Array
    by_cluster: Float32Array
    count: Float64Array
    level: Float64Array
    slope: Float64Array
    offset: Float64Array
    noise: Float64Array
    graded: Float64Array

    def take(self, rows: Sequence[int]) -> Heads:
        """Some of the rows, in this order."""
        i = list(rows)
        return Heads(
            self.own[i], self.by_cluster[i], self.count[i], self.level[i], self.slope[i],
            self.offset[i], self.noise[i], self.graded[i],
        )  # fmt: skip

    def join(self, other: Heads) -> Heads:
        """The rows of both."""
        return Heads(
            *(
                np.concatenate([getattr(self, name), getattr(other, name)])
                for name in self.__slots__
            )
        )


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How far a prompt is from those that were graded.

    It is x' (G + 1)^-1 x for the Gram matrix G of the graded prompts: the variance of a ridge
    regression at x, in units of the grades' own variance. Directions in which few prompts differ
    are left out of G, which makes it a little larger.

    Attributes:
        directions: float32[r, d]; the spread is |x|^2 - |directions x|^2.
        prompts: how many were graded.
        most: a prompt with more than this is unlike every graded one.
    """

    directions: Float32Array
    prompts: int
    most: float


class SuccessEstimator:
    """Estimates P(success) of each of its models. Safe to use from several threads.

    Args:
        models: their names.
        heads: what is learnt of each.
        shared: float32[d], the part that all models share.
        centre: float32[d], the mean embedding of the graded prompts.
        clusters: of the graded prompts; None where they do not improve the scores.
        shared_by_cluster: float32[clusters], the shared part in each cluster.
        spread: how far a prompt is from the graded ones.
        neighbors: the graded prompts; None where they do not improve the scores.
        shared_count: how many prompts nearby the shared part counts for.
    """

    def __init__(
        self,
        models: Sequence[str],
        heads: Heads,
        shared: Float32Array,
        centre: Float32Array,
        clusters: Clusters | None,
        shared_by_cluster: Float32Array,
        spread: Spread,
        neighbors: GradedNeighbors | None,
        shared_count: float,
    ) -> None:
        self.models = tuple(models)
        self.heads = heads
        self.shared = shared
        self.centre = centre
        self.clusters = clusters
        self.shared_by_cluster = shared_by_cluster
        self.spread = spread
        self.neighbors = neighbors
        self.shared_count = shared_count
        self._of_level = _logistic(heads.slope * _logit(heads.level) + heads.offset)
        self._core = self._kernel()

    def _kernel(self) -> _native.SuccessEstimator:
        heads, centre, clusters = self.heads, self.centre, self.clusters
        stacked = np.concatenate([heads.own, self.shared[None, :], self.spread.directions])
        # A model's own grades are a share of all prompts; the fewer, the wider its interval. That
        # of a prior alone is as wide as models differ.
        widest = np.maximum(heads.noise, heads.level.std()) ** 2
        few = self.spread.prompts / np.maximum(heads.graded, 1.0)
        between = max(float(heads.level.std()), 0.1) ** 2
        prompts = None
        if self.neighbors is not None:
            near = self.neighbors
            prompts = _native.GradedPrompts(
                near.rows, near.starts, near.centre, near.shared, near.own, heads.count,
                self.shared_count, near.count, near.scanned,
            )  # fmt: skip
        of_clusters = np.concatenate([heads.by_cluster, self.shared_by_cluster[None, :]]).T
        return _native.SuccessEstimator(
            stacked=np.ascontiguousarray(stacked),
            at_centre=stacked.astype(np.float64) @ centre.astype(np.float64),
            centre=centre,
            clusters=np.empty((0, len(centre)), np.float32)
            if clusters is None
            else clusters.centres,
            of_clusters=np.ascontiguousarray(of_clusters),
            clusterings=0 if clusters is None else clusters.clusterings,
            nearest_clusters=0 if clusters is None else clusters.nearest,
            level=heads.level,
            slope=heads.slope,
            offset=heads.offset,
            usual=self._of_level,
            widening=np.where(heads.graded > 0, heads.noise**2 * few, np.inf),
            widest=np.where(heads.graded > 0, widest, between),
            edge=EDGE,
            most_spread=self.spread.most,
            prompts=prompts,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_core"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._core = self._kernel()

    @property
    def dimensions(self) -> int:
        """d of the embeddings."""
        return len(self.centre)

    @property
    def levels(self) -> Float64Array:
        """P(success) of each model on an average prompt, float64[m]."""
        return self._of_level

    def features(self, X: Float32Array) -> Float64Array:
        """What heads are regressions on, the embedding less the centre and then the clusters."""
        away: Float64Array = X.astype(np.float64) - self.centre
        if self.clusters is None:
            return away
        return np.hstack([away, self.clusters.features(X)], dtype=np.float64)

    def select(
        self, models: Sequence[str], priors: Mapping[str, float | None] | None = None
    ) -> SuccessEstimator:
        """An estimator of these models, in this order.

        One that was not learnt has the level that ``priors`` states, or the mean of the models that
        were learnt, and the part that all models share.
        """
        known = {name: i for i, name in enumerate(self.models)}
        new = [name for name in models if name not in known]
        heads = self.heads
        if new:
            stated = [(priors or {}).get(name) for name in new]
            mean = float(heads.level.mean())
            level = np.array([mean if prior is None else prior for prior in stated])
            heads = heads.join(
                Heads(
                    np.zeros((len(new), self.dimensions), np.float32),
                    np.zeros((len(new), len(self.shared_by_cluster)), np.float32),
                    np.full(len(new), np.inf), level, np.ones(len(new)), np.zeros(len(new)),
                    np.full(len(new), 0.5), np.zeros(len(new)),
                )
            )  # fmt: skip
        at = known | {name: len(known) + i for i, name in enumerate(new)}
        rows = [at[name] for name in models]
        neighbors = self.neighbors
        if neighbors is not None:
            empty = np.full((len(neighbors.own), len(new)), np.nan, dtype=np.float32)
            own = np.concatenate([neighbors.own, empty], axis=1)[:, rows]
            neighbors = neighbors.with_own(np.ascontiguousarray(own))
        return self.with_heads(models, heads.take(rows), neighbors)

    def with_heads(
        self, models: Sequence[str], heads: Heads, neighbors: GradedNeighbors | None
    ) -> SuccessEstimator:
        """An estimator of other models with the same shared part and prompts."""
        return SuccessEstimator(
            models, heads, self.shared, self.centre, self.clusters, self.shared_by_cluster,
            self.spread, neighbors, self.shared_count,
        )  # fmt: skip

    def estimate(self, X: Float32Array) -> Estimates:
        """P(success) of each model on prompts with the embeddings ``X``, float32[n, d].

        A zero row, a prompt without known tokens, is abstained on. Raises InvalidInputError for
        NaN, infinity, a wrong dimension, dtype or layout.
        """
        try:
            (probability, low, high), status = self._core.estimate_many(X, available_threads())
        except (TypeError, ValueError):
            self._refuse("X", X, 2)
        if (status == _NOT_FINITE).any():
            self._refuse("X", X, 2)
        return Estimates(self.models, probability, low, high, status == _ABSTAINED)

    def estimate_one(self, x: Float32Array) -> tuple[Float64Array, bool]:
        """Probability, low and high of each model, float64[3, m], and whether it abstained.

        As ``estimate``, for one embedding, float32[d], in about a microsecond.
        """
        try:
            found, status = self._core.estimate(x)
        except (TypeError, ValueError):
            self._refuse("x", x, 1)
        if status == _NOT_FINITE:
            self._refuse("x", x, 1)
        return found, status == _ABSTAINED

    def text_chooser(
        self, embedder: Embedder
    ) -> Callable[..., tuple[int, float, float, bool]] | None:
        """What chooses among the models for text in one call of the kernel; None where ``embedder``
        can't. See ``_native.TextEstimator.choose``."""
        fused = embedder.text_estimator(self._core)
        return None if fused is None else fused.choose

    def text_estimator(self, embedder: Embedder) -> Callable[[str], tuple[Float64Array, bool]]:
        """``estimate_one`` for text, in one call of the kernel where ``embedder`` can do that."""
        fused = embedder.text_estimator(self._core)

        def estimate(prompt: str) -> tuple[Float64Array, bool]:
            if fused is not None:
                try:
                    found, status = fused.estimate(prompt)
                except (TypeError, ValueError):
                    check_prompt(prompt)
                    raise
                if status != _NOT_FINITE:
                    return found, status == _ABSTAINED
            return self.estimate_one(embedder.embed(prompt))

        return estimate

    def _refuse(self, name: str, value: Float32Array, dimensions: int) -> NoReturn:
        check_array(name, value, np.float32, dimensions)
        check_length(name, value, self.dimensions, "the router")
        check_finite(name, value)
        raise InvalidInputError(f"{name} is so large that its product with the heads overflows")


def mix(
    shared: Float64Array,
    own: Float64Array,
    evidence: Evidence,
    shared_count: float,
    own_count: Float64Array,
) -> tuple[Float64Array, Float64Array]:
    """Both parts of the scores, float64[n] and float64[n, m], moved towards the neighbours'.

    ``shared_count`` and ``own_count``, float64[m], are how many grades the regressions count for.
    """
    weight = evidence.shared_count / (evidence.shared_count + shared_count)
    own_weight = evidence.own_count / (evidence.own_count + own_count)
    return (
        shared + weight * (evidence.shared - shared),
        own + own_weight * (evidence.own - own),
    )


def spread_directions(gram: Float64Array, most: int) -> Float32Array:
    """The directions of ``Spread`` for a Gram matrix float64[d, d]: float32[r, d], r <= most."""
    values, vectors = np.linalg.eigh(gram)
    values, vectors = np.maximum(values[::-1][:most], 0.0), vectors[:, ::-1][:, :most]
    return np.ascontiguousarray((vectors * np.sqrt(values / (values + 1.0))).T, dtype=np.float32)


def _logit(score: Float64Array) -> Float64Array:
    p = np.clip(score, EDGE, 1.0 - EDGE)
    return np.log(p / (1.0 - p))


def _logistic(z: Float64Array) -> Float64Array:
    return 0.5 * (1.0 + np.tanh(0.5 * z))
