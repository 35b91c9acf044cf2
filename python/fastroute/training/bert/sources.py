"""From training data to examples."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fastroute.data import GradedResult, JudgedBattle, TrainingData
from fastroute.training.bert.examples import Examples, make_examples
from fastroute.training.labels import outcomes
from fastroute.training.pair_outcomes import outcomes_between
from fastroute.training.recipe import weights_of


def examples_of(
    data: TrainingData,
    *,
    label: str = "difficulty",
    strong: Collection[str] = (),
    weak: Collection[str] = (),
    weighting: str = "files",
) -> Examples:
    """Examples of battles and graded results, a group for each file and dataset.

    With ``strong`` and ``weak`` models, and where there are battles alone, the outcomes are those
    of ``pair_outcomes.outcomes_between``; else of the pair of graded models that ``label`` stands
    for, and battles are left out. With ``weighting`` "files" each file counts the same, with
    "rows" each record. Raises InvalidInputError where nothing is left.
    """
    records: Sequence[JudgedBattle | GradedResult]
    if uses_pair(data, strong, weak):
        records, values = outcomes_between(data, strong, weak)
    else:
        records, values = data.graded, outcomes(data.graded, label)
    return make_examples(
        [record.prompt for record in records],
        values,
        groups=[record.group for record in records],
        weights=weights_of(records, weighting),
    )


def uses_pair(data: TrainingData, strong: Collection[str], weak: Collection[str]) -> bool:
    """Whether outcomes are of strong and weak models by name; else battles say nothing."""
    return bool(strong or weak) or not data.graded
