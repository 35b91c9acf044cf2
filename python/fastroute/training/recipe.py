"""What is chosen about a head that is trained on graded prompts, beside the prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fastroute.data import GradedResult, JudgedBattle
from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array


class Recipe(NamedTuple):
    """What is chosen about the head."""

    label: str = "difficulty"  #: a key of ``labels.LABELS``
    #: how much the prompts of a file count in sum: "rows" as many as they are, "files" the same for
    #: each file.
    weighting: str = "files"
    ridge: float | None = 30.0  #: ridge strength, or None for the best on held-out folds
    #: weight of the prompt's length against what it means, or None to learn it.
    signal_weight: float | None = 1.0


def weights_of(rows: Sequence[GradedResult | JudgedBattle], weighting: str) -> Float64Array:
    """The weight of each row, float64[n], with mean 1."""
    if weighting == "rows":
        return np.ones(len(rows))
    if weighting != "files":
        raise InvalidInputError(f"weighting must be 'rows' or 'files', got {weighting!r}")
    _, index, counts = np.unique(
        [row.file for row in rows], return_inverse=True, return_counts=True
    )
    return len(rows) / (len(counts) * counts[index])
