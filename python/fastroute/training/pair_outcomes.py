"""How training data says a strong model did against a weak one, prompt by prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from fastroute.data import GradedResult, JudgedBattle, TrainingData
from fastroute.errors import InvalidInputError
from fastroute.training.labels import outcomes_of_pair
from fastroute.types import Float64Array


class PairOutcomes(NamedTuple):
    """Records and what they say."""

    records: Sequence[JudgedBattle | GradedResult]  #: n battles and graded results; battles first
    #: float64[n, 3], how probable it is that strong wins, that they tie, and that weak wins; rows
    #: sum to 1.
    outcomes: Float64Array

    @property
    def strengths(self) -> Float64Array:
        """How far the strong model is preferred, float64[n], 0 to 1; 1/2 for a tie."""
        return self.outcomes[:, 0] + self.outcomes[:, 1] / 2


def outcomes_between(
    data: TrainingData, strong: Collection[str] = (), weak: Collection[str] = ()
) -> PairOutcomes:
    """The battles between a ``strong`` and a ``weak`` model, and the results of both; others go.

    A preference between a tie and a win is taken as a mixture of both. Of a graded result the
    outcomes are of a pair of models drawn at random from those that it has (``labels``). Where no
    model is named they are the models "strong" and "weak", if the data has those. Raises
    InvalidInputError where it is not clear which models are meant, or nothing is left.
    """
    strong, weak = _named(data, strong, weak)
    battles: list[JudgedBattle] = []
    strengths: list[float] = []
    for battle in data.battles:
        if battle.model_a in strong and battle.model_b in weak:
            strengths.append(1.0 - battle.preference)
        elif battle.model_a in weak and battle.model_b in strong:
            strengths.append(battle.preference)
        else:
            continue
        battles.append(battle)
    graded = [
        row
        for row in data.graded
        if not strong.isdisjoint(row.scores) and not weak.isdisjoint(row.scores)
    ]
    if not battles and not graded:
        raise InvalidInputError(
            "no prompt is left to train on: no battle is between a strong model "
            f"({_list(strong)}) and a weak one ({_list(weak)}), and no graded result has scores of "
            f"both; the data is of {_list(data.models)}"
        )
    lead = 2.0 * np.array(strengths) - 1.0
    of_battles = np.stack([np.maximum(lead, 0), 1.0 - np.abs(lead), np.maximum(-lead, 0)], axis=1)
    of_graded = outcomes_of_pair(graded, sorted(strong), sorted(weak))
    return PairOutcomes([*battles, *graded], np.concatenate([of_battles, of_graded]))


def _named(
    data: TrainingData, strong: Collection[str], weak: Collection[str]
) -> tuple[frozenset[str], frozenset[str]]:
    if not strong and not weak and {"strong", "weak"} <= {*data.models}:
        return frozenset({"strong"}), frozenset({"weak"})
    if not strong or not weak:
        raise InvalidInputError(
            f"give both --strong and --weak; the data has the models {_list(data.models)}"
        )
    both = {*strong} & {*weak}
    if both:
        raise InvalidInputError(f"{_list(both)}: a model can't be both strong and weak")
    return frozenset(strong), frozenset(weak)


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:10]) + (" ..." if len(names) > 10 else "")
