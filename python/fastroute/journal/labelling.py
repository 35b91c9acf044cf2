"""Answers in the journal to compare blind: the one that was sent, and its shadow."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    and_,
    delete,
    func,
    insert,
    select,
)
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from fastroute.errors import InvalidInputError, JournalError
from fastroute.journal.database import reason, writing
from fastroute.journal.schema import JUDGEMENTS, REQUESTS, SHADOWS
from fastroute.labelling.comparison import Comparison, Progress, swapped
from fastroute.types import Winner

#: Whose verdicts these are, as ``judgements.judge``.
JUDGE = "user"
# Of more skipped pairs, those that were skipped first are shown again.
_MOST_SKIPPED = 500
_id_column: ColumnElement[str] = REQUESTS.c.request_id.concat(" ").concat(SHADOWS.c.model)


class JournalPairs:
    """``labelling.Pairs`` of one caller's requests that have a shadow, the latest first.

    Args:
        connect: gives the journal's engine, when it is first needed.
        caller: whose requests; nobody sees those of others.

    Each method raises JournalError where the database fails.
    """

    def __init__(self, connect: Callable[[], Engine], caller: str) -> None:
        self._connect = connect
        verdict = and_(
            JUDGEMENTS.c.request_id == SHADOWS.c.request_id,
            JUDGEMENTS.c.judge == JUDGE,
            SHADOWS.c.model.in_([JUDGEMENTS.c.model_a, JUDGEMENTS.c.model_b]),
        )
        self._pairs = (
            select(
                _id_column.label("id"), REQUESTS.c.request_id, REQUESTS.c.prompt,
                REQUESTS.c.answered_by, REQUESTS.c.answer, SHADOWS.c.model,
                SHADOWS.c.answer.label("shadow"),
            )
            .select_from(REQUESTS.join(SHADOWS, SHADOWS.c.request_id == REQUESTS.c.request_id)
                         .outerjoin(JUDGEMENTS, verdict))
            .where(
                REQUESTS.c.caller == caller, REQUESTS.c.answered_by != SHADOWS.c.model,
                *(text.is_not(None) for text in
                  (REQUESTS.c.prompt, REQUESTS.c.answer, SHADOWS.c.answer)),
            )
        )  # fmt: skip

    def progress(self) -> Progress:
        """How many pairs a person has compared, and how many there are."""
        graded = self._pairs.add_columns(JUDGEMENTS.c.judge).subquery()
        with self._told() as connection:
            row = connection.execute(select(func.count(graded.c.judge), func.count())).one()
        return Progress(*row)

    def next(self, skipped: Collection[str]) -> Comparison | None:
        """The latest pair without a verdict that is not in ``skipped``."""
        left = self._pairs.where(JUDGEMENTS.c.judge.is_(None), _id_column.not_in(_last(skipped)))
        with self._told() as connection:
            return _comparison(connection.execute(
                left.order_by(REQUESTS.c.time.desc(), _id_column).limit(1)
            ).mappings().first())  # fmt: skip

    def grade(self, pair_id: str, winner: Winner) -> None:
        """Store a verdict. Raises InvalidInputError for an unknown id or a pair that has one."""
        with self._told(write=True) as connection:
            pair = _comparison(connection.execute(
                self._pairs.where(_id_column == pair_id, JUDGEMENTS.c.judge.is_(None))
            ).mappings().first())  # fmt: skip
            if pair is None:
                raise InvalidInputError("this pair has a verdict, or is not there; load again")
            names = {"model_a": pair.model_a, "model_b": pair.model_b}
            try:
                connection.execute(insert(JUDGEMENTS).values(
                    request_id=pair_id.partition(" ")[0], judge=JUDGE, **names,
                    winner=names.get(winner, "tie"), cost_usd=0.0, time=time.time(),
                ))  # fmt: skip
            except IntegrityError as error:  # another process was first
                raise InvalidInputError("this pair has a verdict; load again") from error

    def undo(self) -> Comparison | None:
        """Delete the caller's last verdict, and return its pair."""
        graded = self._pairs.add_columns(JUDGEMENTS.c.model_a, JUDGEMENTS.c.model_b).where(
            JUDGEMENTS.c.judge == JUDGE
        )
        with self._told(write=True) as connection:
            latest = graded.order_by(JUDGEMENTS.c.time.desc()).limit(1)
            row = connection.execute(latest).mappings().first()
            if row is None:
                return None
            names = ("request_id", "model_a", "model_b")
            same = [JUDGEMENTS.c.judge == JUDGE, *(JUDGEMENTS.c[n] == row[n] for n in names)]
            connection.execute(delete(JUDGEMENTS).where(*same))
            return _comparison(row)

    @contextmanager
    def _told(self, *, write: bool = False) -> Iterator[Connection]:
        try:
            engine = self._connect()
            with writing(engine) if write else engine.connect() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise JournalError(f"the journal can't be used now: {reason(error)}") from error


def _last(skipped: Collection[str]) -> list[str]:
    return list(skipped)[-_MOST_SKIPPED:]


def _comparison(row: RowMapping | None) -> Comparison | None:
    """A row of ``JournalPairs._pairs`` in the order in which it is shown."""
    if row is None:
        return None
    sides = [(row["answered_by"], row["answer"]), (row["model"], row["shadow"])]
    if swapped([row["id"]])[0]:
        sides.reverse()
    (model_a, answer_a), (model_b, answer_b) = sides
    return Comparison(row["id"], row["prompt"], model_a, model_b, answer_a, answer_b)
