"""Deletes from a journal: texts after their time, rows by age, caller or request."""

from __future__ import annotations

import time

from sqlalchemy import ColumnElement, Connection, delete, or_, select, update

from fastroute.errors import InvalidInputError
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, REQUESTS, SHADOWS

_TEXTS = {
    REQUESTS: ("prompt", "answer"),
    SHADOWS: ("answer",),
    FEEDBACK: ("comment",),
}


def erase_texts(connection: Connection, older_than_s: float) -> int:
    """Set prompts, answers and comments of before to null; the figures stay. Returns how many rows
    had some."""
    before = time.time() - older_than_s
    erased = 0
    for table, names in _TEXTS.items():
        has_text = or_(*(table.c[name].is_not(None) for name in names))
        done = connection.execute(
            update(table).where(table.c.time < before, has_text).values(dict.fromkeys(names))
        )
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
    and judgements. Returns how many requests.

    Raises InvalidInputError if nothing is given.
    """
    fits: list[ColumnElement[bool]] = []
    if before is not None:
        fits.append(REQUESTS.c.time < before)
    if caller is not None:
        fits.append(REQUESTS.c.caller == caller)
    if request_id is not None:
        fits.append(REQUESTS.c.request_id == request_id)
    if not fits:
        raise InvalidInputError("say what to delete: by age, caller or request")
    of_requests = select(REQUESTS.c.request_id).where(*fits)
    for table in (SHADOWS, FEEDBACK, JUDGEMENTS):
        connection.execute(delete(table).where(table.c.request_id.in_(of_requests)))
    # Feedback whose request never came.
    alone: list[ColumnElement[bool]] = []
    if before is not None:
        alone.append(FEEDBACK.c.time < before)
    if caller is not None:
        alone.append(FEEDBACK.c.caller == caller)
    if request_id is not None:
        alone.append(FEEDBACK.c.request_id == request_id)
    known = select(REQUESTS.c.request_id)
    connection.execute(delete(FEEDBACK).where(*alone, FEEDBACK.c.request_id.not_in(known)))
    return connection.execute(delete(REQUESTS).where(*fits)).rowcount
