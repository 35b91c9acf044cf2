"""Recorded answers of several models with their grades, to measure cascades by evidence.

Two layouts are read, from JSON lines, CSV or Parquet: rows with ``answers`` and ``scores``, each a
dict by model; and columns in pairs, ``NAME`` with a grade and ``NAME_response`` with the answer, as
in RouteLLM's GSM8K results.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._checks import check_path
from fastroute.data.row_files import read_rows
from fastroute.errors import InvalidInputError
from fastroute.evidence import Answer
from fastroute.types import Float64Array

_RESPONSE = "_response"
_TRUTHS = {"true": 1.0, "false": 0.0}

#: Characters per token where a file has no token counts: typical of English.
CHARACTERS_PER_TOKEN = 4.0


@dataclass(frozen=True)
class RecordedAnswers:
    """What n models answered to m prompts."""

    prompts: tuple[str, ...]  #: the m prompts
    answers: Mapping[str, tuple[Answer, ...]]  #: by model, m answers
    scores: Mapping[str, Float64Array]  #: by model, float64[m]
    #: by model, float64[m, 2]: tokens in and out, estimated where a file has none.
    tokens: Mapping[str, Float64Array]
    #: by model, float64[m] seconds; only the models that have them for every prompt.
    latency_s: Mapping[str, Float64Array]
    dropped: int  #: number of rows without a match in every file
    estimated_tokens: bool  #: whether token counts were estimated from characters

    @property
    def models(self) -> tuple[str, ...]:
        """The models that answered every prompt, by name."""
        return tuple(self.answers)

    def check_models(self, models: Sequence[str]) -> None:
        """Raise InvalidInputError for a model that has no answers here."""
        for model in models:
            if model not in self.answers:
                raise InvalidInputError(
                    f"no answers of {model!r}; the models are {', '.join(self.models)}"
                )

    def pair_scores(self, weak: str, strong: str) -> tuple[Float64Array, Float64Array]:
        """Scores of the two, float64[m]. Raises InvalidInputError unless ``strong`` is better."""
        w, s = self.scores[weak], self.scores[strong]
        if not s.mean() > w.mean():
            raise InvalidInputError(
                f"{strong} scores {s.mean():.4g} and {weak} {w.mean():.4g}: the strong model must "
                "be better; swap them"
            )
        return w, s


@dataclass(frozen=True, slots=True)
class _Row:
    prompt: str
    answers: dict[str, str]
    scores: dict[str, float]
    tokens: dict[str, tuple[float, float]]
    latency_s: dict[str, float]


def read_answers(paths: Sequence[str | os.PathLike[str]]) -> RecordedAnswers:
    """Read one file, or several that are joined by their question.

    A row's question is its ``question``, or else its ``prompt``; differences of white space are
    ignored. The prompt is that of the first file. A model in two files is read from the first.

    Raises InvalidInputError for a file that can't be read, a row without a prompt or answers, a
    grade that isn't a number, or files without a common question.
    """
    if not paths:
        raise InvalidInputError("paths is empty; give at least one file of answers")
    files = [_read_file(check_path("path", path)) for path in paths]
    first = files[0]
    keys = [key for key in first if all(key in other for other in files[1:])]
    if not keys:
        raise InvalidInputError(
            f"{', '.join(map(str, paths))}: no question is in every file; they are joined by "
            "question, or prompt where there is none"
        )
    rows = [_merge([file[key] for file in files]) for key in keys]
    common = [m for m in rows[0].answers if all(m in row.answers for row in rows)]
    if not common:
        raise InvalidInputError(f"{paths[0]}: no model has an answer and a grade in every row")
    return RecordedAnswers(
        tuple(row.prompt for row in rows),
        {m: tuple(Answer(row.answers[m]) for row in rows) for m in common},
        {m: np.array([row.scores[m] for row in rows]) for m in common},
        {m: np.array([_tokens(row, m) for row in rows]) for m in common},
        {
            m: np.array([row.latency_s[m] for row in rows])
            for m in common
            if all(m in row.latency_s for row in rows)
        },
        sum(len(file) for file in files) - len(files) * len(keys),
        any(m not in row.tokens for row in rows for m in common),
    )


def _merge(rows: Sequence[_Row]) -> _Row:
    merged = _Row(rows[0].prompt, {}, {}, {}, {})
    for row in rows:
        for model, answer in row.answers.items():
            if model in merged.answers or model not in row.scores:
                continue
            merged.answers[model] = answer
            merged.scores[model] = row.scores[model]
            if model in row.tokens:
                merged.tokens[model] = row.tokens[model]
            if model in row.latency_s:
                merged.latency_s[model] = row.latency_s[model]
    return merged


def _tokens(row: _Row, model: str) -> tuple[float, float]:
    if model in row.tokens:
        return row.tokens[model]
    return (
        len(row.prompt) / CHARACTERS_PER_TOKEN,
        len(row.answers[model]) / CHARACTERS_PER_TOKEN,
    )


def _read_file(path: Path) -> dict[str, _Row]:
    """Rows by question; of rows with the same question the first."""
    found: dict[str, _Row] = {}
    for where, row in read_rows(path):
        if isinstance(row, str):
            raise InvalidInputError(f"{path}, {where}: {row}")
        try:
            key, read = _read_row(row)
        except (InvalidInputError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"{path}, {where}: {error}") from error
        found.setdefault(key, read)
    if not found:
        raise InvalidInputError(f"{path} has no rows")
    return found


def _read_row(row: Mapping[str, Any]) -> tuple[str, _Row]:
    prompt = row.get("prompt") or row.get("question")
    if not isinstance(prompt, str) or not prompt.strip():
        raise InvalidInputError("prompt is missing or empty")
    question = row.get("question")
    key = " ".join((question if isinstance(question, str) and question else prompt).split())
    answers = _mapping(row, "answers")
    if answers:
        scores = {m: _grade(m, value) for m, value in _mapping(row, "scores").items()}
        answers = {m: _text(m, value) for m, value in answers.items()}
    else:
        names = [c.removesuffix(_RESPONSE) for c in row if c.endswith(_RESPONSE)]
        names = [name for name in names if name in row]
        if not names:
            raise InvalidInputError(
                "neither answers and scores by model, nor columns NAME and NAME_response"
            )
        answers = {name: _text(name, row[name + _RESPONSE]) for name in names}
        scores = {name: _grade(name, row[name]) for name in names}
    tokens = {
        m: (_amount(m, pair[0]), _amount(m, pair[1]))
        for m, pair in _mapping(row, "tokens").items()
        if isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    }
    latency = {m: _amount(m, value) for m, value in _mapping(row, "latency_s").items()}
    return key, _Row(prompt, answers, scores, tokens, latency)


def _mapping(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = row.get(name)
    if isinstance(value, str) and value.startswith("{"):  # a cell of a CSV file
        value = json.loads(value)
    if value is None or value == "":
        return {}
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{name} must be a dict by model, got {type(value).__name__}")
    return {str(key): item for key, item in value.items() if item is not None}


def _text(model: str, value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidInputError(f"the answer of {model!r} must be text, got {type(value).__name__}")
    return value


def _grade(model: str, value: object) -> float:
    if isinstance(value, str):
        value = _TRUTHS.get(value.strip().lower(), value)
    try:
        grade = float(value)  # type: ignore[arg-type]  # what float refuses is reported
    except (TypeError, ValueError, OverflowError):
        grade = np.nan
    if not np.isfinite(grade):
        raise InvalidInputError(f"{model!r} must have a finite number, got {value!r}")
    return grade


def _amount(model: str, value: object) -> float:
    """Tokens or seconds: a grade that isn't negative, so that no cost is."""
    amount = _grade(model, value)
    if amount < 0:
        raise InvalidInputError(f"{model!r} must have at least 0 tokens and seconds, got {value!r}")
    return amount
