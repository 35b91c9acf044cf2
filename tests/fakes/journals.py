"""What is in a journal."""

from __future__ import annotations

from sqlalchemy import select

from fastroute.journal.database import open_journal
from fastroute.journal.schema import REQUESTS


def numbers(url: str) -> list[int]:
    """The requests' ids, as numbers, in the order of time."""
    engine = open_journal(url)
    with engine.connect() as connection:
        found = connection.scalars(select(REQUESTS.c.request_id).order_by(REQUESTS.c.time)).all()
    engine.dispose()
    return [int(name, 16) for name in found]
