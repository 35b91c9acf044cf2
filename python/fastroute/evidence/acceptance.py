"""P(the cheap answer is as good as the strong model's), from signals: a logistic model.

Without training data a rule decides: a quorum of equal values accepts, everything else goes to the
strong model. (LLM cascades with answer consistency: Yue et al., arXiv 2310.03094; FrugalGPT:
2305.05176; AutoMix: 2310.12963.)
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.random import default_rng

from fastroute.artifacts import load_artifact, save_artifact
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.evidence.signals import AGREES, SIGNALS
from fastroute.provenance import Provenance
from fastroute.types import BoolArray, Float64Array, IntArray

#: The kind of its artifacts.
KIND = "acceptance"
#: Strengths of the penalty that ``fit_acceptance`` chooses from, by held-out log-loss.
PENALTIES = (3.0, 10.0, 30.0, 100.0)
FOLDS = 5
_STEPS = 50


@dataclass(frozen=True)
class AcceptanceModel:
    """Logistic regression on standardised signals.

    Attributes:
        names: the signals that it reads.
        weights: float64[n].
        bias: added to the weighted sum.
        mean, scale: float64[n], what a signal is standardised with.
        penalty: the strength of the penalty that held-out log-loss chose.
        cheap_models: how many cheap models it was trained with, the weak one first; it knows them
            by their places. None where that is not recorded.
        provenance: what it was trained on; its operating point is the P(accept) from which a cheap
            answer is sent.
    """

    names: tuple[str, ...]
    weights: Float64Array
    bias: float
    mean: Float64Array
    scale: Float64Array
    penalty: float
    cheap_models: int | None = None
    provenance: Provenance = field(default=Provenance(), compare=False)

    def save(
        self, folder: str | os.PathLike[str], *, training: Mapping[str, Any] | None = None
    ) -> None:
        """Write the model as an artifact of kind "acceptance"; ``training`` is plain JSON.

        Raises ArtifactError where the folder can't be written.
        """
        save_artifact(
            folder,
            kind=KIND,
            config={
                "signals": list(self.names),
                "bias": self.bias,
                "penalty": self.penalty,
                "cheap_models": self.cheap_models,
                "training": dict(training or {}),
            },
            arrays={"weights": self.weights, "mean": self.mean, "scale": self.scale},
            provenance=self.provenance,
        )

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a saved model.

        Raises ArtifactError and its subclasses for a folder that holds none.
        """
        artifact = load_artifact(folder, kind=KIND)
        config, arrays = artifact.config, artifact.arrays
        try:
            names = tuple(str(name) for name in config["signals"])
            weights, mean, scale = (
                np.asarray(arrays[name], np.float64) for name in ("weights", "mean", "scale")
            )
            bias, penalty = float(config["bias"]), float(config["penalty"])
            cheap_models = (
                None if config.get("cheap_models") is None else int(config["cheap_models"])
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(
                f"{artifact.path} is not an acceptance model ({error}); train it again"
            ) from error
        unknown = sorted(set(names) - set(SIGNALS))
        if unknown or not weights.shape == mean.shape == scale.shape == (len(names),):
            raise ArtifactError(
                f"{artifact.path} has signals that this fastroute does not know "
                f"({', '.join(unknown) or 'their number differs'}); train it again"
            )
        return cls(names, weights, bias, mean, scale, penalty, cheap_models, artifact.provenance)

    def probabilities(self, features: Float64Array) -> Float64Array:
        """P(accept) of rows of signals, float64[m, len(SIGNALS)] -> float64[m].

        Raises InvalidInputError for another number of columns.
        """
        features = np.atleast_2d(np.asarray(features, np.float64))
        if features.shape[1] != len(SIGNALS):
            raise InvalidInputError(
                f"features must have {len(SIGNALS)} columns (SIGNALS), got {features.shape[1]}"
            )
        columns = [SIGNALS.index(name) for name in self.names]
        standardised = (features[:, columns] - self.mean) / self.scale
        return _sigmoid(standardised @ self.weights + self.bias)


def fit_acceptance(
    features: Float64Array,
    accepted: Float64Array,
    *,
    names: Sequence[str] | None = None,
    cheap_models: int | None = None,
    seed: int = 0,
) -> AcceptanceModel:
    """Fit the model by penalised maximum likelihood; the penalty by held-out log-loss in 5 folds.

    Args:
        features: float64[m, len(SIGNALS)], from ``signals``.
        accepted: float64[m], 1 where the cheap answer was at least as good as the strong one's.
        names: the signals to use; by default those of ``useful_signals``.
        cheap_models: how many there are, to be saved with the model.
        seed: of the folds.

    Raises InvalidInputError for fewer than 20 rows, labels that are all the same, shapes that
    differ, or numbers that are not finite.
    """
    features = np.asarray(features, np.float64)
    accepted = np.asarray(accepted, np.float64)
    if features.ndim != 2 or features.shape != (len(accepted), len(SIGNALS)):
        raise InvalidInputError(
            f"features must be float64[{len(accepted)}, {len(SIGNALS)}], got {features.shape}"
        )
    if not np.isfinite(features).all() or not np.isin(accepted, (0.0, 1.0)).all():
        raise InvalidInputError("features must be finite, and accepted must hold 0 and 1 only")
    if len(accepted) < 20 or accepted.min() == accepted.max():
        raise InvalidInputError(
            f"acceptance can't be learnt from {len(accepted)} rows with a mean of "
            f"{accepted.mean() if len(accepted) else 0:g}: at least 20 of both kinds are needed"
        )
    names = useful_signals(cheap_models) if names is None else names
    unknown = set(names) - set(SIGNALS)
    if unknown or not names:
        raise InvalidInputError(f"unknown signals {sorted(unknown)}; known: {', '.join(SIGNALS)}")
    X = features[:, [SIGNALS.index(name) for name in names]]
    fold = fold_numbers(len(X), FOLDS, seed)
    losses = [
        sum(_held_out_loss(X, accepted, fold == k, penalty) for k in range(FOLDS))
        for penalty in PENALTIES
    ]
    penalty = PENALTIES[int(np.argmin(losses))]
    mean, scale, weights, bias = _fit(X, accepted, penalty)
    return AcceptanceModel(tuple(names), weights, bias, mean, scale, penalty, cheap_models)


def useful_signals(cheap_models: int | None) -> list[str]:
    """The signals that say something of so many cheap models: with one helper, whose agreement it
    is says nothing that "agreeing" does not say."""
    count = 0 if cheap_models is not None and cheap_models < 3 else cheap_models
    unused = AGREES if count == 0 else () if count is None else AGREES[count:]
    return [name for name in SIGNALS if name not in unused]


def fold_numbers(n: int, folds: int, seed: int) -> IntArray:
    """The fold of each of n rows, at random in equal parts, int[n]."""
    return default_rng([seed, folds]).permutation(n) % folds


def out_of_fold(
    features: Float64Array,
    accepted: Float64Array,
    *,
    cheap_models: int | None = None,
    folds: int = 5,
    seed: int = 0,
) -> tuple[Float64Array, Float64Array]:
    """P(accept) of each row by a model fitted on the other folds, and its rank within its fold.

    Models of different folds differ a little in level, which would order rows of different folds
    by nothing but that. The rank, in 0..1 with ties averaged, is free of it.

    Returns:
        float64[m] probabilities and float64[m] ranks. Raises as ``fit_acceptance``.
    """
    fold = fold_numbers(len(features), folds, seed)
    probability, rank = np.empty(len(features)), np.empty(len(features))
    for k in range(folds):
        rows = fold == k
        model = fit_acceptance(
            features[~rows], accepted[~rows], cheap_models=cheap_models, seed=seed
        )
        probability[rows] = p = model.probabilities(features[rows])
        ordered = np.sort(p)
        rank[rows] = (
            np.searchsorted(ordered, p, "left") + np.searchsorted(ordered, p, "right")
        ) / (2 * len(p))
    return probability, rank


def _held_out_loss(X: Float64Array, y: Float64Array, held_out: BoolArray, penalty: float) -> float:
    mean, scale, weights, bias = _fit(X[~held_out], y[~held_out], penalty)
    z = (X[held_out] - mean) / scale @ weights + bias
    return float(np.logaddexp(0, np.where(y[held_out] > 0.5, -z, z)).sum())


def _fit(
    X: Float64Array, y: Float64Array, penalty: float
) -> tuple[Float64Array, Float64Array, Float64Array, float]:
    """Newton's method from 0; the bias has next to no penalty."""
    mean, scale = X.mean(0), X.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    A = np.column_stack([(X - mean) / scale, np.ones(len(X))])
    ridge = np.append(np.full(X.shape[1], penalty), 1e-6)
    b = np.zeros(A.shape[1])
    for _ in range(_STEPS):
        p = _sigmoid(A @ b)
        gradient = A.T @ (y - p) - ridge * b
        hessian = (A.T * (p * (1 - p))) @ A + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        b += step
        if np.abs(step).max() < 1e-10:
            break
    return mean, scale, b[:-1], float(b[-1])


def _sigmoid(z: Float64Array) -> Float64Array:
    return 0.5 * (1 + np.tanh(0.5 * z))
