"""Reads the evaluation sets that must not be trained on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastroute._checks import check_path
from fastroute.data import EvaluationPrompts
from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.routellm import LOADERS
from fastroute.evaluation.benchmarks.traffic import load_prompts


def read_evaluation_prompts(paths: Sequence[str | os.PathLike[str]]) -> EvaluationPrompts:
    """The prompts of files (``.txt``, a line each, ``.jsonl``, ``.csv``, ``.parquet``).

    A folder is read as a checkout of RouteLLM, with its three benchmarks. Raises InvalidInputError
    for what can't be read.
    """
    prompts: list[str] = []
    for path in paths:
        place = check_path("exclude", path)
        if Path(place).is_dir():
            for load in LOADERS.values():
                prompts += load(place).prompts
        elif Path(place).exists():
            prompts += load_prompts(place)
        else:
            raise InvalidInputError(f"exclude: no file or folder {os.fspath(place)!r}")
    return EvaluationPrompts(prompts)
