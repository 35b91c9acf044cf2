"""Learns N models' embeddings from pairs: matrix factorisation by minibatch Adam, in NumPy.

The score of model M on prompt x in dataset g is v_M . (U x) + l_{g,M}; b is preferred to a with
probability sigmoid(score b - score a). The loss is the weighted mean cross-entropy plus

    ridge / (2 sum of weights) * (|U|^2 + |V|^2)  +  level_ridge / (2 sum of weights) * |l|^2

x is centred within the dataset and scaled to a root mean square of 1 by the caller. The levels are
what keeps U from learning which dataset a prompt came from; without datasets there is one a model.
It is the published parametrisation c . (P_M/|P_M| * (W q)) with lengths free (arXiv 2406.18665,
section 4.2): any v can be had as c * P/|P| with one dimension more, whose row of W is zero.

Batches are of rows, not of pairs: a row is projected once, however many models were graded on it.
An epoch's batches are drawn from seed and epoch alone, so an interrupted training continues with
the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from fastroute.training.heads import sigmoid
from fastroute.training.pairs import Pairs
from fastroute.types import Float64Array, Int64Array

Array = npt.NDArray[np.floating[Any]]
#: The parameters: U [k, d], V [models, k], l [groups, models].
NAMES = ("U", "V", "levels")
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True, slots=True)
class Settings:
    """How the factors are learnt."""

    dimensions: int = 32  #: k, length of a model's embedding
    epochs: int = 100  #: passes over the data at most
    patience: int = 5  #: epochs without a better held-out loss after which learning stops
    #: ridge, level_ridge: strengths; see the module.
    ridge: float = 300.0
    level_ridge: float = 1.0
    learning_rate: float = 0.003  #: of Adam
    batch_rows: int = 256  #: rows in a minibatch
    seed: int = 0  #: of the start and the batches


@dataclass(slots=True)
class State:
    """Where learning has got to: after ``epoch`` epochs."""

    epoch: int  #: epochs done
    steps: int  #: minibatches done
    #: parameters by name, their moments as "mean.U" and "square.U", and the best so far as
    #: "best.U".
    arrays: dict[str, Array]
    losses: list[float]  #: held-out loss after each epoch

    @property
    def best_epoch(self) -> int:
        """The epoch of the least held-out loss, from 1; 0 before the first."""
        return int(np.argmin(self.losses)) + 1 if self.losses else 0


def start(settings: Settings, dimensions: int, models: int, groups: int) -> State:
    """The state before the first epoch: small random factors, levels of 0."""
    rng = default_rng([settings.seed, 0])
    k = settings.dimensions
    parameters = {
        "U": rng.normal(0.0, 0.3 / np.sqrt(dimensions), (k, dimensions)).astype(np.float32),
        "V": rng.normal(0.0, 0.3 / np.sqrt(k), (models, k)).astype(np.float32),
        "levels": np.zeros((groups, models), dtype=np.float32),
    }
    arrays: dict[str, Array] = {}
    for name, value in parameters.items():
        arrays |= {name: value, f"best.{name}": value.copy()}
        arrays |= {f"{kind}.{name}": np.zeros_like(value) for kind in ("mean", "square")}
    return State(0, 0, arrays, [])


def loss_and_gradient(
    parameters: dict[str, Array],
    X: Array,
    pairs: Pairs,
    rows: Int64Array,
    taken: Int64Array,
    local: Int64Array,
    settings: Settings,
    total_weight: float,
) -> tuple[float, dict[str, Array]]:
    """Loss of a batch and its gradient by parameter, in the parameters' dtype.

    Args:
        parameters: U, V and levels.
        X: [r, d], centred and scaled embeddings of all rows.
        pairs: all pairs.
        rows: int64[m], the rows of the batch.
        taken: int64[n], the pairs of the batch.
        local: int64[n], place of each pair's row among ``rows``.
        settings: the ridge strengths.
        total_weight: sum of the weights of all pairs that are learnt from.
    """
    U, V, levels = (parameters[name] for name in NAMES)
    models, groups = V.shape[0], levels.shape[0]
    E = X[rows]
    Z = E @ U.T
    scores = Z @ V.T + levels[pairs.group_ids[rows]]
    a, b, y = pairs.a[taken], pairs.b[taken], pairs.preference[taken]
    weights = pairs.weights[taken] / pairs.weights[taken].sum()
    margin = (scores[local, b] - scores[local, a]).astype(np.float64)
    loss = float(weights @ cross_entropy(margin, y))
    residual = weights * (sigmoid(margin) - y)
    cells = len(rows) * models
    R = np.bincount(local * models + b, residual, cells)
    R -= np.bincount(local * models + a, residual, cells)
    R = R.reshape(len(rows), models).astype(V.dtype)
    shrink, shrink_levels = settings.ridge / total_weight, settings.level_ridge / total_weight
    in_group = np.zeros((groups, models), dtype=V.dtype)
    np.add.at(in_group, pairs.group_ids[rows], R)
    gradient: dict[str, Array] = {
        "U": (R @ V).T @ E + U.dtype.type(shrink) * U,
        "V": R.T @ Z + V.dtype.type(shrink) * V,
        "levels": in_group + V.dtype.type(shrink_levels) * levels,
    }
    loss += 0.5 * shrink * float((U**2).sum(dtype=np.float64) + (V**2).sum(dtype=np.float64))
    loss += 0.5 * shrink_levels * float((levels**2).sum(dtype=np.float64))
    return loss, gradient


def cross_entropy(margin: Float64Array, y: Float64Array) -> Float64Array:
    """-y ln p - (1 - y) ln(1 - p) with p = sigmoid(margin), float64[n]."""
    return np.logaddexp(0.0, margin) - y * margin


def held_out_loss(parameters: dict[str, Array], X: Array, pairs: Pairs) -> float:
    """Weighted mean cross-entropy of ``pairs``, without any ridge."""
    rows = np.unique(pairs.rows)
    U, V, levels = (parameters[name] for name in NAMES)
    scores = (X[rows] @ U.T) @ V.T + levels[pairs.group_ids[rows]]
    local = np.searchsorted(rows, pairs.rows)
    margin = (scores[local, pairs.b] - scores[local, pairs.a]).astype(np.float64)
    return float(np.average(cross_entropy(margin, pairs.preference), weights=pairs.weights))


def learn(
    state: State,
    X: Array,
    learnt: Pairs,
    stopping: Pairs,
    settings: Settings,
    after_epoch: Callable[[State], None] = lambda _: None,
) -> State:
    """Continue from ``state`` until the held-out loss no longer falls; returns it.

    Args:
        state: of ``start``, or as an ``after_epoch`` saved it.
        X: float32[r, d], centred and scaled embeddings of all rows.
        learnt: pairs to learn from. stopping: pairs on held-out rows, to stop by.
        settings: as when learning started.
        after_epoch: is called after each epoch, with the state; it may save, show or raise.
    """
    total_weight = float(learnt.weights.sum())
    while state.epoch < settings.epochs and (
        state.epoch - state.best_epoch < settings.patience or not state.losses
    ):
        parameters = {name: state.arrays[name] for name in NAMES}
        for rows, taken, local in batches(learnt, settings, state.epoch + 1):
            _, gradient = loss_and_gradient(
                parameters, X, learnt, rows, taken, local, settings, total_weight
            )
            state.steps += 1
            _adam(state, gradient, settings.learning_rate)
        state.losses.append(held_out_loss(parameters, X, stopping))
        state.epoch += 1
        if state.best_epoch == state.epoch:
            for name in NAMES:
                state.arrays[f"best.{name}"] = state.arrays[name].copy()
        after_epoch(state)
    return state


def batches(
    pairs: Pairs, settings: Settings, epoch: int
) -> Iterator[tuple[Int64Array, Int64Array, Int64Array]]:
    """Rows, pairs and each pair's place among the rows, of every batch of an epoch."""
    rows, starts, counts = np.unique(pairs.rows, return_index=True, return_counts=True)
    order = default_rng([settings.seed, epoch]).permutation(len(rows))
    for begin in range(0, len(order), settings.batch_rows):
        chosen = order[begin : begin + settings.batch_rows]
        lengths = counts[chosen]
        local = np.repeat(np.arange(len(chosen)), lengths)
        offsets = np.arange(len(local)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield rows[chosen], starts[chosen][local] + offsets, local


def _adam(state: State, gradient: dict[str, Array], rate: float) -> None:
    """One step of Adam (Kingma and Ba 2015), in place."""
    scale = rate * np.sqrt(1.0 - _BETA_2**state.steps) / (1.0 - _BETA_1**state.steps)
    for name, slope in gradient.items():
        mean, square = state.arrays[f"mean.{name}"], state.arrays[f"square.{name}"]
        mean *= _BETA_1
        mean += (1.0 - _BETA_1) * slope
        square *= _BETA_2
        square += (1.0 - _BETA_2) * slope**2
        state.arrays[name] -= (scale * mean / (np.sqrt(square) + _EPSILON)).astype(slope.dtype)
