"""Work that one process at a time does for a journal, every so often, over restarts too.

Who does it holds a lease in the database, and renews it: after a kill another process may begin.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from sqlalchemy import Engine, and_, func, or_, select, update

from fastroute.journal.database import insert_new, writing
from fastroute.journal.schema import JOBS, REQUESTS

#: Seconds that a lease lasts without being renewed.
LEASE_S = 60.0


class Job:
    """The job ``name``, as this process does it. Methods raise as SQLAlchemy does."""

    def __init__(self, engine: Engine, name: str, lease_s: float = LEASE_S) -> None:
        self.engine, self._name, self._lease_s = engine, name, lease_s
        self._holder = f"{socket.gethostname()[:200]} {os.getpid()} {os.urandom(4).hex()}"
        self._is_held = and_(JOBS.c.name == name, JOBS.c.holder == self._holder)

    def read(self) -> dict[str, Any] | None:
        """The job's row; None before it is due for the first time."""
        with self.engine.connect() as connection:
            found = connection.execute(select(JOBS).where(JOBS.c.name == self._name)).mappings()
            row = found.first()
        return None if row is None else dict(row)

    def begin(self, now: float, every_s: float) -> float | None:
        """Begin it, if nobody else does, and the last time, or the journal's first request, was
        ``every_s`` ago. Returns when that was; None if it is not begun."""
        row = self.read()
        with self.engine.connect() as connection:
            first = connection.scalar(select(func.min(REQUESTS.c.time))) if row is None else None
        last: float | None = first if row is None else row["time"]
        if last is None or last > now - every_s or (row and (row["until"] or 0.0) >= now):
            return None
        with writing(self.engine) as connection:
            insert_new(connection, JOBS, [{"name": self._name, "time": last}])
            is_free = or_(JOBS.c.until.is_(None), JOBS.c.until < now)
            begun = connection.execute(
                update(JOBS).where(JOBS.c.name == self._name, JOBS.c.time == last, is_free)
                .values(time=now, holder=self._holder, until=now + self._lease_s)
            )  # fmt: skip
        return last if begun.rowcount == 1 else None

    def renew(self, now: float) -> bool:
        """Hold it for longer; False if another process has it now."""
        with writing(self.engine) as connection:
            renewed = connection.execute(
                update(JOBS).where(self._is_held).values(until=now + self._lease_s)
            )
        return renewed.rowcount == 1

    def end(self, **values: Any) -> None:
        """Note how it ended, and leave it to all."""
        with writing(self.engine) as connection:
            connection.execute(
                update(JOBS).where(self._is_held).values(until=None, holder=None, **values)
            )
