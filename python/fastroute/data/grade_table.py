"""Graded results as a table: prompts by models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastroute.data.records import GradedResult
from fastroute.errors import InvalidInputError
from fastroute.types import BoolArray, Float64Array


@dataclass(frozen=True, slots=True, eq=False)
class GradeTable:
    """What each model scored on each prompt."""

    prompts: tuple[str, ...]  #: n texts
    datasets: tuple[str, ...]  #: n names, of a file and a dataset in it
    models: tuple[str, ...]  #: m names, sorted
    grades: Float64Array  #: float64[n, m], 0..1; NaN where a model has none
    usd: Float64Array  #: float64[n, m], dollars that each answer cost; NaN where not known

    @classmethod
    def of(cls, rows: Sequence[GradedResult]) -> GradeTable:
        """The table of ``rows``. Raises InvalidInputError for no rows."""
        if not rows:
            raise InvalidInputError(
                "there are no graded results; each row needs prompt and scores, an object of model "
                "to score"
            )
        models = tuple(sorted({model for row in rows for model in row.scores}))
        column = {model: j for j, model in enumerate(models)}
        grades = np.full((len(rows), len(models)), np.nan)
        usd = np.full((len(rows), len(models)), np.nan)
        for i, row in enumerate(rows):
            for model, score in row.scores.items():
                grades[i, column[model]] = score
            for model, cost in row.costs.items():
                if model in column:
                    usd[i, column[model]] = cost
        return cls(
            tuple(row.prompt for row in rows), tuple(row.group for row in rows), models, grades, usd
        )

    def take(self, rows: BoolArray) -> GradeTable:
        """The rows where ``rows``, bool[n], is true."""
        kept = np.flatnonzero(rows).tolist()
        return GradeTable(
            tuple(self.prompts[i] for i in kept),
            tuple(self.datasets[i] for i in kept),
            self.models,
            self.grades[rows],
            self.usd[rows],
        )
