"""Training data as arrays: pairs of models on prompts, and how far the second was preferred.

A battle is a pair. A graded result gives every pair of its models, of many models a number of pairs
drawn by the seed: the higher score wins, equal scores are a tie. Of m scores only m - 1 differences
are independent, so the pairs of a graded result weigh m - 1 together, and a battle weighs 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator, default_rng

from fastroute.data import TrainingData
from fastroute.training.folds import fold_numbers
from fastroute.types import BoolArray, Float64Array, Int64Array

Ties = Literal["use", "drop"]
TIES: tuple[Ties, ...] = get_args(Ties)
#: Pairs that are taken of one graded result at most.
PAIRS_PER_PROMPT = 64
_FOLDS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """n pairs on r rows, in the order of their rows; a row is a prompt in a dataset."""

    models: tuple[str, ...]  #: names; the numbers in ``a`` and ``b``
    prompts: tuple[str, ...]  #: text of each row, r of them
    groups: tuple[str, ...]  #: names of the datasets
    group_ids: Int64Array  #: int64[r], dataset of each row
    rows: Int64Array  #: int64[n], row of each pair, rising
    #: a, b: int64[n], the two models.
    a: Int64Array
    b: Int64Array
    preference: Float64Array  #: float64[n], how far b was preferred: 0, 0.5, 1 or between
    weights: Float64Array  #: float64[n], above 0

    def __len__(self) -> int:
        return len(self.rows)

    def where(self, kept: BoolArray) -> Pairs:
        """The pairs ``kept``, bool[n]; rows and models stay what they are."""
        return Pairs(
            self.models, self.prompts, self.groups, self.group_ids, self.rows[kept], self.a[kept],
            self.b[kept], self.preference[kept], self.weights[kept],
        )  # fmt: skip

    def of_rows(self, kept: BoolArray) -> Pairs:
        """The pairs of the rows ``kept``, bool[r]."""
        return self.where(kept[self.rows])

    @property
    def decided(self) -> BoolArray:
        """Which pairs are not ties, bool[n]."""
        decided: BoolArray = self.preference != 0.5
        return decided


def pairs_of(data: TrainingData, *, seed: int = 0, most: int = PAIRS_PER_PROMPT) -> Pairs:
    """All battles, and at most ``most`` pairs of each graded result."""
    number = {model: i for i, model in enumerate(data.models)}
    row_of: dict[tuple[str, str], int] = {}
    found: list[tuple[int, int, int, float, float]] = []

    def row(prompt: str, group: str) -> int:
        return row_of.setdefault((prompt, group), len(row_of))

    for battle in data.battles:
        a, b = number[battle.model_a], number[battle.model_b]
        found.append((row(battle.prompt, battle.group), a, b, battle.preference, 1.0))
    rng = default_rng(seed)
    for graded in data.graded:
        scores = [(number[model], score) for model, score in sorted(graded.scores.items())]
        if len(scores) > 1:
            found += _pairs(row(graded.prompt, graded.group), scores, most, rng)
    columns = list(zip(*sorted(found, key=lambda pair: pair[0]), strict=True)) or [()] * 5
    groups = tuple(dict.fromkeys(group for _, group in row_of))
    group_number = {group: i for i, group in enumerate(groups)}
    return Pairs(
        models=data.models,
        prompts=tuple(prompt for prompt, _ in row_of),
        groups=groups,
        group_ids=np.array([group_number[group] for _, group in row_of], dtype=np.int64),
        rows=np.array(columns[0], dtype=np.int64),
        a=np.array(columns[1], dtype=np.int64),
        b=np.array(columns[2], dtype=np.int64),
        preference=np.array(columns[3], dtype=np.float64),
        weights=np.array(columns[4], dtype=np.float64),
    )


def held_out_parts(prompts: Iterable[str], share: float, seed: int) -> tuple[BoolArray, BoolArray]:
    """Two halves of a share of prompts that are not learnt from, bool[r] each.

    Decided by seed, letters and digits: prompts that differ only in case, punctuation or spacing
    are held out together.
    """
    numbers = fold_numbers(list(prompts), _FOLDS, seed)
    half = share * _FOLDS / 2
    return numbers < half, (numbers >= half) & (numbers < 2 * half)


def _pairs(
    row: int, scores: list[tuple[int, float]], most: int, rng: Generator
) -> list[tuple[int, int, int, float, float]]:
    count = len(scores)
    first, second = np.triu_indices(count, 1)
    if len(first) > most:
        drawn = np.sort(rng.permutation(len(first))[:most])
        first, second = first[drawn], second[drawn]
    weight = (count - 1) / len(first)
    result = []
    for i, j in zip(first.tolist(), second.tolist(), strict=True):
        (a, of_a), (b, of_b) = scores[i], scores[j]
        result.append((row, a, b, 0.5 if of_a == of_b else float(of_b > of_a), weight))
    return result
