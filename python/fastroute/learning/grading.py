"""Grades of a person who compares two answers without seeing whose they are.

Verdicts are battles, one JSON object a line: ``prompt``, ``model_a``, ``model_b``, ``winner``, as
``read_export`` reads them. Each is on the disk before the next pair is shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastroute._files import os_errors_as
from fastroute.artifacts import prompt_hash
from fastroute.data.line_file import LineFile
from fastroute.data.row_files import read_rows
from fastroute.data.row_values import refuse_bad
from fastroute.errors import InvalidInputError, OutputError
from fastroute.labelling.comparison import Comparison, Progress, swapped
from fastroute.learning.tune import columns
from fastroute.types import Winner


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
        weak, strong: the two models. Which is shown first is told by hashes of the prompts, so that
            each is first in two of four comparisons.
        prompt_column: name of the column of prompts; by default told from the names.
        skip_bad: leave malformed rows out instead of raising.

    Raises InvalidInputError for a file that can't be used, or no row with both answers.
    """
    file = Path(path)
    rows = list(read_rows(file))
    names = list(dict.fromkeys(name for _, row in rows if isinstance(row, dict) for name in row))
    column = columns.prompt_column(names, prompt_column)
    of_answers = {model: columns.of_model("answer", model, names) for model in (weak, strong)}
    found: dict[str, tuple[str, dict[str, str]]] = {}
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
            found.setdefault(comparison_id(prompt), (prompt, answers))
    refuse_bad(file, bad, skip_bad)
    if not found:
        raise InvalidInputError(
            f"{file}: no row has answers of both {weak!r} and {strong!r}; give columns such as "
            f"answer_{weak} and answer_{strong}, or an object 'answers' by model; the columns are "
            f"{', '.join(names[:20])}"
        )
    comparisons = []
    for (pair_id, (prompt, answers)), swap in zip(found.items(), swapped(list(found)), strict=True):
        a, b = (strong, weak) if swap else (weak, strong)
        comparisons.append(Comparison(pair_id, prompt, a, b, answers[a], answers[b]))
    return comparisons


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


def comparison_id(prompt: str) -> str:
    """The id of the comparison of a prompt."""
    return f"{prompt_hash(prompt):016x}"


class GradeFile(LineFile):
    """``labelling.Pairs`` whose verdicts are lines of a file that is added to.

    Args:
        path: the file; it is made if it is missing. An unfinished last line, which a crash may
            leave, is removed.
        comparisons: what is to be graded.

    Raises InvalidInputError if it can't be used, is in use, or is not a file of verdicts.
    """

    def __init__(
        self, path: str | os.PathLike[str], comparisons: Sequence[Comparison] = ()
    ) -> None:
        super().__init__(path)
        self._comparisons = {comparison.id: comparison for comparison in comparisons}
        # Where the line of each verdict begins, in their order.
        self._starts: dict[str, int] = {}
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        start = 0
        for number, line in enumerate(self.content.split(b"\n")[:-1], 1):
            try:
                pair_id = comparison_id(json.loads(line)["prompt"])
                self._starts.pop(pair_id, None)  # the last of several is at the end
                self._starts[pair_id] = start
            except (ValueError, TypeError, LookupError, AttributeError):
                raise InvalidInputError(
                    f"{self.path}, line {number}: not a verdict; give another file"
                ) from None
            start += len(line) + 1
        if self.torn and not self.content:
            raise InvalidInputError(f"{self.path} is not a file of verdicts; give another file")
        self.cut(self.end)

    def __len__(self) -> int:
        return len(self._starts)

    def left(self) -> list[Comparison]:
        """The comparisons without a verdict."""
        return [c for c in self._comparisons.values() if c.id not in self._starts]

    def progress(self) -> Progress:
        """How many comparisons have a verdict, and how many there are."""
        total = len(self._comparisons)
        return Progress(total - len(self.left()), total)

    def next(self, skipped: Collection[str]) -> Comparison | None:
        """The first comparison without a verdict that is not in ``skipped``."""
        pairs = self._comparisons.values()
        return next((c for c in pairs if c.id not in self._starts and c.id not in skipped), None)

    def grade(self, pair_id: str, winner: Winner, **more: str) -> None:
        """Add a verdict, with further fields; it is on the disk at return.

        Raises InvalidInputError for an unknown id or a pair with a verdict, OutputError.
        """
        comparison = self._comparisons.get(pair_id)
        if comparison is None or pair_id in self._starts:
            raise InvalidInputError("this pair has a verdict, or is not of this file; load again")
        row = {
            "prompt": comparison.prompt,
            "model_a": comparison.model_a,
            "model_b": comparison.model_b,
            "winner": winner,
            **more,
        }
        start = self.end
        with os_errors_as(OutputError, f"{self.path} can't be written"):
            self.append((json.dumps(row, ensure_ascii=False) + "\n").encode())
        self._starts[pair_id] = start

    def undo(self) -> Comparison | None:
        """Remove the last verdict and return its pair; None if there is none, or it is of another
        file of pairs. Raises OutputError."""
        pair_id = next(reversed(self._starts), None)
        if pair_id is None or pair_id not in self._comparisons:
            return None
        with os_errors_as(OutputError, f"{self.path} can't be written"):
            self.cut(self._starts[pair_id])
        del self._starts[pair_id]
        return self._comparisons[pair_id]
