"""The head of the default router: one direction for how hard a prompt is.

Judges say of real users' prompts how hard they are. A teacher learns this from the vectors of whole
texts, and the head learns from the judges and the teacher. A penalty gives a translation the score
of its original.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from default_router.prompts import MESSAGES, OPEN_ENDED, WRITTEN, Prompts
from fastroute.types import Float32Array, Float64Array

RIDGE, TEACHER_RIDGE = 2.0 / 477, 5.0 / 477
#: Weights in the likelihood: of a file's prompts together, and of equal scores of translations.
JUDGED_WEIGHTS = {
    "wildchat_difficulty": 1.0,
    "wildchat_complexity": 0.5,
    MESSAGES: 1.0,
    WRITTEN: 0.5,
}
OPEN_ENDED_WEIGHT, TAUGHT_WEIGHT, TRANSLATION_WEIGHT = 0.1, 3.0, 110.0
#: What the parts of the length count by what was learnt: beyond 100 units, and up to there. Of two
#: short prompts, the longer one is often only politer.
LONG_FACTOR, SHORT_FACTOR = 1.2, 0.25


class Labels(NamedTuple):
    """Rows of X, their labels, and what they weigh together."""

    rows: npt.NDArray[np.int64]
    labels: Float64Array
    weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Trainer:
    """Trains heads with some prompts held out.

    Attributes:
        prompts: the prompts and their labels.
        X: float64[prompts, dimensions + signals]; the first two signals are lengths.
        sentences: float32[prompts, 512], the encoder's vectors of judged, open-ended prompts and
            conversations; zeros for others.
        differences: float64[passages, dimensions + signals], translations less originals.
        signals: how many elements of ``X`` are signals.
    """

    prompts: Prompts
    X: Float64Array
    sentences: Float32Array
    differences: Float64Array
    signals: int

    def direction(self, held_out: npt.NDArray[np.int64]) -> Float64Array:
        """The head's weights, float64[dimensions + signals], without labels of ``held_out``."""
        labels = self._labels(JUDGED_WEIGHTS, held_out)
        labels += self._labels(dict.fromkeys(OPEN_ENDED, OPEN_ENDED_WEIGHT), held_out)
        of_signals = self.X[:, -self.signals :]
        whole = np.hstack([self.sentences, of_signals])
        taught = whole @ _ridge(whole, labels, TEACHER_RIDGE)
        others = np.union1d(self.prompts.rows(OPEN_ENDED), self.prompts.conversations)
        others = np.setdiff1d(others, held_out)
        labels.append(Labels(others, taught[others], TAUGHT_WEIGHT))
        equal = TRANSLATION_WEIGHT / len(self.differences) * self.differences.T @ self.differences
        learnt = _ridge(self.X, labels, RIDGE, equal)
        learnt[-self.signals] *= LONG_FACTOR
        learnt[-self.signals + 1] *= SHORT_FACTOR
        return learnt

    def _labels(self, weights: dict[str, float], held_out: npt.NDArray[np.int64]) -> list[Labels]:
        found = []
        for file, weight in weights.items():
            rows, labels = self.prompts.labels[file]
            kept = ~np.isin(rows, held_out)
            found.append(Labels(rows[kept], labels[kept], weight))
        return found


def _ridge(
    X: Float64Array, parts: Sequence[Labels], ridge: float, penalty: Float64Array | float = 0.0
) -> Float64Array:
    """Ridge regression with an intercept for each part."""
    left = ridge * np.eye(X.shape[1]) + penalty
    right = np.zeros(X.shape[1])
    for rows, labels, weight in parts:
        x = X[rows] - X[rows].mean(axis=0)
        left += weight / len(rows) * (x.T @ x)
        right += weight / len(rows) * (x.T @ (labels - labels.mean()))
    return np.asarray(np.linalg.solve(left, right), dtype=np.float64)


def compress(
    table: Float32Array, direction: Float64Array, weights: Float64Array, dimensions: int
) -> Float32Array:
    """The table on ``dimensions`` axes: ``direction`` and the principal axes across it."""
    unit = (direction / np.linalg.norm(direction)).astype(np.float32)
    along = table @ unit
    across = table - np.outer(along, unit)
    second = ((across * weights[:, None].astype(np.float32)).T @ across).astype(np.float64)
    axes = np.linalg.eigh(second)[1][:, ::-1][:, : dimensions - 1]
    # Signs are free: the largest element is positive.
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    rest = across @ axes.astype(np.float32)
    # As large as the others, so that rounding to 8 bits costs it no more.
    factor = min(2.0, float(np.sqrt(np.square(rest).mean() / np.square(along).mean())))
    return np.column_stack([along * np.float32(factor), rest]).astype(np.float32)


def quantise(table: Float32Array) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """The table in 8 bits, and the step of each row."""
    steps = np.abs(table).max(axis=1) / 127
    steps[steps == 0] = 1.0
    steps = steps.astype(np.float32)
    return np.rint(table / steps[:, None]).astype(np.int8), steps


def imitate(X: Float64Array, scores: Float64Array, weights: Float64Array) -> Float64Array:
    """Weights of a head on ``X`` that gives ``scores``, by least squares: float64[columns]."""
    mean, level = weights @ X / weights.sum(), weights @ scores / weights.sum()
    x = (X - mean) * np.sqrt(weights)[:, None]
    left = x.T @ x + 1e-6 * weights.sum() * np.eye(X.shape[1])
    right = x.T @ ((scores - level) * np.sqrt(weights))
    return np.asarray(np.linalg.solve(left, right), dtype=np.float64)
