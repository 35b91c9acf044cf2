"""Judged difficulty: labels of how hard prompts are, which say where the strong model may be needed
before any answer is graded.

They are ratings (``prompt``, ``difficulty``, perhaps ``standard_error``) or pairs (``prompt``,
``prompt_b``, ``harder``), such as ``fastroute augment difficulty`` writes, in a file of their own
or in columns beside the grades. A direction in the embedding is learnt from them, which is a
candidate and a second prior of the head. Nothing is promised from them: that takes grades.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastroute.data import HarderPrompt, RatedPrompt
from fastroute.data.columns import Columns, is_blank
from fastroute.data.layouts import is_rated, parse_row
from fastroute.data.row_files import Row
from fastroute.embedders.base import Embedder
from fastroute.learning.tune.groups import group_prompts
from fastroute.training.mf.difficulty import LEAST_PROMPTS, difficulty_vector
from fastroute.types import Float64Array

Judged = RatedPrompt | HarderPrompt
_LABELS = ("difficulty", "harder")


def has_label(row: Row) -> bool:
    """Whether a row says how hard its prompt is."""
    return (
        isinstance(row, dict)
        and is_rated(row)
        and any(not is_blank(row.get(name)) for name in _LABELS)
    )


def read_label(row: Row, name: str, where: str, prompt: str) -> Judged:
    """The label of a row that ``has_label``. Raises ValueError."""
    assert isinstance(row, dict)
    given = {**row, "prompt": row.get(prompt)}
    label = parse_row(given, Path(name).name, where, Columns([]), difficulty=True).difficulty
    assert label is not None
    return label


def judged_vector(
    labels: Sequence[Judged], held_out: Sequence[str], embedder: Embedder, seed: int
) -> tuple[Float64Array | None, str]:
    """A direction learnt from ``labels``, float64[d], and what is to be said of it. None where too
    few are left without prompts that are like those ``held_out``."""
    prompts = list(dict.fromkeys(prompt for label in labels for prompt in _prompts_of(label)))
    groups = group_prompts([*held_out, *prompts]).ids
    held = set(groups[: len(held_out)].tolist())
    known = {
        prompt
        for prompt, group in zip(prompts, groups[len(held_out) :].tolist(), strict=True)
        if group not in held
    }
    kept = [label for label in labels if all(prompt in known for prompt in _prompts_of(label))]
    used = {prompt for label in kept for prompt in _prompts_of(label)}
    said = f"Judged difficulty: {len(kept):,} of {len(labels):,} labels are not of test prompts"
    if len(used) < LEAST_PROMPTS:
        return None, f"{said}, of {len(used):,} prompts, where {LEAST_PROMPTS} are needed."
    rated = [label for label in kept if isinstance(label, RatedPrompt)]
    harder = [label for label in kept if isinstance(label, HarderPrompt)]
    vector = difficulty_vector(rated, harder, embedder, seed=seed)
    if not np.isfinite(vector).all() or not vector.any():
        return None, f"{said}; they do not say which prompts are harder."
    return vector, f"{said}, and are learnt from."


def _prompts_of(label: Judged) -> tuple[str, ...]:
    return (label.prompt,) if isinstance(label, RatedPrompt) else (label.prompt, label.prompt_b)
