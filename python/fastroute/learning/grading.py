"""Grades of a person who compares two answers without seeing whose they are.

Verdicts are battles, one JSON object a line: ``prompt``, ``model_a``, ``model_b``, ``winner``, as
``read_export`` reads them. Each is on the disk before the next pair is shown.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastroute.artifacts import prompt_hash
from fastroute.data.row_files import read_json_lines, read_rows
from fastroute.data.row_values import refuse_bad
from fastroute.errors import InvalidInputError, OutputError
from fastroute.learning.tune import columns
from fastroute.types import Winner

#: What a key says of the answers as they are shown.
KEYS: Mapping[str, Winner] = {"1": "model_a", "2": "model_b", "3": "tie"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prompt and two answers, in the order in which they are shown.

    Attributes:
        prompt: what the models were asked.
        model_a, model_b: whose answers are shown first and second.
        answer_a, answer_b: the answers.
    """

    prompt: str
    model_a: str
    model_b: str
    answer_a: str
    answer_b: str


def read_comparisons(
    path: str | os.PathLike[str],
    *,
    weak: str,
    strong: str,
    prompt_column: str | None = None,
    skip_bad: bool = False,
) -> list[Comparison]:
    """The comparisons of an export's rows that have both answers, one a distinct prompt.

    Args:
        path: ``.csv``, ``.jsonl`` or ``.parquet``, with an object ``answers`` (text by model), or
            columns such as ``answer_mini`` for the model ``score_mini``.
        weak, strong: the two models. Which is shown first is told by the hash of the prompt.
        prompt_column: name of the column of prompts; by default told from the names.
        skip_bad: leave malformed rows out instead of raising.

    Raises InvalidInputError for a file that can't be used, or no row with both answers.
    """
    file = Path(path)
    rows = list(read_rows(file))
    names = list(dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row))
    column = columns.prompt_column(names, prompt_column)
    of_answers = {model: columns.of_model("answer", model, names) for model in (weak, strong)}
    found: dict[int, Comparison] = {}
    bad: list[str] = []
    for where, row in rows:
        try:
            if isinstance(row, str):
                raise ValueError(row)
            prompt = columns.prompt_text(row, column)
            answers = _answers(row, of_answers)
        except ValueError as error:
            bad.append(f"{where}: {error}")
            continue
        if weak in answers and strong in answers:
            first, second = _order(prompt, weak, strong)
            comparison = Comparison(prompt, first, second, answers[first], answers[second])
            found.setdefault(prompt_hash(prompt), comparison)
    refuse_bad(file, bad, skip_bad)
    if not found:
        raise InvalidInputError(
            f"{file}: no row has answers of both {weak!r} and {strong!r}; give columns such as "
            f"answer_{weak} and answer_{strong}, or an object 'answers' by model; the columns are "
            f"{', '.join(names[:20])}"
        )
    return list(found.values())


def _answers(row: Mapping[str, Any], of_answers: Mapping[str, str | None]) -> dict[str, str]:
    """The answers of a row that are texts, by model. Raises ValueError."""
    given = row.get("answers")
    if isinstance(given, str) and given.strip():
        given = json.loads(given)
    values: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    for model, column in of_answers.items():
        if column is not None:
            values.setdefault(model, row.get(column))
    return {m: text for m, text in values.items() if isinstance(text, str) and text.strip()}


def _order(prompt: str, weak: str, strong: str) -> tuple[str, str]:
    digest = hashlib.sha256(f"order:{prompt}".encode("utf-8", "surrogatepass")).digest()
    return (weak, strong) if digest[0] % 2 else (strong, weak)


class GradeFile:
    """The verdicts so far, in a file that is added to.

    Args:
        path: the file; it is made if it is missing. An unfinished last line, which a crash may
            leave, is cut off.

    Raises InvalidInputError if it can't be used or is not a file of verdicts.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._graded: set[int] = set()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b") as file:
                file.seek(0)
                content = file.read()
                whole = content.rfind(b"\n") + 1
                if content and not whole:
                    raise InvalidInputError(f"{self.path} is not a file of verdicts; name another")
                file.truncate(whole)
        except OSError as error:
            raise InvalidInputError(f"{self.path} can't be used: {error.strerror}") from error
        for where, row in read_json_lines(self.path):
            if not isinstance(row, dict) or not isinstance(row.get("prompt"), str):
                raise InvalidInputError(f"{self.path}, {where}: no verdict; name another file")
            self._graded.add(prompt_hash(row["prompt"]))

    def __len__(self) -> int:
        return len(self._graded)

    def left(self, comparisons: Sequence[Comparison]) -> list[Comparison]:
        """Those that have no verdict yet."""
        return [c for c in comparisons if prompt_hash(c.prompt) not in self._graded]

    def add(self, comparison: Comparison, winner: Winner) -> None:
        """Add a verdict; it is on the disk at return. Raises OutputError."""
        row = {
            "prompt": comparison.prompt,
            "model_a": comparison.model_a,
            "model_b": comparison.model_b,
            "winner": winner,
        }
        try:
            with self.path.open("ab") as file:
                file.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"{self.path} can't be written: {error.strerror}") from error
        self._graded.add(prompt_hash(comparison.prompt))
