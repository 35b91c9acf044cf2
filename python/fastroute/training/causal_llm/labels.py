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
from 1 to 5, are used as they are.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError
from fastroute.types import Battle, Float64Array

#: Least strength of preference, exclusive, of the labels 1 to 4.
EDGES = (5 / 6, 2 / 3, 1 / 2, 1 / 4)


@dataclass(frozen=True, slots=True)
class Labelled:
    """Prompts and their labels.

    Attributes:
        prompts: n different texts.
        labels: int64[n], 1 to 5.
    """

    prompts: list[str]
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.prompts)

    def select(self, rows: npt.NDArray[np.int64]) -> Labelled:
        """The prompts at ``rows``."""
        return Labelled([self.prompts[i] for i in rows], self.labels[rows])


def labels_of(strengths: Float64Array) -> npt.NDArray[np.int64]:
    """Labels, int64[n], of strengths of preference for the strong model, float64[n]."""
    bad = ~((strengths >= 0.0) & (strengths <= 1.0))
    if bad.any():
        raise InvalidInputError(
            f"strengths[{int(np.argmax(bad))}] is {strengths[bad][0]}; it must be 0 to 1"
        )
    # Thirds that came from division must not fall on the wrong side of an edge.
    labels = 1 + sum((strengths <= edge + 1e-12).astype(np.int64) for edge in EDGES)
    return np.asarray(labels, dtype=np.int64)


def from_battles(
    battles: Sequence[Battle], strong: Collection[str], weak: Collection[str]
) -> Labelled:
    """Prompts of the battles between a strong and a weak model; several on one prompt are averaged.

    Raises InvalidInputError if there is no such battle.
    """
    strengths: dict[str, list[float]] = {}
    for battle in battles:
        models = (battle.model_a, battle.model_b)
        if battle.winner not in ("model_a", "model_b"):
            won = 0.5
        else:
            won = float(models[battle.winner == "model_b"] in strong)
        if any(a in strong and b in weak for a, b in (models, models[::-1])):
            strengths.setdefault(battle.prompt, []).append(won)
    if not strengths:
        raise InvalidInputError(
            f"no battle is between a strong model ({', '.join(sorted(strong))}) and a weak one "
            f"({', '.join(sorted(weak))})"
        )
    return _labelled({prompt: float(np.mean(won)) for prompt, won in strengths.items()})


def read_graded(path: str | Path) -> Labelled:
    """Read a JSONL file of ``prompt`` with ``weak`` and ``strong``, scores 0 to 1, or ``label``.

    Equal scores are a tie; s = 1/2 + (strong - weak) / 2. A ``label`` of 1 to 5 is taken as it is.
    Of several lines with one prompt the strengths are averaged; labels of one prompt must agree.
    Raises InvalidInputError with the number of the first malformed line.
    """
    file = Path(path)
    try:
        lines = file.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"data: {file} can't be read: {error}") from error
    strengths: dict[str, list[float]] = {}
    labels: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        row = _row(line, where)
        prompt = row["prompt"]
        if "label" in row:
            label = row["label"]
            if type(label) is not int or not 1 <= label <= 5 or labels.get(prompt, label) != label:
                raise InvalidInputError(
                    f"{where}: 'label' must be an int from 1 to 5, the same for each line of a "
                    f"prompt, got {label!r}"
                )
            labels[prompt] = label
            continue
        gap = _score(row, "strong", where) - _score(row, "weak", where)
        strengths.setdefault(prompt, []).append(0.5 + gap / 2)
    if both := strengths.keys() & labels.keys():
        raise InvalidInputError(f"{file}: {next(iter(both))[:60]!r} has scores and a label")
    if not strengths and not labels:
        raise InvalidInputError(f"data: {file} has no line")
    graded = _labelled({prompt: float(np.mean(s)) for prompt, s in strengths.items()})
    return Labelled(
        [*graded.prompts, *labels],
        np.concatenate([graded.labels, np.array(list(labels.values()), dtype=np.int64)]),
    )


def _labelled(strengths: dict[str, float]) -> Labelled:
    return Labelled(
        list(strengths), labels_of(np.array(list(strengths.values()), dtype=np.float64))
    )


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError) as error:
        raise InvalidInputError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
        raise InvalidInputError(f"{where}: an object with a 'prompt' is needed")
    return row


def _score(row: dict[str, Any], name: str, where: str) -> float:
    value = row.get(name)  # true and false are the scores 1 and 0
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InvalidInputError(f"{where}: {name!r} must be a score from 0 to 1, got {value!r}")
    return float(value)
