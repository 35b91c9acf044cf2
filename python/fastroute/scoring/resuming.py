"""Goes on with a job of many parts where a run of it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from fastroute._progress import progress_bar
from fastroute._tasks.processes import Engine, Task, run_tasks
from fastroute.errors import InvalidInputError
from fastroute.scoring.files import InputFile
from fastroute.scoring.parts import Part

MANIFEST = "manifest.json"
_Result = TypeVar("_Result")


def manifest(facts: Mapping[str, Any], files: Sequence[InputFile], parts: Sequence[Part]) -> bytes:
    """What a job is: ``facts``, and the files as they are now."""
    inputs = [
        {
            "file": file.place.label,
            "bytes": file.size,
            "modified_ns": file.modified_ns,
            "rows": [p.rows for p in parts if p.file == file.place],
        }
        for file in files
    ]
    return document({"format": 1, **facts, "inputs": inputs})


def check_same(before: bytes, now: bytes, label: str) -> None:
    """Raise InvalidInputError where an output folder is of another job than ``now``."""
    if before != now:
        raise InvalidInputError(
            f"output {label} is of something else: {_difference(before, now)}; name another "
            "folder, or pass overwrite (--overwrite)"
        )


def run_parts(
    make: Callable[[], Task],
    parts: Sequence[Part],
    known: Mapping[int, _Result],
    title: str,
    *,
    unit: str,
    workers: int,
    engine: Engine,
    progress: bool,
) -> dict[int, _Result]:
    """The result of each part, by its number; those in ``known`` are not run again."""
    results = dict(known)
    left = {i: part for i, part in enumerate(parts) if i not in known}
    rows = [part.rows for part in left.values() if part.rows is not None]
    total = sum(rows) if len(rows) == len(left) else None
    with progress_bar(total, title, unit=unit, shown=progress) as advance:
        results.update(run_tasks(make, left, workers=workers, engine=engine, advance=advance))
    return results


def document(facts: Mapping[str, Any]) -> bytes:
    """``facts`` as JSON."""
    return (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def _difference(before: bytes, now: bytes) -> str:
    try:
        old = json.loads(before)
        new = json.loads(now)
        name = next(name for name in new if old.get(name) != new[name])
    except (ValueError, AttributeError, StopIteration):
        return "its manifest is not of this version"
    if name != "inputs":
        return f"its {name} was {old.get(name)!r}, now it is {new[name]!r}"
    changed = [file["file"] for file in new[name] if file not in old[name]]
    return f"its inputs differ{' in ' + changed[0] if changed else ''}"
