"""Reads battles from a JSONL file: one object a line with prompt, model_a, model_b and winner."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fastroute.errors import InvalidInputError
from fastroute.types import WINNERS, Battle

#: RouteLLM drops shorter prompts: "hi" says nothing on which model is better.
LEAST_PROMPT_CHARACTERS = 16


def read_battles(path: str | os.PathLike[str]) -> list[Battle]:
    """Read the battles of a JSONL file; blank lines are skipped.

    Prompts of fewer than 16 characters (without surrounding white space) are dropped, as in
    RouteLLM. Raises InvalidInputError with the line number of the first malformed line.
    """
    file = Path(path)
    try:
        # Split at line feeds only: a JSON string may hold other line separators, such as U+2028.
        lines = file.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"battles: {file} can't be read: {error}") from error
    battles = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        battle = _battle(line, f"{file}, line {number}")
        if len(battle.prompt.strip()) >= LEAST_PROMPT_CHARACTERS:
            battles.append(battle)
    if not battles:
        raise InvalidInputError(
            f"battles: {file} has no battle with a prompt of at least "
            f"{LEAST_PROMPT_CHARACTERS} characters"
        )
    return battles


def _battle(line: str, where: str) -> Battle:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError) as error:  # nested too deep, or no JSON at all
        raise InvalidInputError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise InvalidInputError(f"{where}: a JSON object is needed, got {type(row).__name__}")
    for field in Battle._fields:
        if not isinstance(row.get(field), str):
            raise InvalidInputError(f"{where}: {field!r} must be a string, got {row.get(field)!r}")
    if row["winner"] not in WINNERS:
        raise InvalidInputError(
            f"{where}: 'winner' is {row['winner']!r}; it must be one of "
            f"{', '.join(map(repr, WINNERS))}"
        )
    return Battle(row["prompt"], row["model_a"], row["model_b"], row["winner"])
