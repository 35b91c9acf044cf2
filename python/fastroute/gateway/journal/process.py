"""The gateway's side of the journal's process, which makes rows and writes them.

A request costs the gateway one short copy, and never waits for a database, nor for the lock of the
interpreter while rows are made. Rows are sent, kept and released as batches, since the threads here
take the lock from the requests. What was put is kept until the process says that it is done; one
that dies is started again, and gets what it was not done with: rows and grades are kept once.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import astuple
from marshal import dumps, loads
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from fastroute.errors import JournalError
from fastroute.gateway.journal.priority import Priority
from fastroute.journal.feedback import Grade, Outcome
from fastroute.journal.writer import Count, Log

#: Bytes that may wait.
_MOST_BYTES = 64 * 2**20
#: Seconds from one message to the next. To wake the thread for a grade takes longer than the rest.
_SEND_S = 0.05
#: Seconds after which a row, or a grade for which somebody waits, is late.
_LATE_S, _LATE_GRADE_S = 0.6, 0.15
#: Rows of one message, and bytes after which another begins.
_BATCH_ROWS, _BATCH_BYTES = 1000, 2**20
#: Of marshal: the last one that does not look for objects it has seen, which takes longer to read.
_FORMAT = 2
#: Seconds for writing what waits at the end; pauses before another start.
_PATIENCE_S = 12.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


class _Batch(NamedTuple):
    """Rows and grades of one message, and who is told that they are done."""

    message: bytes
    made_s: float
    size_bytes: int
    rows: int
    slots: list[int]
    grades: dict[int, Future[Outcome]]


class WriterProcess:
    """The process, with its queue.

    Args:
        settings: what it starts with, as ``configure`` takes it.
        count: is told what becomes of rows.
        log: is told of failures.
        release: is called with the slots of rows that need them no longer.
        spent: is told the day, what shadows cost since, and when that was read.
        most_rows: rows and grades that may wait.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        count: Count,
        log: Log,
        release: Callable[[list[int]], None],
        spent: Callable[[float, float, float], None],
        *,
        most_rows: int,
    ) -> None:
        self.is_writing = True
        self._count = count
        self._log = log
        self._release = release
        self._spent = spent
        self._most_rows = most_rows
        self._fresh: deque[tuple[bytes, int | Future[Outcome] | None]] = deque()
        self._batches: dict[int, _Batch] = {}
        # Of what came, and of what is done: one thread each.
        self._count_in, self._bytes_in = 0, 0
        self._count_out, self._bytes_out = 0, 0
        self._sending = threading.Lock()
        self._connection: Connection | None = None
        self._next, self._sent = 0, 0
        self._process: subprocess.Popen[bytes] | None = None
        self._priority = Priority()
        self._closing = threading.Event()
        self._end_s = 0.0
        self.configure(settings)
        self._threads = [
            threading.Thread(target=run, name="journal", daemon=True)
            for run in (self._run, self._send_often)
        ]
        for thread in self._threads:
            thread.start()

    def configure(self, settings: dict[str, Any]) -> None:
        """Make it go on with other settings, but for the database."""
        self._settings, self._is_told = dumps(settings), False

    def put(self, table: str, noted: tuple[Any, ...], slot: int | None) -> bool:
        """Queue what a row is made of; False if there is no room for it, and it is dropped. It
        never waits. Called by one thread only, as is ``grade``."""
        if self._is_full:
            self._lose(table, "dropped", slot)
            return False
        try:
            data = dumps((table, noted), _FORMAT)
        except ValueError:
            self._log("a row of the journal is lost", logging.ERROR, table=table)
            self._lose(table, "refused", slot)
            return False
        self._add(data, slot)
        return True

    def grade(self, grade: Grade) -> Future[Outcome]:
        """Record ``grade``; the future is done when that is committed, after the rows that were
        put before, or has a JournalError where the database can't be written."""
        future: Future[Outcome] = Future()
        if self._is_full:
            future.set_exception(JournalError("the journal takes no more grades now"))
        else:
            self._add(dumps(("grade", astuple(grade)), _FORMAT), future)
        return future

    def close(self) -> None:
        """Write what waits, and end the process."""
        self._end_s = time.monotonic() + _PATIENCE_S
        self._closing.set()
        for thread in self._threads:
            thread.join(max(0.0, self._end_s - time.monotonic()))
        if self._process is not None and self._threads[0].is_alive():
            self._process.kill()
            for thread in self._threads:
                thread.join(1.0)
        self._collect()
        if self._batches:
            rows = sum(batch.rows for batch in self._batches.values())
            self._log("rows of the journal are lost", logging.ERROR, rows=rows)
        for batch in self._batches.values():
            for future in batch.grades.values():
                _fail(future, "the gateway is stopping")
            for data in loads(batch.message)[1]:
                table, _ = loads(data)
                if table != "grade":
                    self._count(table, "dropped", 1)
            self._release(batch.slots)

    @property
    def _is_full(self) -> bool:
        return (
            self._count_in - self._count_out >= self._most_rows
            or self._bytes_in - self._bytes_out > _MOST_BYTES
            or self._closing.is_set()
        )

    def _add(self, data: bytes, target: int | Future[Outcome] | None) -> None:
        self._count_in += 1
        self._bytes_in += len(data)
        self._fresh.append((data, target))

    def _lose(self, table: str, outcome: str, slot: int | None) -> None:
        self._count(table, outcome, 1)
        if slot is not None:
            self._release([slot])

    def _send_often(self) -> None:
        while not self._closing.wait(_SEND_S):
            self._send()
            self._priority.update(is_late=self._is_late())
        self._send()  # that this is all
        self._priority.update(is_late=True)

    def _send(self) -> None:
        """Send what waits. If the process is gone, the next one gets it."""
        with self._sending, suppress(OSError):
            connection = self._connection
            if connection is None:
                return
            if not self._is_told:
                self._is_told = True
                connection.send_bytes(self._settings)
            is_all = self._closing.is_set()  # nothing comes any more
            self._collect()
            while self._sent < self._next:
                self._sent += 1
                batch = self._batches.get(self._sent - 1)
                if batch is not None:
                    connection.send_bytes(batch.message)
            if is_all:
                connection.send_bytes(dumps(None))

    def _collect(self) -> None:
        """Make batches of what came."""
        left = len(self._fresh)
        while left:
            rows: list[bytes] = []
            slots: list[int] = []
            grades: dict[int, Future[Outcome]] = {}
            size_bytes = 0
            while left and len(rows) < _BATCH_ROWS and size_bytes < _BATCH_BYTES:
                data, target = self._fresh.popleft()
                left -= 1
                if isinstance(target, Future):
                    grades[len(rows)] = target
                elif target is not None:
                    slots.append(target)
                rows.append(data)
                size_bytes += len(data)
            message = dumps((self._next, rows), _FORMAT)
            self._batches[self._next] = _Batch(
                message, time.monotonic(), size_bytes, len(rows), slots, grades
            )
            self._next += 1  # last: what is below it may be sent

    def _is_late(self) -> bool:
        now_s = time.monotonic()
        return any(
            now_s - batch.made_s > (_LATE_GRADE_S if batch.grades else _LATE_S)
            for batch in list(self._batches.values())
        )

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            began_s = time.monotonic()
            status: object = None
            try:
                with self._started() as connection:
                    self._send()
                    with suppress(EOFError, OSError):
                        while True:
                            for report in loads(connection.recv_bytes()):
                                self._take(*report)
                    assert self._process is not None
                    self._priority.watch(None)
                    status = self._process.wait()
            except OSError as error:
                status = error.strerror
            now_s = time.monotonic()
            if self._closing.is_set() and (
                not (self._batches or self._fresh) or now_s > self._end_s
            ):
                return
            self._log(
                "the journal's process ended; it is started again", logging.ERROR, status=status
            )
            pause_s = _FIRST_PAUSE_S if now_s > began_s + 60 else min(2 * pause_s, _LONGEST_PAUSE_S)
            self._closing.wait(pause_s)

    def _started(self) -> Connection:
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "fastroute.gateway.journal.worker",
                    str(theirs.fileno()),
                ],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},  # of the redaction hook
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        with self._sending:
            self._connection, self._is_told = ours, False
            self._priority.watch(self._process.pid)
            self._sent = next(iter(self._batches), self._next)
        return ours

    def _take(self, kind: str, *facts: Any) -> None:
        """Take what the process reports."""
        if kind == "done":
            for number in facts[0]:
                batch = self._batches.pop(number)
                self._count_out += batch.rows
                self._bytes_out += batch.size_bytes
                self._release(batch.slots)
        elif kind == "grade":
            number, place, outcome, error = facts
            future = self._batches[number].grades[place]
            if error is not None:
                _fail(future, error)
            else:
                with suppress(InvalidStateError):  # who asked waits no longer
                    future.set_result(outcome)
        elif kind == "count":
            self._count(*facts)
        elif kind == "log":
            event, level, more = facts
            self._log(event, level, **more)
        elif kind == "writing":
            self.is_writing = facts[0]
        elif kind == "spent":
            self._spent(*facts)


def _fail(future: Future[Outcome], why: str) -> None:
    with suppress(InvalidStateError):  # who asked waits no longer
        future.set_exception(JournalError(why))
