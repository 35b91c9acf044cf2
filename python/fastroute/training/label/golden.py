"""Graded results from an answer key: RouteLLM's D_gold (arXiv 2406.18665, section 4.1).

The key is a JSONL, CSV or Parquet file with ``prompt`` (or ``question``, or ``id``) and ``answer``:
a letter, a number, the position of a multiple choice's answer (an integer beside ``choices``,
from 0, as MMLU has it), or a solution that ends with ``#### 42``, as GSM8K has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

from fastroute.data.row_files import read_rows
from fastroute.errors import InvalidInputError
from fastroute.training.label.answers import AnsweredPrompt
from fastroute.training.label.extraction import (
    Kind,
    equal_numbers,
    extract_choice,
    extract_number,
)

_LETTERS = "ABCDEFGHIJ"
_CHOICE = re.compile(r"\s*\(?([A-Ja-j])\)?\.?\s*")


class KeyEntry(NamedTuple):
    """The right answer to one prompt: a letter, or a number."""

    kind: Kind
    right: str | Fraction
    where: str


@dataclass
class ModelGrades:
    """How one model's responses came out: ``right`` + ``wrong`` + ``unextractable`` in all."""

    right: int = 0  #: responses with the key's answer
    wrong: int = 0  #: responses with another
    unextractable: int = 0  #: responses in which no answer was found; they are graded 0 as well
    examples: list[str] = field(default_factory=list)  #: the ends of up to three of those


@dataclass
class GoldenReport:
    """What grading came to."""

    #: graded results, ``{"dataset", "prompt", "scores", "unextractable"}``, with 1 for a right
    #: response and 0 for any other; ``unextractable`` names the models in whose responses no answer
    #: was found.
    rows: list[dict[str, Any]] = field(default_factory=list)
    models: dict[str, ModelGrades] = field(default_factory=dict)  #: how each model came out
    without_key: int = 0  #: prompts that the key has no answer for; they are not in ``rows``
    without_answers: int = 0  #: prompts that no model answered


def read_key(
    path: str | os.PathLike[str], kind: Literal["auto", "choice", "number"] = "auto"
) -> dict[tuple[str, str], KeyEntry]:
    """The key by ``("id", id)`` and ``("prompt", prompt)``, as far as rows have them.

    Raises InvalidInputError, with the line's number, for an answer that is of no known kind or two
    that contradict each other.
    """
    file = Path(path)
    found: dict[tuple[str, str], KeyEntry] = {}
    for where, row in read_rows(file):
        here = f"{file}, {where}"
        if isinstance(row, str):
            raise InvalidInputError(f"{here}: {row}")
        entry = _entry(row, kind, here)
        prompt = row.get("prompt") or row.get("question")
        names = [("prompt", prompt.strip())] if isinstance(prompt, str) and prompt.strip() else []
        if row.get("id") not in (None, ""):
            names.append(("id", str(row["id"])))
        if not names:
            raise InvalidInputError(f"{here}: there is no 'prompt', 'question' or 'id'")
        for name in names:
            before = found.setdefault(name, entry)
            if before[:2] != entry[:2]:
                raise InvalidInputError(
                    f"{here}: {name[0]} {name[1][:60]!r} has another answer in "
                    f"{before.where.rpartition(', ')[2]}; keep one of the two"
                )
    if not found:
        raise InvalidInputError(f"{file} has no answer")
    return found


def grade(
    prompts: Sequence[AnsweredPrompt], key: Mapping[tuple[str, str], KeyEntry]
) -> GoldenReport:
    """Grade all answers; a prompt is looked up in the key by its id, else by its text."""
    report = GoldenReport()
    for item in prompts:
        entry = key.get(("id", item.id)) if item.id else None
        entry = entry or key.get(("prompt", item.prompt.strip()))
        if entry is None:
            report.without_key += 1
            continue
        if not item.answers:
            report.without_answers += 1
            continue
        scores, unextractable = {}, []
        for model, response in item.answers.items():
            grades = report.models.setdefault(model, ModelGrades())
            is_right = is_correct(response, entry)
            scores[model] = float(bool(is_right))
            if is_right is None:
                unextractable.append(model)
                grades.unextractable += 1
                if len(grades.examples) < 3:
                    grades.examples.append(response.strip()[-120:])
            elif is_right:
                grades.right += 1
            else:
                grades.wrong += 1
        report.rows.append(
            {
                "dataset": item.dataset,
                "prompt": item.prompt,
                "scores": scores,
                "unextractable": unextractable,
            }
        )
    return report


def is_correct(response: str, entry: KeyEntry) -> bool | None:
    """Whether ``response`` has the key's answer; None if no answer is found in it."""
    if isinstance(entry.right, str):
        letter = extract_choice(response)
        return None if letter is None else letter == entry.right
    number = extract_number(response)
    return None if number is None else equal_numbers(number, entry.right)


def _entry(row: Mapping[str, Any], kind: str, here: str) -> KeyEntry:
    answer = row.get("answer")
    if answer is None or isinstance(answer, bool) or not str(answer).strip():
        raise InvalidInputError(f"{here}: there is no 'answer'")
    choices = row.get("choices")
    if kind != "number" and isinstance(answer, int) and isinstance(choices, list):
        if not 0 <= answer < min(len(choices), len(_LETTERS)):
            raise InvalidInputError(
                f"{here}: 'answer' is {answer}, where there are {len(choices)} choices, from 0"
            )
        return KeyEntry("choice", _LETTERS[answer], here)
    text = str(answer)
    letter = _CHOICE.fullmatch(text)
    if kind != "number" and letter:
        return KeyEntry("choice", letter[1].upper(), here)
    if kind != "choice":
        # A key may explain; but a number in the middle of a text is not taken for its answer.
        plain = re.fullmatch(r"\s*\$?\s*[-+]?[\d.,/]+(?:[eE][-+]?\d+)?\s*%?\s*", text)
        number = extract_number(text) if plain or "####" in text else None
        if number is not None:
            return KeyEntry("number", number, here)
    wanted = {"choice": "a letter from A to J", "number": "a number, or a text with #### NUMBER"}
    raise InvalidInputError(
        f"{here}: 'answer' is {text[:60]!r}, which is not "
        f"{wanted.get(kind, ' or '.join(wanted.values()))}"
    )
