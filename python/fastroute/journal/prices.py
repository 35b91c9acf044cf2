"""Prices as they were: a row for each change, so that old requests are valued at old prices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, insert, select

from fastroute.journal.schema import PRICES

_VALUES = tuple(c.name for c in PRICES.c if c.name not in ("model", "time"))


def latest_prices(connection: Connection) -> dict[str, dict[str, Any]]:
    """The last row of each model."""
    rows = connection.execute(select(PRICES).order_by(PRICES.c.time)).mappings()
    return {row["model"]: dict(row) for row in rows}


def note_prices(connection: Connection, rows: Iterable[Mapping[str, Any]], time_s: float) -> None:
    """Keep those of ``rows``, one for each model, that differ from the last of their model."""
    known = latest_prices(connection)
    new = [
        {**row, "time": time_s}
        for row in rows
        if (old := known.get(row["model"])) is None
        or any(old[name] != row[name] for name in _VALUES)
    ]
    if new:
        connection.execute(insert(PRICES), new)
