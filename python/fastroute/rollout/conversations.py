"""Conversations of a journal that have settled, with what came of them, and grades as they come."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from fastroute.journal.grades import Grade, mean_grades, read_grades
from fastroute.journal.schema import REQUESTS

#: Conversations that are read at once, and names of a statement.
_BATCH, _NAMES = 2000, 400


@dataclass(frozen=True)
class Conversation:
    """Requests of one conversation, in the order of time, and the grades of their answers.

    Attributes:
        name: as the journal has it; the request's own id where that has none.
        rows: of the table of requests.
        grades: of the answer to each; None where there is none.
    """

    name: str
    rows: Sequence[Any]
    grades: Sequence[float | None]

    @property
    def began(self) -> float:
        """The time of its first request."""
        return float(self.rows[0].time)


def settled(
    connection: Connection, cursor: float, now: float, settle_s: float
) -> Iterator[Conversation]:
    """Conversations that began after ``cursor`` and at least ``settle_s`` before ``now``, in that
    order, with what came in their first ``settle_s``; at most about 2,000."""
    of, earlier = REQUESTS.c, REQUESTS.alias()
    is_new = or_(
        of.conversation.is_(None),
        ~exists().where(earlier.c.conversation == of.conversation, earlier.c.time <= cursor),
    )
    within = and_(of.time > cursor, of.time <= now - settle_s)
    name = func.coalesce(of.conversation, of.request_id)
    began = func.min(of.time).label("began")
    found = connection.execute(
        select(name.label("name"), began).where(within, is_new).group_by(name).order_by(began)
        .limit(_BATCH)
    ).all()  # fmt: skip
    firsts: dict[str, float] = {row.name: float(row.began) for row in found}
    if not firsts:
        return
    least = min(firsts.values())
    names = list(firsts)
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for some in _batches(names):
        for row in connection.execute(_rows_of(some, least)):
            key = row.conversation or row.request_id
            if row.time <= firsts[key] + settle_s:
                rows[key].append(row)
    until = {row.request_id: firsts[n] + settle_s for n in names for row in rows[n]}
    grades = mean_grades(
        grade
        for grade in read_grades(connection, since=least)
        if grade.time <= until.get(grade.request_id, -1.0)
    )
    for key in sorted(names, key=firsts.__getitem__):
        own = rows[key]
        yield Conversation(
            key, own, [grades.get((r.request_id, r.answered_by or r.chosen)) for r in own]
        )


def first_grades(
    connection: Connection, cursor: float, until: float
) -> Iterator[tuple[Grade, Any]]:
    """Grades that were given after ``cursor`` and until ``until``, in that order, with the
    request's row: of each conversation and model the first grade only, as those of one conversation
    are alike."""
    found = [g for g in read_grades(connection, since=cursor, until=until) if g.time > cursor]
    if not found:
        return
    rows, earlier = {}, set()
    conversations = _requests(connection, REQUESTS.c.request_id, {g.request_id for g in found})
    names = {row.conversation for row in conversations if row.conversation is not None}
    for row in [*conversations, *_requests(connection, REQUESTS.c.conversation, names)]:
        rows[row.request_id] = row
    for ids in _batches(rows):
        for grade in read_grades(connection, since=0.0, until=cursor, requests=ids):
            row = rows[grade.request_id]
            earlier.add((row.conversation or row.request_id, grade.model))
    for grade in sorted(found, key=lambda g: (g.time, g.rank, g.request_id, g.model)):
        row = rows[grade.request_id]
        key = row.conversation or row.request_id, grade.model
        if key not in earlier:
            earlier.add(key)
            yield grade, row


def _requests(
    connection: Connection, column: ColumnElement[Any], values: Iterable[str]
) -> list[Any]:
    of = REQUESTS.c
    wanted = select(
        of.request_id, of.time, of.conversation, of.arm, of.router_checksum, of.win_rate, of.scores,
        of.status,
    )  # fmt: skip
    return [
        row
        for some in _batches(values)
        for row in connection.execute(wanted.where(column.in_(some)))
    ]


def _batches(values: Iterable[str]) -> Iterator[list[str]]:
    every = list(values)
    for i in range(0, len(every), _NAMES):
        yield every[i : i + _NAMES]


def _rows_of(names: Sequence[str], since: float) -> Any:
    of = REQUESTS.c
    which: ColumnElement[bool] = or_(
        of.conversation.in_(names), and_(of.conversation.is_(None), of.request_id.in_(names))
    )
    return (
        select(
            of.request_id, of.time, of.conversation, of.arm, of.router_checksum, of.win_rate,
            of.scores, of.chosen, of.answered_by, of.output_tokens, of.cost_usd, of.latency_ms,
            of.status,
        )
        .where(which, of.time >= since)
        .order_by(of.time, of.request_id)
    )  # fmt: skip
