"""Prompts with answers of two models, and the verdicts on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cli_runner import Ran, fastroute
from graded_traffic import write_csv

MODELS = ("--weak", "score_mini", "--strong", "score_big")


def write(folder: Path, count: int = 6) -> Path:
    """A CSV file of ``count`` prompts; an answer begins with its model's name."""
    rows = [
        {"prompt": f"question {i}", "answer_mini": f"mini says {i}", "answer_big": f"big says {i}"}
        for i in range(count)
    ]
    return write_csv(folder / "export.csv", rows)


def label(folder: Path, keys: str, *more: str, count: int = 6) -> Ran:
    """``fastroute label`` of such prompts in the terminal; verdicts go to ``v.jsonl``."""
    file = write(folder, count)
    return fastroute("label", file, *MODELS, "--output", folder / "v.jsonl", *more, stdin=keys)


def verdicts(output: Path) -> list[dict[str, Any]]:
    """The lines of a file of verdicts."""
    return [json.loads(line) for line in output.read_text().splitlines()]
