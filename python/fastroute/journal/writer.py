"""Writes a journal in a thread: rows go into a bounded queue, and into the database in batches.

Nothing here waits for the database but the thread. While it is away, or its disk is full, rows
wait in the queue; those for which there is no room are counted and dropped.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Dialect, Engine, Table
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from fastroute.errors import FastRouteError, JournalError
from fastroute.journal.database import insert_statement, reason, writing
from fastroute.journal.feedback import Grade, Outcome, record

#: Bytes of text that may wait.
_MOST_BYTES = 64 * 2**20
#: Rows of one transaction, and of one call of the driver.
_BATCH_ROWS, _CALL_ROWS = 1000, 100
#: Pauses after failures, in seconds: each is twice the one before.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 10.0
#: Seconds from one transaction to the next, so that grades that come together share one.
_SHARED_S = 0.05
_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))

#: Makes a row, in the thread.
Row = Callable[[], Mapping[str, Any]]
#: Counts rows of a table: "written", "dropped" (no room), "refused" (by the database).
Count = Callable[[str, str, int], None]


class Log(Protocol):
    """Writes a line to a log."""

    def __call__(self, event: str, level: int = ..., **facts: Any) -> None: ...


class _Waiting(NamedTuple):
    table: Table
    make: Row
    bytes: int = 0
    done: Callable[[], None] | None = None


class _Made(NamedTuple):
    table: Table
    row: Mapping[str, Any]
    done: Callable[[], None] | None


class Task(NamedTuple):
    """What is done in the thread again and again."""

    every_s: float
    run: Callable[[Engine], object]


class _Statement:
    """An INSERT of several rows that leaves those alone that are there already.

    One call of the driver for many rows gives other threads more time than a call for each.
    """

    def __init__(self, table: Table, dialect: Dialect) -> None:
        compiled = insert_statement(table, dialect).compile(
            dialect=dialect, column_keys=[column.name for column in table.columns]
        )
        self._names = compiled.positiontup or []
        begin, values, rest = str(compiled).partition(" VALUES ")
        row, conflict, end = rest.rpartition(" ON CONFLICT")
        self._parts = begin + values, row, conflict + end
        self._sql: dict[int, str] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Insert ``rows``."""
        for i in range(0, len(rows), _CALL_ROWS):
            some = rows[i : i + _CALL_ROWS]
            if len(some) not in self._sql:
                begin, row, end = self._parts
                self._sql[len(some)] = begin + ", ".join([row] * len(some)) + end
            values = tuple(value for row in some for value in map(row.get, self._names))
            connection.exec_driver_sql(self._sql[len(some)], values)


def _storable(row: Mapping[str, Any]) -> dict[str, Any]:
    """``row`` as drivers take it: JSON as text, and no text that PostgreSQL or UTF-8 can't hold."""
    found = dict(row)
    for name, value in row.items():
        kind = type(value)
        if kind is str:
            if not value.isascii() or "\0" in value:
                text = value.encode("utf-8", "replace").decode()
                found[name] = text.replace("\0", "\ufffd")
        elif kind is dict or kind is list:
            found[name] = _JSON.encode(value)
    return found


class Writer:
    """The queue and its thread.

    Args:
        connect: opens the database, as ``open_journal`` does; called in the thread, and again
            after failures.
        count: is told what becomes of rows.
        log: is told of failures.
        most_rows: rows that may wait.
        flush_s: seconds after which waiting rows are written.
        tasks: what is done beside that.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        count: Count,
        log: Log,
        *,
        most_rows: int = 10_000,
        flush_s: float = 0.5,
        tasks: Iterable[Task] = (),
    ) -> None:
        self._connect = connect
        self._count = count
        self._log = log
        self._most_rows = most_rows
        self._flush_s = flush_s
        self._tasks = [(task, 0.0) for task in tasks]
        self._rows: deque[_Waiting] = deque()
        # Bytes of text of the rows that came, and of those that were tried: one thread each.
        self._bytes_in, self._bytes_out = 0, 0
        self._grades: deque[tuple[Grade, Future[Outcome]]] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._failures = 0
        self._next_s = 0.0
        self._engine: Engine | None = None
        self._statements: dict[str, _Statement] = {}
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def is_writing(self) -> bool:
        """Whether the last attempt to write succeeded."""
        return self._failures == 0

    def put(
        self, table: Table, row: Row, size_bytes: int = 0, done: Callable[[], None] | None = None
    ) -> bool:
        """Queue a row with ``size_bytes`` of text; False if there is no room for it. It never
        waits. ``done`` is called, in the thread, when the row is in the database, or at once when
        it is not going to be. Called by one thread only."""
        waiting_bytes = self._bytes_in - self._bytes_out + size_bytes
        full = len(self._rows) >= self._most_rows or waiting_bytes > _MOST_BYTES
        if full or self._stopping:
            self._count(table.name, "dropped", 1)
            _call(done)
            return False
        self._bytes_in += size_bytes
        self._rows.append(_Waiting(table, row, size_bytes, done))
        return True

    def grade(self, grade: Grade) -> Future[Outcome]:
        """Record ``grade``; the future is done when that is committed, after the rows that were
        put before, or has a JournalError where the database can't be written."""
        future: Future[Outcome] = Future()
        if len(self._grades) >= self._most_rows or self._stopping:
            future.set_exception(JournalError("the journal takes no more grades now"))
            return future
        self._grades.append((grade, future))
        self._wake.set()
        return future

    def close(self, timeout_s: float = 10.0) -> None:
        """Write what waits, and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        flushed_s = 0.0
        while not self._stopping:
            if self._wake.wait(self._flush_s):
                time.sleep(max(0.0, flushed_s + _SHARED_S - time.monotonic()))
            self._wake.clear()
            if time.monotonic() >= self._next_s:
                self._flush()
                flushed_s = time.monotonic()
                if self._grades:
                    self._wake.set()
            elif self._grades:
                self._refuse_grades("the journal can't be written now")
        self._flush()
        if self._rows:
            self._drop(len(self._rows))
        self._refuse_grades("the gateway is stopping")
        if self._engine is not None:
            self._engine.dispose()

    def _flush(self) -> None:
        try:
            engine = self._opened()
            while self._rows or self._grades:
                self._write(engine)
                if len(self._rows) < _BATCH_ROWS and not self._stopping:
                    break  # what came meanwhile waits for more
            self._run_tasks(engine)
        except (SQLAlchemyError, FastRouteError, OSError) as error:
            self._failed(error)
        except Exception as error:  # the thread must go on, whatever a driver raises
            self._failed(error)
        else:
            if self._failures:
                self._log("the journal is written again", logging.WARNING)
            self._failures = 0

    def _opened(self) -> Engine:
        engine = self._engine
        if engine is not None and _is_deleted(engine):
            engine.dispose()
            engine = None
        if engine is None:
            engine = self._engine = self._connect()
            self._statements.clear()
        return engine

    def _write(self, engine: Engine) -> None:
        """One transaction. What it could not write is in the queue again, or was dropped."""
        grades = [self._grades.popleft() for _ in range(min(len(self._grades), _BATCH_ROWS))]
        taken = [self._rows.popleft() for _ in range(min(len(self._rows), _BATCH_ROWS))]
        if len(taken) == _BATCH_ROWS and self._rows:  # a grade comes after rows put before it
            self._grades.extendleft(reversed(grades))
            grades = []
        rows = []
        for waiting in taken:
            made = self._made(waiting)
            if made is not None:
                rows.append(made)
        try:
            outcomes = self._written(engine, rows, grades)
        except BaseException as error:
            left = [_Waiting(m.table, partial(dict, m.row), 0, m.done) for m in rows]
            self._rows.extendleft(reversed(left))
            for _, future in grades:
                _fail(future, f"the journal can't be written: {_said(error)}")
            raise
        for (_, future), outcome in zip(grades, outcomes, strict=True):
            with suppress(InvalidStateError):  # who asked waits no longer
                future.set_result(outcome)
        if grades:
            self._count("feedback", "written", len(grades))

    def _written(
        self, engine: Engine, rows: list[_Made], grades: Sequence[tuple[Grade, Future[Outcome]]]
    ) -> list[Outcome]:
        """Write ``rows``, which is empty then, and ``grades``."""
        groups: dict[str, list[_Made]] = {}
        for made in rows:
            groups.setdefault(made.table.name, []).append(made)
        try:
            with writing(engine) as connection:
                for group in groups.values():
                    statement = self._statement(group[0].table, engine)
                    statement.run(connection, [made.row for made in group])
                outcomes: list[Outcome] = [record(connection, grade) for grade, _ in grades]
        except DBAPIError as error:
            if _is_of_the_database(error):
                raise
            self._write_singly(engine, rows)
            with writing(engine) as connection:
                return [record(connection, grade) for grade, _ in grades]
        for made in rows:
            _call(made.done)
        rows.clear()
        for name, group in groups.items():
            self._count(name, "written", len(group))
        return outcomes

    def _write_singly(self, engine: Engine, rows: list[_Made]) -> None:
        """Write each row in its own transaction; those that the database refuses are lost."""
        while rows:
            made = rows[0]
            try:
                with writing(engine) as connection:
                    self._statement(made.table, engine).run(connection, [made.row])
                self._count(made.table.name, "written", 1)
            except DBAPIError as error:
                if _is_of_the_database(error):
                    raise
                self._refused(made.table.name, error)
            _call(made.done)
            del rows[0]

    def _statement(self, table: Table, engine: Engine) -> _Statement:
        if table.name not in self._statements:
            self._statements[table.name] = _Statement(table, engine.dialect)
        return self._statements[table.name]

    def _made(self, waiting: _Waiting) -> _Made | None:
        self._bytes_out += waiting.bytes
        try:
            return _Made(waiting.table, _storable(waiting.make()), waiting.done)
        except Exception as error:  # a redaction hook may raise anything
            self._refused(waiting.table.name, error)
            _call(waiting.done)
            return None

    def _refused(self, name: str, error: Exception) -> None:
        self._count(name, "refused", 1)
        said = _said(error)
        self._log("a row of the journal is lost", logging.ERROR, table=name, reason=said)

    def _run_tasks(self, engine: Engine) -> None:
        now = time.monotonic()
        for i, (task, due_s) in enumerate(self._tasks):
            if now >= due_s:
                task.run(engine)
                self._tasks[i] = task, now + task.every_s

    def _failed(self, error: Exception) -> None:
        pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**self._failures)
        self._next_s = time.monotonic() + pause_s
        if self._failures == 0:
            self._log("the journal can't be written", logging.ERROR, reason=_said(error))
        self._failures = min(self._failures + 1, 10)
        self._refuse_grades(f"the journal can't be written: {_said(error)}")

    def _refuse_grades(self, why: str) -> None:
        while self._grades:
            _fail(self._grades.popleft()[1], why)

    def _drop(self, count: int) -> None:
        for waiting in self._rows:
            self._count(waiting.table.name, "dropped", 1)
            _call(waiting.done)
        self._log("rows of the journal are lost", logging.ERROR, rows=count)
        self._rows.clear()


def _is_deleted(engine: Engine) -> bool:
    """Whether its file is gone: SQLite would go on writing to it."""
    return engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists()


def _call(done: Callable[[], None] | None) -> None:
    if done is not None:
        done()


def _fail(future: Future[Outcome], why: str) -> None:
    with suppress(InvalidStateError):  # who asked waits no longer
        future.set_exception(JournalError(why))


def _is_of_the_database(error: DBAPIError) -> bool:
    """Whether another row would fail as well: no connection, no space, a lock that was held."""
    return error.connection_invalidated or isinstance(error, (OperationalError, InterfaceError))


def _said(error: BaseException) -> str:
    return reason(error) if isinstance(error, Exception) else type(error).__name__
