"""From graded results or battles to examples."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from fastroute.battles import read_battles
from fastroute.errors import InvalidInputError
from fastroute.training.bert.examples import Examples, make_examples
from fastroute.training.default_router import weights_of
from fastroute.training.labels import outcomes, outcomes_of_pair
from fastroute.training.preferences import FILES, Preference, PreferenceFile, read_preferences
from fastroute.types import Battle


def read_graded(path: str | os.PathLike[str]) -> list[Preference]:
    """Graded prompts of one file, gzipped JSON lines, or of a folder with the default router's.

    Errors are those of ``read_preferences``.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        return read_preferences(place, FILES)
    return read_preferences(place.parent, [PreferenceFile(place.name, "", "")])


def from_graded(
    rows: Sequence[Preference],
    *,
    label: str = "difficulty",
    strong: Collection[str] = (),
    weak: Collection[str] = (),
    weighting: str = "files",
) -> Examples:
    """Examples of graded prompts, a group for each file and dataset.

    With ``strong`` and ``weak`` models the outcomes are of a pair of them, both drawn at random,
    and prompts that lack either are left out; else of the pair that ``label`` stands for. With
    ``weighting`` "files" each file counts the same, with "rows" each prompt. Raises
    InvalidInputError where nothing is left.
    """
    if strong or weak:
        _check_pair(strong, weak)
        rows = [row for row in rows if set(row.scores) & {*strong} and set(row.scores) & {*weak}]
    if not rows:
        raise InvalidInputError(
            "no prompt is left to train on: none has scores of both a strong and a weak model"
            if strong
            else "there is no prompt to train on; give files with graded prompts"
        )
    values = outcomes_of_pair(rows, strong, weak) if strong else outcomes(rows, label)
    return make_examples(
        [row.prompt for row in rows],
        values,
        groups=[row.group for row in rows],
        weights=weights_of(rows, weighting),
    )


def read_battle_examples(
    path: str | os.PathLike[str], strong: Collection[str], weak: Collection[str]
) -> Examples:
    """Examples of the battles in a file of ``fastroute.battles.read_battles``."""
    return from_battles(read_battles(path), strong, weak)


def from_battles(
    battles: Sequence[Battle], strong: Collection[str], weak: Collection[str]
) -> Examples:
    """Examples of the battles between a strong and a weak model; others are left out.

    All are one group. Raises InvalidInputError where no battle is such a one.
    """
    _check_pair(strong, weak)
    prompts, values = [], []
    for battle in battles:
        if battle.model_a in strong and battle.model_b in weak:
            won = battle.winner == "model_a", battle.winner == "model_b"
        elif battle.model_a in weak and battle.model_b in strong:
            won = battle.winner == "model_b", battle.winner == "model_a"
        else:
            continue
        prompts.append(battle.prompt)
        values.append([float(won[0]), float(not any(won)), float(won[1])])
    if not prompts:
        names = sorted({m for battle in battles for m in (battle.model_a, battle.model_b)})
        raise InvalidInputError(
            "no battle is between one of the strong models and one of the weak models; the models "
            f"are {', '.join(names[:10])}{' ...' if len(names) > 10 else ''}"
        )
    return make_examples(prompts, np.array(values))


def _check_pair(strong: Collection[str], weak: Collection[str]) -> None:
    if not strong or not weak:
        raise InvalidInputError("give both the strong models and the weak models by name")
    both = sorted({*strong} & {*weak})
    if both:
        raise InvalidInputError(f"{', '.join(both)}: a model can't be both strong and weak")
