"""The state of a canary and of drift: a row each in the journal's database, which all workers and
replicas read and change."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, select, update

from fastroute.errors import InvalidInputError
from fastroute.journal.database import insert_new, writing
from fastroute.journal.schema import ROLLOUTS
from fastroute.rollout.canary import Canary
from fastroute.rollout.drift import Drift

T = TypeVar("T", Canary, Drift)


def read(engine: Engine, kind: type[T]) -> T | None:
    """The state; None where there is none. Raises InvalidInputError for one that can't be read, and
    as SQLAlchemy does."""
    found = read_newer(engine, kind, 0)
    return found and found[1]


def read_newer(engine: Engine, kind: type[T], version: int) -> tuple[int, T] | None:
    """The version and the state, where another than ``version`` is there."""
    of = ROLLOUTS.c
    name = kind.__name__.lower()
    wanted = select(of.version, of.state).where(of.name == name, of.version != version)
    with engine.connect() as connection:
        row = connection.execute(wanted).first()
    if row is None or row.state is None:
        return None
    what, remedy = f"the journal's state of {name}", f"delete row {name!r} of the table rollouts"
    return row.version, _made(kind, lambda: json.loads(row.state), what, remedy)


def change(engine: Engine, kind: type[T], make: Callable[[T | None], T | None]) -> T | None:
    """Let ``make`` change the state, or make one; None leaves it alone. Returns what is there then.

    If another process has changed it meanwhile, ``make`` is called again, with the new state.
    """
    of, name = ROLLOUTS.c, kind.__name__.lower()
    while True:
        version, before = read_newer(engine, kind, 0) or (0, None)
        made = make(before)
        if made is None:
            return before
        with writing(engine) as connection:
            insert_new(connection, ROLLOUTS, [{"name": name, "version": 0}])
            changed = connection.execute(
                update(ROLLOUTS).where(of.name == name, of.version == version)
                .values(version=version + 1, state=json.dumps(made.to_dict()))
            )  # fmt: skip
        if changed.rowcount == 1:
            return made


def take_over(engine: Engine, kind: type[T], path: Path) -> bool:
    """If the journal has no state, take over the file in which an earlier version of fastroute kept
    it, and rename it. Returns whether it was taken over."""
    if not path.is_file() or read(engine, kind) is not None:
        return False
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path} can't be read: {error.strerror}") from error
    saved = _made(kind, lambda: _without_schema(json.loads(text)), str(path), "remove it")
    if change(engine, kind, lambda found: None if found else saved) is not saved:
        return False
    with suppress(OSError):  # another journal does not take it over
        path.rename(path.with_name(f"{path.name}.taken-over"))
    return True


def _without_schema(document: dict[str, Any]) -> dict[str, Any]:
    if document.pop("schema") != 1:
        raise ValueError
    return document


def _made(kind: type[T], load: Callable[[], Mapping[str, Any]], what: str, remedy: str) -> T:
    make: Any = getattr(kind, "from_dict", kind)
    try:
        made: T = make(load())
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(
            f"{what} can't be read ({type(error).__name__}), because it is damaged or of another "
            f"version of fastroute: {remedy}"
        ) from error
    return made
