"""Deletes from a journal by age, caller or request: rows, or only their texts."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, or_, select, update

from fastroute.errors import InvalidInputError
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, REQUESTS, SHADOWS

_TEXTS = {
    REQUESTS: ("prompt", "answer"),
    SHADOWS: ("answer",),
    FEEDBACK: ("comment",),
}


def erase_texts(
    connection: Connection,
    *,
    before: float | None = None,
    caller: str | None = None,
    request_id: str | None = None,
) -> int:
    """Set prompts, answers and comments to null; the figures stay. Returns how many rows had some.

    Of the rows that fit all that is given; raises InvalidInputError if nothing is.
    """
    erased = 0
    for table, names in _TEXTS.items():
        has_text = or_(*(table.c[name].is_not(None) for name in names))
        fits = _fits(table, before, caller, request_id)
        done = connection.execute(update(table).where(fits, has_text).values(dict.fromkeys(names)))
        erased += done.rowcount
    return erased


def delete_requests(
    connection: Connection,
    *,
    before: float | None = None,
    caller: str | None = None,
    request_id: str | None = None,
) -> int:
    """Delete the requests that fit all that is given, with what belongs to them: shadows, feedback
    and judgements. Returns how many requests. Raises as ``erase_texts``."""
    for table in (SHADOWS, FEEDBACK, JUDGEMENTS):
        connection.execute(delete(table).where(_fits(table, before, caller, request_id)))
    return connection.execute(
        delete(REQUESTS).where(_fits(REQUESTS, before, caller, request_id))
    ).rowcount


def _fits(
    table: Table, before: float | None, caller: str | None, request_id: str | None
) -> ColumnElement[bool]:
    """The rows of ``table`` that belong to requests that fit; a grade whose request never came
    fits by itself."""

    def of(own: Table) -> list[ColumnElement[bool]]:
        found = [] if before is None else [own.c.time < before]
        found += [] if caller is None else [own.c.caller == caller]
        return found + ([] if request_id is None else [own.c.request_id == request_id])

    conditions = of(REQUESTS)
    if not conditions:
        raise InvalidInputError("say what to delete: by age, caller or request")
    if table is REQUESTS:
        return and_(*conditions)
    belongs = table.c.request_id.in_(select(REQUESTS.c.request_id).where(*conditions))
    if table is not FEEDBACK:
        return belongs
    alone = table.c.request_id.not_in(select(REQUESTS.c.request_id))
    return or_(belongs, and_(alone, *of(FEEDBACK)))
