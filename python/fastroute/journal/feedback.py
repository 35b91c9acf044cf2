"""Grades of answers: checked, kept once, joined with their request when its row is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, and_, insert, select, update

from fastroute.journal.schema import FEEDBACK, REQUESTS

#: What became of a grade. "joined" and "early" are kept: its request is in the journal, or not yet.
Outcome = Literal["joined", "early", "other_caller", "other_grade", "unknown_winner"]


@dataclass(frozen=True, slots=True)
class Grade:
    """One grade: ``score`` from 0 to 1, or ``winner``, a model's name or "tie".

    ``caller`` may grade its own requests only; None grades all. With an ``idempotency_key`` the
    grade can't be changed; without one a later grade of the same source replaces it.
    """

    request_id: str
    time: float
    source: str
    caller: str | None = None
    score: float | None = None
    winner: str | None = None
    comment: str | None = None
    idempotency_key: str = ""


def record(connection: Connection, grade: Grade) -> Outcome:
    """Keep ``grade``, unless its request is another caller's, a grade with its idempotency key
    differs, or its winner is none of the request's models."""
    asked = connection.execute(
        select(REQUESTS.c.caller, REQUESTS.c.candidates, REQUESTS.c.chosen).where(
            REQUESTS.c.request_id == grade.request_id
        )
    ).first()
    if asked is not None:
        if grade.caller is not None and asked.caller != grade.caller:
            return "other_caller"
        models = asked.candidates or [asked.chosen]
        if grade.winner is not None and grade.winner not in {"tie", *models}:
            return "unknown_winner"
    names = ("request_id", "source", "idempotency_key")
    key = and_(*(FEEDBACK.c[name] == getattr(grade, name) for name in names))
    values = {c.name: getattr(grade, c.name) for c in FEEDBACK.c}
    known = connection.execute(select(FEEDBACK).where(key)).mappings().first()
    if known is None:
        connection.execute(insert(FEEDBACK), [values])
    elif known["caller"] != grade.caller and grade.caller is not None:
        return "other_caller"
    elif any(known[name] != values[name] for name in ("score", "winner", "comment")):
        if grade.idempotency_key:
            return "other_grade"
        connection.execute(update(FEEDBACK).where(key).values(values))
    return "early" if asked is None else "joined"
