"""Labels 1 to 5 from preferences: how well the weak model does, next to the strong one.

RouteLLM's classifier answers one of five labels and sends a prompt to the weak model at 4 and 5.
With s the strength of the preference for the strong model, 0 to 1 (1: the strong model always won,
1/2: a tie, 0: it always lost)::

    label 1    5/6 < s          the strong model is clearly preferred
    label 2    2/3 < s <= 5/6
    label 3    1/2 < s <= 2/3   it is preferred a little
    label 4    1/4 < s <= 1/2   level, or the weak model is preferred a little
    label 5          s <= 1/4   the weak model is clearly preferred

so that P(label >= 4) is the probability that the weak model is good enough. A tie counts for the
weak model, as in ``bert``. RouteLLM's own labels, of a judge that rates the weak model's answer
from 1 to 5, come out as they are: see ``fastroute.data.layouts``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from fastroute.data import TrainingData
from fastroute.errors import InvalidInputError
from fastroute.training.pair_outcomes import outcomes_between
from fastroute.types import Float64Array, Int64Array

#: Least strength of preference, exclusive, of the labels 1 to 4.
EDGES = (5 / 6, 2 / 3, 1 / 2, 1 / 4)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Prompts and their labels."""

    prompts: list[str]  #: n different texts
    labels: Int64Array  #: int64[n], 1 to 5

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: Int64Array) -> Labelled:
        """The prompts at ``rows``."""
        return Labelled([self.prompts[i] for i in rows], self.labels[rows])


def labels_of(strengths: Float64Array) -> Int64Array:
    """Labels, int64[n], of strengths of preference for the strong model, float64[n]."""
    bad = ~((strengths >= 0.0) & (strengths <= 1.0))
    if bad.any():
        raise InvalidInputError(
            f"strengths[{int(np.argmax(bad))}] is {strengths[bad][0]}; it must be 0 to 1"
        )
    # Thirds that came from division must not fall on the wrong side of an edge.
    labels = 1 + sum((strengths <= edge + 1e-12).astype(np.int64) for edge in EDGES)
    return np.asarray(labels, dtype=np.int64)


def labelled(
    data: TrainingData, strong: Collection[str] = (), weak: Collection[str] = ()
) -> Labelled:
    """Prompts and labels of training data, by ``pair_outcomes.outcomes_between`` and its errors.

    The strengths of several records on one prompt are averaged.
    """
    found = outcomes_between(data, strong, weak)
    strengths: dict[str, list[float]] = {}
    for record, strength in zip(found.records, found.strengths.tolist(), strict=True):
        strengths.setdefault(record.prompt, []).append(strength)
    means = np.array([float(np.mean(of_prompt)) for of_prompt in strengths.values()])
    return Labelled(list(strengths), labels_of(means))
