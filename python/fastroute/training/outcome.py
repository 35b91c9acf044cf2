"""What every kind of training reports: whether the router beats the baselines."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from fastroute.data import TrainingData
from fastroute.errors import InvalidInputError


def check_output(
    folder: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False
) -> Path:
    """The output folder, checked before hours of work.

    Raises InvalidInputError where it can't be made or written to, or holds files and neither
    ``overwrite`` nor ``resume`` is set.
    """
    path = Path(folder)
    try:
        there = next(place for place in (path, *path.resolve().parents) if place.exists())
        good = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
        used = there == path and there.is_dir() and any(there.iterdir())
    except OSError as error:  # a name too long, or a folder that may not be entered
        raise InvalidInputError(f"output {folder} can't be used: {error.strerror}") from error
    if not good:
        why = "is not writable" if there.is_dir() else "is not a folder"
        raise InvalidInputError(f"output {folder}: {there} {why}; name another folder")
    if used and not (overwrite or resume):
        raise InvalidInputError(
            f"output {folder} is not empty; name another folder, or pass overwrite (--overwrite)"
        )
    return path


def data_facts(data: TrainingData) -> dict[str, Any]:
    """What an artifact records of its data: names and counts, no paths."""
    facts = data.report.as_json()
    files = [{**f, "file": Path(f["file"]).name, "examples": []} for f in facts.pop("files")]
    kept = {k: v for k, v in facts.items() if k != "examples"} | {"files": files}
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain
