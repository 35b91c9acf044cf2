"""State in a JSON file that appears whole or not at all, changed by one process at a time."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from fastroute._files import lock, write_whole
from fastroute.errors import InvalidInputError
from fastroute.rollout.canary import Canary
from fastroute.rollout.drift import Drift

T = TypeVar("T", Canary, Drift)
#: Rises when the meaning of a file changes.
SCHEMA = 1


def read_canary(path: Path) -> Canary | None:
    """The canary of a file; None where there is none. Raises InvalidInputError."""
    return _read(path, Canary.from_dict)


def read_drift(path: Path) -> Drift | None:
    """The drift monitor of a file; None where there is none. Raises InvalidInputError."""
    return _read(path, Drift)


def write_state(path: Path, state: Canary | Drift) -> None:
    """Write ``state``. Raises InvalidInputError where the file can't be written."""
    document = {"schema": SCHEMA, **state.to_dict()}
    try:
        write_whole(path, json.dumps(document).encode())
    except OSError as error:
        raise _unusable(path, error) from error


def change(
    path: Path, read: Callable[[Path], T | None], make: Callable[[T | None], T | None]
) -> T | None:
    """Let ``make`` change the state of a file, or make one, while no other process does; None
    leaves the file alone. Returns what the file has then."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock(path.parent):
            before = read(path)
            made = make(before)
            if made is not None:
                write_state(path, made)
            return before if made is None else made
    except OSError as error:
        raise _unusable(path, error) from error


def _read(path: Path, make: Callable[[Mapping[str, Any]], T]) -> T | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        document = json.loads(text)
        if document.pop("schema") != SCHEMA:
            raise InvalidInputError(
                f"{path} was written by another version of fastroute; remove it to start afresh"
            )
        return make(document)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(
            f"{path} can't be read ({type(error).__name__}); remove it to start afresh"
        ) from error


def _unusable(path: Path, error: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path} can't be used: {error.strerror}")
