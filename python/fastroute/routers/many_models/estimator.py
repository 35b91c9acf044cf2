"""P(success) of each model on a prompt, with an interval.

For a prompt x, a model's score is its mean level, a part that all models share (how hard the prompt
is) and its own deviation from that, both ridge regressions of grades::

    score = level + shared . (x - centre) + own . (x - centre)

The nearest graded prompts move both parts towards the mean of what was seen there: with n grades
nearby, by n / (n + count), where ``count`` is how many grades a regression counts for. A logistic
calibration, fitted to scores of held-out prompts, makes the score a probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fastroute import _native
from fastroute.routers.many_models.neighbors import Evidence, GradedNeighbors
from fastroute.types import BoolArray, Float32Array, Float64Array

#: Scores are kept this far from 0 and 1 before their logit is taken.
EDGE = 0.01
#: Half a 95 % interval, in standard errors.
_STANDARD_ERRORS = 1.96


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
        count: float64[m], how many grades nearby its deviation counts for; infinite where
            neighbours do not improve it.
        level: float64[m], the model's mean success.
        slope, offset: float64[m], of the logistic calibration.
        noise: float64[m], standard deviation of grades around held-out probabilities.
        graded: float64[m], how many prompts it was learnt from; 0 for a prior alone.
    """

    own: Float32Array
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
            self.own[i], self.count[i], self.level[i], self.slope[i], self.offset[i],
            self.noise[i], self.graded[i],
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
        spread: Spread,
        neighbors: GradedNeighbors | None,
        shared_count: float,
    ) -> None:
        self.models = tuple(models)
        self.heads = heads
        self.shared = shared
        self.centre = centre
        self.spread = spread
        self.neighbors = neighbors
        self.shared_count = shared_count
        # One call of the kernel gives all parts of the scores and the spread.
        self._stacked = np.ascontiguousarray(
            np.concatenate([heads.own, shared[None, :], spread.directions])
        )
        self._at_centre = self._stacked.astype(np.float64) @ centre.astype(np.float64)
        self._of_level = _logistic(heads.slope * _logit(heads.level) + heads.offset)
        # A model's own grades are a share of all prompts; the fewer, the wider its interval.
        few = spread.prompts / np.maximum(heads.graded, 1.0)
        self._widening = heads.noise**2 * few
        self._widest = np.maximum(heads.noise, heads.level.std()) ** 2
        self._between = max(float(heads.level.std()), 0.1)

    @property
    def dimensions(self) -> int:
        """d of the embeddings."""
        return len(self.centre)

    @property
    def levels(self) -> Float64Array:
        """P(success) of each model on an average prompt, float64[m]."""
        return self._of_level

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
                    np.zeros((len(new), self.dimensions), np.float32), np.full(len(new), np.inf),
                    level, np.ones(len(new)), np.zeros(len(new)), np.full(len(new), 0.5),
                    np.zeros(len(new)),
                )
            )  # fmt: skip
        at = known | {name: len(known) + i for i, name in enumerate(new)}
        rows = [at[name] for name in models]
        neighbors = self.neighbors
        if neighbors is not None:
            empty = np.full((len(neighbors.own), len(new)), np.nan, dtype=np.float32)
            own = np.concatenate([neighbors.own, empty], axis=1)[:, rows]
            neighbors = neighbors.with_own(np.ascontiguousarray(own))
        return SuccessEstimator(
            models, heads.take(rows), self.shared, self.centre, self.spread, neighbors,
            self.shared_count,
        )  # fmt: skip

    def estimate(self, X: Float32Array) -> Estimates:
        """P(success) of each model on prompts with the embeddings ``X``, float32[n, d].

        A zero row, a prompt without known tokens, is abstained on. Raises InvalidInputError for
        NaN, infinity, a wrong dimension, dtype or layout.
        """
        heads, count = self.heads, len(self.models)
        products = self._products(X)
        spread = self._spread(X, products[:, count + 1 :])
        abstained = (spread > self.spread.most) | ~X.any(axis=1)
        score = self._score(X, products[:, count], products[:, :count])
        probability = _logistic(heads.slope * _logit(score) + heads.offset)
        variance = np.minimum(spread[:, None] * self._widening, self._widest)
        if abstained.any():
            probability[abstained] = self._of_level
            variance[abstained] = self._widest
        variance = np.where(heads.graded > 0, variance, self._between**2)
        half = _STANDARD_ERRORS * np.sqrt(variance)
        return Estimates(
            self.models, probability, np.maximum(probability - half, 0.0),
            np.minimum(probability + half, 1.0), abstained,
        )  # fmt: skip

    def _products(self, X: Float32Array) -> Float64Array:
        """Products of each row, less the centre, with heads and directions: float64[n, m + r]."""
        products: Float64Array = _native.model_deltas(self._stacked, X) - self._at_centre
        return products

    def _score(self, X: Float32Array, shared: Float64Array, own: Float64Array) -> Float64Array:
        if self.neighbors is not None:
            shared, own = mix(
                shared, own, self.neighbors.evidence(X), self.shared_count, self.heads.count
            )
        score: Float64Array = self.heads.level + shared[:, None] + own
        return score

    def _spread(self, X: Float32Array, along: Float64Array) -> Float64Array:
        away = X - self.centre
        square = np.einsum("ij,ij->i", away, away, dtype=np.float64)
        spread: Float64Array = square - np.einsum("ij,ij->i", along, along)
        return np.maximum(spread, 0.0)


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
    z: Float64Array = np.log(p / (1.0 - p))
    return z


def _logistic(z: Float64Array) -> Float64Array:
    p: Float64Array = 0.5 * (1.0 + np.tanh(0.5 * z))
    return p
