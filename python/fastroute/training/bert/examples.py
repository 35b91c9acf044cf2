"""What a classifier learns from: prompts, and how often the strong model wins, ties and loses."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastroute._arrays import check_array, check_finite
from fastroute._validate import check_prompts
from fastroute.errors import InvalidInputError
from fastroute.routers.bert import LABELS
from fastroute.training.folds import fold_numbers
from fastroute.types import BoolArray, Float64Array, Int64Array

#: The classes of the classifier, in the order of its logits.
OUTCOMES = LABELS
#: Of so many folds one is held out to stop the training, and one to calibrate and to report on.
HELD_OUT_FOLDS = 20


@dataclass(frozen=True, slots=True)
class Examples:
    """Prompts and their outcomes."""

    prompts: list[str]  #: n texts
    outcomes: Float64Array  #: float64[n, 3], how probable each of ``OUTCOMES`` is; rows sum to 1
    #: n names, such as the dataset of each prompt. Only differences within a group are learnt.
    groups: list[str]
    weights: Float64Array  #: float64[n], how much each prompt counts, with mean 1

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, chosen: BoolArray) -> Examples:
        """The examples where ``chosen``, bool[n], is true; weights stay as they are."""
        rows = np.flatnonzero(chosen)
        return Examples(
            [self.prompts[i] for i in rows],
            self.outcomes[rows],
            [self.groups[i] for i in rows],
            self.weights[rows],
        )

    def fingerprint(self) -> str:
        """SHA-256 of everything in them, 64 hex digits."""
        digest = hashlib.sha256()
        for text in (*self.prompts, *self.groups):
            digest.update(f"{len(text)}:{text}".encode("utf-8", "surrogatepass"))
        digest.update(self.outcomes.tobytes() + self.weights.tobytes())
        return digest.hexdigest()


def make_examples(
    prompts: Sequence[str],
    outcomes: Float64Array,
    *,
    groups: Sequence[str] | None = None,
    weights: Float64Array | None = None,
) -> Examples:
    """Check them and put them together; one group and equal weights where none are given.

    Raises InvalidInputError for lengths that differ, outcomes that are not probabilities, or
    weights that are not above 0.
    """
    texts = check_prompts(prompts)
    n = len(texts)
    check_array("outcomes", outcomes, np.float64, 2)
    check_finite("outcomes", outcomes)
    names = [""] * n if groups is None else list(groups)
    if weights is None:
        weights = np.ones(n)
    check_array("weights", weights, np.float64, 1)
    check_finite("weights", weights)
    if not (n == len(names) == len(weights) and outcomes.shape == (n, len(OUTCOMES))):
        raise InvalidInputError(
            f"prompts, outcomes, groups and weights must go together, got {n}, "
            f"{list(outcomes.shape)}, {len(names)} and {len(weights)}; outcomes is [n, 3]"
        )
    wrong = (outcomes < 0.0).any(axis=1) | (np.abs(outcomes.sum(axis=1) - 1.0) > 1e-6)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise InvalidInputError(
            f"outcomes[{i}] is {outcomes[i].tolist()}; give three probabilities that sum to 1: "
            f"{', '.join(OUTCOMES)}"
        )
    if (weights <= 0.0).any():
        i = int(np.argmax(weights <= 0.0))
        raise InvalidInputError(f"weights[{i}] is {weights[i]}; a weight must be above 0")
    return Examples(texts, outcomes, names, weights / weights.mean() if n else weights)


def split(examples: Examples, seed: int) -> tuple[Examples, Examples, Examples]:
    """Examples to learn from, to stop by, and to calibrate and report on: 18, 1 and 1 of 20.

    Which prompt goes where is decided by its letters and digits and the seed. Raises
    InvalidInputError where one of the three would be empty.
    """
    folds = fold_numbers(examples.prompts, HELD_OUT_FOLDS, seed)
    parts = tuple(examples.select(chosen) for chosen in (folds > 1, folds == 0, folds == 1))
    if not all(len(part) for part in parts):
        raise InvalidInputError(
            f"prompts: {len(examples)} of them are too few to hold some out; give more distinct "
            "prompts, some thousands"
        )
    return parts[0], parts[1], parts[2]


def group_means(examples: Examples) -> tuple[Int64Array, list[str], Float64Array]:
    """The group of each example, int64[n], the groups' names, and their mean outcomes [g, 3]."""
    names, ids = np.unique(examples.groups, return_inverse=True)
    sums = np.zeros((len(names), len(OUTCOMES)))
    np.add.at(sums, ids, examples.outcomes * examples.weights[:, None])
    totals = np.bincount(ids, examples.weights, minlength=len(names))
    return ids.astype(np.int64), [str(name) for name in names], sums / totals[:, None]
