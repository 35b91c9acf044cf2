"""Reads battles from files: a row each, with prompt, model_a, model_b and winner."""

from __future__ import annotations

import os
from pathlib import Path

from fastroute.data.row_files import KINDS, Row, data_files, file_kind, read_json_lines, read_rows
from fastroute.errors import InvalidInputError
from fastroute.types import WINNERS, Battle

#: RouteLLM drops shorter prompts: "hi" says nothing on which model is better.
LEAST_PROMPT_CHARACTERS = 16


def read_battles(path: str | os.PathLike[str]) -> list[Battle]:
    """Read the battles of a file, or of all such files in a folder.

    A file is ``.jsonl`` (as is one of any other name), ``.csv`` or ``.parquet``, each perhaps
    ``.gz``; blank lines are skipped. Prompts of fewer than 16 characters (without surrounding white
    space) are dropped, as in RouteLLM. Raises InvalidInputError with the line of the first
    malformed row (the row, in Parquet), MissingDependencyError for Parquet without pyarrow.
    """
    if not os.fspath(path):  # which would be this folder
        raise InvalidInputError("battles: the path is empty; give a file of battles, or a folder")
    battles = []
    for file in data_files(Path(path)):
        for where, row in (read_rows if file_kind(file) in KINDS else read_json_lines)(file):
            battle = _battle(row, f"{file}, {where}")
            if len(battle.prompt.strip()) >= LEAST_PROMPT_CHARACTERS:
                battles.append(battle)
    if not battles:
        raise InvalidInputError(
            f"battles: {path} has no battle with a prompt of at least "
            f"{LEAST_PROMPT_CHARACTERS} characters"
        )
    return battles


def _battle(row: Row, where: str) -> Battle:
    if isinstance(row, str):
        raise InvalidInputError(f"{where}: {row}")
    for field in Battle._fields:
        if not isinstance(row.get(field), str):
            raise InvalidInputError(
                f"{where}: {field!r} must be a string, got {row.get(field)!r}; it has "
                f"{', '.join(map(str, row)) or 'nothing'} (fastroute train sw_ranking reads other "
                "layouts too)"
            )
    if row["winner"] not in WINNERS:
        raise InvalidInputError(
            f"{where}: 'winner' is {row['winner']!r}; it must be one of "
            f"{', '.join(map(repr, WINNERS))}"
        )
    return Battle(row["prompt"], row["model_a"], row["model_b"], row["winner"])
