"""What is in a journal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Engine, select

from fastroute.journal.database import open_journal
from fastroute.journal.schema import REQUESTS
from fastroute.rollout import states
from fastroute.rollout.canary import Canary
from fastroute.rollout.drift import Drift

T = TypeVar("T", Canary, Drift)


@contextmanager
def opened(place: str | Path) -> Iterator[Engine]:
    """The journal at a URL, or of a gateway in a folder."""
    engine = open_journal(place if isinstance(place, str) else f"sqlite:///{place}/journal.db")
    try:
        yield engine
    finally:
        engine.dispose()


def read_state(place: str | Path, kind: type[T]) -> T | None:
    """The state of a canary or of drift."""
    with opened(place) as engine:
        return states.read(engine, kind)


def write_state(place: str | Path, state: Canary | Drift) -> None:
    """Replace the state of a canary or of drift."""
    with opened(place) as engine:
        kind: Any = type(state)
        states.change(engine, kind, lambda _: state)


def numbers(url: str) -> list[int]:
    """The requests' ids, as numbers, in the order of time."""
    with opened(url) as engine, engine.connect() as connection:
        found = connection.scalars(select(REQUESTS.c.request_id).order_by(REQUESTS.c.time)).all()
    return [int(name, 16) for name in found]
