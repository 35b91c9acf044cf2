"""Graded prompts that explain an estimate: those nearest to a prompt, and their grades.

They are kept only where the user asks for it, because a router's folder may go to people who must
not read the prompts: as names in the data, as beginnings, or whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from fastroute.routers.many_models.clusters import unit
from fastroute.routers.many_models.neighbors import nearest
from fastroute.types import Float32Array

#: How much of the graded prompts a router keeps.
KeptPrompts = Literal["none", "ids", "beginnings", "texts"]
KEPT_PROMPTS: tuple[KeptPrompts, ...] = get_args(KeptPrompts)
#: Name of the file of an artifact that holds what is kept.
FILE = "examples.json"
_BEGINNING = 80


class NearPrompt(NamedTuple):
    """A graded prompt near to the one that is decided."""

    #: its name in the data, its beginning or its text, as ``train models --keep-prompts`` kept it.
    prompt: str
    similarity: float  #: cosine of the two embeddings less the mean, -1..1
    scores: Mapping[str, float]  #: each model's grade, 0..1, as far as there are any


class GradedExamples:
    """Graded prompts, and which of them are nearest to a prompt.

    Args:
        labels: what is said of each prompt.
        models: the columns of ``grades``.
        grades: float32[n, m], NaN where there is none.
        X: float32[n, d], embeddings of the prompts.
    """

    def __init__(
        self, labels: Sequence[str], models: Sequence[str], grades: Float32Array, X: Float32Array
    ) -> None:
        self.labels, self.models = tuple(labels), tuple(models)
        self.grades, self.X = grades, X
        self._centre: Float32Array = X.mean(axis=0)
        self._rows = unit(X - self._centre)

    def nearest(self, x: Float32Array, count: int) -> tuple[NearPrompt, ...]:
        """The graded prompts nearest to one with the embedding ``x``, float32[d], nearest first."""
        rows, similarities = nearest(self._rows, unit(x[None, :] - self._centre), count)
        return tuple(
            NearPrompt(
                self.labels[i],
                similarity,
                {
                    model: round(grade, 6)
                    for model, grade in zip(self.models, self.grades[i].tolist(), strict=True)
                    if grade == grade
                },
            )
            for i, similarity in zip(rows[0].tolist(), similarities[0].tolist(), strict=True)
        )

    def parts(self) -> tuple[dict[str, Any], bytes]:
        """Arrays and the content of ``FILE`` for an artifact."""
        said = json.dumps({"models": self.models, "labels": self.labels}, ensure_ascii=False)
        return {"examples.X": self.X, "examples.grades": self.grades}, said.encode()

    @classmethod
    def of_parts(cls, arrays: Mapping[str, Any], said: bytes, dimensions: int) -> GradedExamples:
        """The examples of an artifact. Raises ValueError, KeyError or TypeError for wrong parts."""
        document = json.loads(said)
        labels, models = document["labels"], document["models"]
        X, grades = arrays["examples.X"], arrays["examples.grades"]
        for name, array, shape in (
            ("examples.X", X, (len(labels), dimensions)),
            ("examples.grades", grades, (len(labels), len(models))),
        ):
            if array.shape != shape or array.dtype != np.float32:
                raise ValueError(f"{name} is {array.dtype} {array.shape}")
        if not labels or not all(isinstance(name, str) for name in [*labels, *models]):
            raise ValueError(f"{FILE} holds other things than names")
        return cls(labels, models, grades, X)


def beginning(prompt: str) -> str:
    """The first words of a prompt, on one line."""
    line = " ".join(prompt[: 4 * _BEGINNING].split())
    return line if len(line) <= _BEGINNING else line[: _BEGINNING - 1] + "…"
