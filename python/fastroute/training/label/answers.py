"""Reads prompts and the answers of models to them.

A row of a JSONL, CSV or Parquet file (also .jsonl.gz and .csv.gz) has ``prompt`` (or ``question``)
and may have ``dataset`` and ``id``. Answers stand there in any of these ways:

- ``answers``: an object of model to answer (JSONL, Parquet);
- ``MODEL_response``: a column a model, as in RouteLLM's files;
- ``model_a``, ``response_a``, ``model_b``, ``response_b``, as in Chatbot Arena's files;
- ``model``, ``response``: one answer a row; rows of the same prompt are put together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastroute.data.row_files import file_kind, read_rows
from fastroute.errors import InvalidInputError

_SUFFIX = "_response"


@dataclass
class AnsweredPrompt:
    """One prompt and what models answered."""

    prompt: str  #: what the models were asked
    dataset: str  #: the dataset that it belongs to
    id: str  #: what the file calls it; "" if it doesn't
    answers: dict[str, str] = field(default_factory=dict)  #: answer of each model
    where: str = ""  #: where in the file it stands first, such as "line 3"


def read_answers(path: str | os.PathLike[str]) -> list[AnsweredPrompt]:
    """The prompts of a file in their order, rows with the same dataset, id and prompt in one.

    ``dataset`` is the file's name up to its first dot where a row has none. Raises
    InvalidInputError, with the line's number, for a row that can't be read or gives one model
    another answer than a row before.
    """
    file = Path(path)
    found: dict[tuple[str, str, str], AnsweredPrompt] = {}
    for where, row in read_rows(file):
        here = f"{file}, {where}"
        if isinstance(row, str):
            raise InvalidInputError(f"{here}: {row}")
        prompt = text_of(row, ("prompt", "question"), here)
        dataset = str(row.get("dataset") or file.name.split(".")[0])
        key = dataset, "" if row.get("id") is None else str(row["id"]), prompt
        item = found.setdefault(key, AnsweredPrompt(prompt, dataset, key[1], where=where))
        for model, answer in _answers(row, here):
            if item.answers.setdefault(model, answer) != answer:
                raise InvalidInputError(
                    f"{here}: {model!r} has another answer to this prompt in {item.where}; "
                    "keep one of the two"
                )
    if not found:
        raise InvalidInputError(f"{file} has no prompt ({file_kind(file)})")
    return list(found.values())


def text_of(row: dict[str, Any], names: tuple[str, ...], here: str) -> str:
    """The first of the fields ``names`` that ``row`` has, which must be text that isn't blank."""
    for name in names:
        value = row.get(name)
        if value is not None:
            if not isinstance(value, str) or not value.strip():
                raise InvalidInputError(f"{here}: {name!r} must be text, got {value!r}")
            return value
    raise InvalidInputError(f"{here}: there is no {' or '.join(map(repr, names))}")


def _answers(row: dict[str, Any], here: str) -> Iterator[tuple[str, str]]:
    pairs: list[tuple[Any, Any]] = []
    given = row.get("answers")
    if given is not None:
        if not isinstance(given, dict):
            raise InvalidInputError(
                f"{here}: 'answers' must be an object of model to answer, got "
                f"{type(given).__name__}"
            )
        pairs += given.items()
    pairs += ((name.removesuffix(_SUFFIX), row[name]) for name in row if name.endswith(_SUFFIX))
    for model, response in (
        ("model", "response"),
        ("model_a", "response_a"),
        ("model_b", "response_b"),
    ):
        if row.get(model) is not None and row.get(response) is not None:
            pairs.append((row[model], row[response]))
    for model, answer in pairs:
        if answer is None:  # Parquet fills an object's missing models in
            continue
        if not isinstance(model, str) or not isinstance(answer, str):
            raise InvalidInputError(
                f"{here}: the answer of {model!r} must be text, got {type(answer).__name__}"
            )
        yield model, answer
