"""Calibration: a temperature and three biases, fitted to held-out prompts, in the last layer.

Without its groups' offsets a classifier has learnt differences between prompts, but no level. Both
come from prompts that it has not seen: the cross-entropy of softmax(z / temperature + biases) is
least for them. Outcomes are first put on one level, less their group's mean plus the mean of all:
temperature is to say what a difference *within* a group is worth. Rows still sum to 1, which makes
the loss convex, though a value may leave 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastroute.training.bert.examples import Examples, group_means
from fastroute.training.bert.loop import cross_entropy
from fastroute.training.bert.network import last_layer
from fastroute.types import Float64Array

# Keeps a bias finite where an outcome never occurs, and the order where nothing was learnt.
_BIAS_RIDGE = 1e-3
_SLOPES = (1e-3, 1e3)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What is applied to logits, and what it does on the prompts that it was fitted to."""

    temperature: float  #: logits are divided by it
    biases: tuple[float, float, float]  #: three, added then
    #: loss_before, loss_after: cross-entropy of the levelled outcomes.
    loss_before: float
    loss_after: float

    def apply(self, logits: Float64Array) -> Float64Array:
        """Calibrated logits, float64[n, 3]."""
        calibrated: Float64Array = logits / self.temperature + np.array(self.biases)
        return calibrated


def levelled(examples: Examples, training: Examples) -> Float64Array:
    """Outcomes, float64[n, 3], with the level of their group in ``training`` taken out."""
    _, names, means = group_means(training)
    index = {name: i for i, name in enumerate(names)}
    overall = np.average(training.outcomes, axis=0, weights=training.weights)
    _, own_names, own_means = group_means(examples)
    own = dict(zip(own_names, own_means, strict=True))
    level = np.array([means[index[g]] if g in index else own[g] for g in examples.groups])
    result: Float64Array = examples.outcomes - level + overall
    return result


def fit_calibration(
    logits: Float64Array, outcomes: Float64Array, weights: Float64Array
) -> Calibration:
    """Fit to logits float64[n, 3], outcomes float64[n, 3] of rows that sum to 1, and weights."""
    from scipy.optimize import minimize

    z = logits - logits.mean(axis=1, keepdims=True)
    share = weights / weights.sum()

    def loss(parameters: Float64Array) -> tuple[float, Float64Array]:
        slope, biases = parameters[0], parameters[1:]
        y = slope * z + biases
        odds = np.exp(y - y.max(axis=1, keepdims=True))
        residual = (odds / odds.sum(axis=1, keepdims=True) - outcomes) * share[:, None]
        value = share @ cross_entropy(y, outcomes) + _BIAS_RIDGE / 2 * biases @ biases
        gradient = np.r_[(residual * z).sum(), residual.sum(axis=0) + _BIAS_RIDGE * biases]
        return float(value), gradient

    start = np.array([1.0, 0.0, 0.0, 0.0])
    found = minimize(
        loss, start, jac=True, method="L-BFGS-B", bounds=[_SLOPES, *[(None, None)] * 3],
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000},
    )  # fmt: skip
    slope, biases = float(found.x[0]), [float(b) for b in found.x[1:]]
    calibration = Calibration(1.0 / slope, (biases[0], biases[1], biases[2]), 0.0, 0.0)
    return Calibration(
        calibration.temperature,
        calibration.biases,
        float(share @ cross_entropy(logits, outcomes)),
        float(share @ cross_entropy(calibration.apply(logits), outcomes)),
    )


def fold_in(model: Any, calibration: Calibration) -> None:
    """Change the model's last layer so that its logits are the calibrated ones."""
    import torch

    layer = last_layer(model)
    with torch.no_grad():
        biases = torch.tensor(calibration.biases, dtype=torch.float32)
        if layer.bias is None:
            layer.bias = torch.nn.Parameter(torch.zeros(len(biases)))
        layer.weight /= calibration.temperature
        layer.bias.copy_(layer.bias / calibration.temperature + biases.to(layer.bias.device))
