"""Adds a model to a trained ``mf`` router: its vector is fitted, and nothing else moves.

The models that are there say what vectors models have: with their mean m and principal axes B
(each as long as one standard deviation), the new vector is m + B t + s u, where u is the vector
whose product with every embedding is nearest 1. t and s minimise the cross-entropy of the new
model's pairs plus |t|^2 / 2 + s^2 / (2 w^2): the posterior mode under a normal prior, convex and
found by Newton's method. The width w of the level is generous, because a new model is often better
than all before.

The rows of the other models are stored as they were, so their scores keep every bit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fastroute.artifacts import hash_prompts
from fastroute.errors import InvalidInputError
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.heads import constant_vector, sigmoid
from fastroute.training.mf.factorization import cross_entropy
from fastroute.training.mf.held_out import figures, length_apgr
from fastroute.training.pairs import Pairs, held_out_parts
from fastroute.training.with_tokens import with_tokens, without_tokens
from fastroute.types import BoolArray, Float32Array, Float64Array, Int64Array

#: Prompts with the new model and one that is known, below which nothing is fitted.
LEAST_PROMPTS = 20
#: The level's prior deviation: this many times the known models', and this at least.
_LEVEL_WIDTH, _LEAST_WIDTH = 3.0, 2.0


@dataclass(frozen=True, slots=True)
class AddedModel:
    """A router with one model more, and how its vector predicts held-out pairs."""

    router: MatrixFactorizationRouter  #: the models that were there, and the new one last
    #: prompts, held_out_prompts: used for the figures' fit, and for the figures.
    prompts: int
    held_out_prompts: int
    log_loss: float  #: held-out cross-entropy of the new model's pairs, in nats, of the fit
    prior_log_loss: float  #: of the mean of the other models, before any of its data
    level_log_loss: float  #: of the prior with the level alone fitted
    #: apgr, length_apgr: mean APGR of the fit and of the length of the prompt over the pairs of the
    #: new model with a known one; None where no pair has enough held-out prompts.
    apgr: float | None
    length_apgr: float | None
    held_out: Pairs  #: the pairs that the figures are on


def add_model(
    router: MatrixFactorizationRouter,
    model: str,
    pairs: Pairs,
    X: Float32Array,
    *,
    held_out: float = 0.2,
    seed: int = 0,
) -> AddedModel:
    """``router`` with ``model`` beside its models.

    Args:
        router: as it was trained, with two models at least.
        model: a name that the router does not have.
        pairs: in which ``model`` meets models of the router; other pairs are not looked at.
        X: float32[r, d], embeddings of the rows' prompts by the router's embedder.
        held_out: share of prompts for the figures, above 0 and at most 0.5. The vector of the
            router that is returned is fitted to all.
        seed: of what is held out.

    Raises InvalidInputError for a model that is there already, or too few prompts.
    """
    if model in router.models:
        raise InvalidInputError(
            f"model {model!r} is one of the router's already; give another name, or train again"
        )
    if not 0.0 < held_out <= 0.5:
        raise InvalidInputError(f"held_out must be above 0 and at most 0.5, got {held_out}")
    known = {name: i for i, name in enumerate(router.models)}
    said = with_tokens(X, router.embedder)
    mine = _pairs_of(pairs, model, known, said)
    first, second = held_out_parts(pairs.prompts, held_out, seed)
    out = (first | second)[mine.rows]
    first_known = ", ".join(router.models[:5]) + (" ..." if len(router.models) > 5 else "")
    counts = [len(np.unique(mine.rows[part])) for part in (~out, out)]
    if min(counts) < LEAST_PROMPTS // 4 or sum(counts) < LEAST_PROMPTS:
        raise InvalidInputError(
            f"{model!r} is compared with models of the router on {counts[0]} prompts to learn from "
            f"and {counts[1]} held out, where {LEAST_PROMPTS} in all are needed, a quarter of them "
            f"held out{without_tokens(said)}; give more data, with scores of a known model "
            f"({first_known}) on the same prompts"
        )
    A = router.vectors
    prior = _Prior.of(A.astype(np.float64), X[np.unique(mine.rows)].astype(np.float64))
    learnt, held = mine.where(~out), mine.where(out)
    fitted = prior.fit(learnt, X, known, model)
    level_only = prior.fit(learnt, X, known, model, level_only=True)
    vector = prior.vector(prior.fit(mine, X, known, model)).astype(np.float32)
    grown = np.vstack([A, vector[None]]).astype(np.float32)
    hashes = hash_prompts(pairs.prompts[i] for i in np.unique(mine.rows))
    known_hashes = router.provenance.trained_on
    new = MatrixFactorizationRouter.of_vectors(
        [*router.models, model], grown, strong_model=router.strong_model,
        weak_model=router.weak_model, embedder=router.embedder,
        provenance=replace(
            router.provenance,
            trained_on=hashes if known_hashes is None else np.union1d(known_hashes, hashes),
            checksum=None,
        ),
    )  # fmt: skip
    nothing = np.zeros_like(fitted)
    margins, strength = prior.margins(fitted, held, X, known, model), _strength(learnt, model)
    return AddedModel(
        new,
        counts[0],
        counts[1],
        log_loss(margins, held),
        log_loss(prior.margins(nothing, held, X, known, model), held),
        log_loss(prior.margins(level_only, held, X, known, model), held),
        figures(held, margins, strength).apgr,
        length_apgr(held, strength),
        held,
    )


def _strength(pairs: Pairs, model: str) -> Float64Array:
    """How often each model wins against ``model``, which has 0.5, float64[models]."""
    new, found = pairs.models.index(model), np.full(len(pairs.models), 0.5)
    other = np.where(pairs.a == new, pairs.b, pairs.a)
    won = np.where(pairs.b == new, 1.0 - pairs.preference, pairs.preference)
    for i in np.unique(other):
        found[i] = np.average(won[other == i], weights=pairs.weights[other == i])
    return found


def log_loss(margins: Float64Array, pairs: Pairs) -> float:
    """Weighted mean cross-entropy, in nats."""
    return float(np.average(cross_entropy(margins, pairs.preference), weights=pairs.weights))


def log_loss_of_router(router: MatrixFactorizationRouter, pairs: Pairs, X: Float32Array) -> float:
    """Weighted mean cross-entropy of ``pairs`` by ``router``, which must know their models."""
    row_of = np.array(
        [router.models.index(name) if name in router.models else -1 for name in pairs.models]
    )
    rows = np.unique(pairs.rows)
    scores = router.deltas_from_embeddings(np.ascontiguousarray(X[rows])).astype(np.float64)
    local = np.searchsorted(rows, pairs.rows)
    return log_loss(scores[local, row_of[pairs.b]] - scores[local, row_of[pairs.a]], pairs)


@dataclass(frozen=True, slots=True, eq=False)
class _Prior:
    """What is known of a model's vector before its data: mean [d], axes [r, d], level last."""

    matrix: Float64Array
    mean: Float64Array
    axes: Float64Array
    precision: Float64Array

    @classmethod
    def of(cls, A: Float64Array, X: Float64Array) -> _Prior:
        u = constant_vector(X, np.ones(len(X)))
        mean = A.mean(axis=0)
        _, sizes, directions = np.linalg.svd(A - mean, full_matrices=False)
        kept = sizes > 1e-9 * max(float(sizes.max(initial=0.0)), 1e-300)
        axes = directions[kept] * (sizes[kept] / np.sqrt(max(len(A) - 1, 1)))[:, None]
        spread = float(np.std((X @ A.T).mean(axis=0)))
        width = max(_LEVEL_WIDTH * spread, _LEAST_WIDTH)
        precision = np.r_[np.ones(len(axes)), 1.0 / width**2]
        return cls(A, mean, np.vstack([axes, u]), precision)

    def vector(self, t: Float64Array) -> Float64Array:
        """The model's vector, float64[d]."""
        return self.mean + t @ self.axes

    def fit(
        self,
        pairs: Pairs,
        X: Float32Array,
        known: dict[str, int],
        model: str,
        level_only: bool = False,
    ) -> Float64Array:
        """t and the level, float64[r]: the posterior mode."""
        sign, other, E = self._columns(pairs, X, known, model)
        F = E @ self.axes.T
        offset = E @ self.mean - np.einsum("nd,nd->n", E, self.matrix[other])
        y = np.where(sign > 0, pairs.preference, 1.0 - pairs.preference)
        free = np.arange(F.shape[1]) >= (F.shape[1] - 1 if level_only else 0)
        t = np.zeros(F.shape[1])
        G = F[:, free]
        for _ in range(100):
            p = sigmoid(offset + F @ t)
            slope = G.T @ (pairs.weights * (p - y)) + self.precision[free] * t[free]
            curve = (G * (pairs.weights * p * (1.0 - p))[:, None]).T @ G
            step = np.linalg.solve(curve + np.diag(self.precision[free]), slope)
            t[free] -= step * min(1.0, 2.0 / float(np.abs(step).max(initial=1e-300)))
            if np.abs(step).max() < 1e-10:
                break
        return t

    def margins(
        self, t: Float64Array, pairs: Pairs, X: Float32Array, known: dict[str, int], model: str
    ) -> Float64Array:
        """Score of b less score of a, float64[n]."""
        sign, other, E = self._columns(pairs, X, known, model)
        result: Float64Array = sign * (
            E @ self.vector(t) - np.einsum("nd,nd->n", E, self.matrix[other])
        )
        return result

    def _columns(
        self, pairs: Pairs, X: Float32Array, known: dict[str, int], model: str
    ) -> tuple[Float64Array, Int64Array, Float64Array]:
        """1 where the new model is b and -1 where it is a, the other's row, the embeddings."""
        new = pairs.models.index(model)
        sign = np.where(pairs.b == new, 1.0, -1.0)
        row_of = np.array([known.get(name, -1) for name in pairs.models])
        return sign, row_of[np.where(pairs.b == new, pairs.a, pairs.b)], X[pairs.rows].astype(float)


def _pairs_of(
    pairs: Pairs,
    model: str,
    known: dict[str, int],
    said: BoolArray,
) -> Pairs:
    """The pairs in which ``model`` meets a known one, on prompts with tokens."""
    if model not in pairs.models:
        raise InvalidInputError(
            f"model {model!r} is not in the data, which has {', '.join(pairs.models[:10])}; check "
            "its name"
        )
    new = pairs.models.index(model)
    is_known = np.array([name in known for name in pairs.models])
    meets = ((pairs.a == new) & is_known[pairs.b]) | ((pairs.b == new) & is_known[pairs.a])
    return pairs.where(meets & said[pairs.rows])
