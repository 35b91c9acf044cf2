"""The journal's process, started by ``process.py``: makes rows, writes them, and reports back."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from marshal import dumps, loads
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, func, select

from fastroute.gateway.config.journal import JournalConfig
from fastroute.gateway.journal.priority import NICE
from fastroute.gateway.journal.rows import request_row, shadow_row
from fastroute.gateway.journal.texts import Texts
from fastroute.gateway.operations.logs import LOGGER, log
from fastroute.journal.database import open_journal, writing
from fastroute.journal.feedback import Grade, Outcome
from fastroute.journal.pending import recover
from fastroute.journal.prices import note_prices
from fastroute.journal.prune import erase_texts
from fastroute.journal.schema import REQUESTS, SHADOWS
from fastroute.journal.writer import Task, Writer

_HOUR_S, _DAY_S = 3600.0, 86400.0
#: Seconds from one report to the next.
_REPORT_S = 0.1
#: Seconds from one transaction to the next, where no grade waits.
_FLUSH_S = 0.3
_ROWS = {"requests": (REQUESTS, request_row), "shadows": (SHADOWS, shadow_row)}


class _Forwarding(logging.Handler):
    """Hands log lines to the gateway, whose log they belong in."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        facts = {name: str(value) for name, value in getattr(record, "facts", {}).items()}
        self._worker.tell("log", record.getMessage(), record.levelno, facts)


class Worker:
    """Reads what the gateway sends until it says so or is gone, and then writes what is left."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reports: deque[tuple[Any, ...]] = deque()
        self._done: deque[int] = deque()
        #: Rows and grades of each message that are not done.
        self._left: Counter[int] = Counter()
        self._sending = threading.Lock()
        self._settings: Mapping[str, Any] = {}
        self._was_writing = True

    def run(self) -> None:
        """Until the end."""
        self._use(loads(self._connection.recv_bytes()))
        section = self._section
        tasks = [
            Task(5.0, self._add_up),  # first: no shadow is asked before
            Task(_HOUR_S, self._erase_texts),
            Task(60.0, self._note_prices),
        ]
        if self._settings["pending"] is not None:
            tasks.append(Task(60.0, partial(recover, Path(self._settings["pending"]))))
        with self._sending:  # its tasks report, too
            self._writer = Writer(
                partial(open_journal, section.url, password=section.password),
                self._count,
                log,
                most_rows=section.queue_rows,
                flush_s=_FLUSH_S,
                tasks=tasks,
            )
        with suppress(EOFError, OSError):  # the gateway was killed
            while self._take():
                self._report()
        self._writer.close()
        self._report()

    def tell(self, *report: Any) -> None:
        """Put ``report`` into the next message to the gateway."""
        self._reports.append(report)

    def _take(self) -> bool:
        """Take what comes; False if nothing comes any more."""
        if not self._connection.poll(_REPORT_S):
            return True
        message = loads(self._connection.recv_bytes())
        if isinstance(message, dict):
            self._use(message)
        elif message is not None:
            number, noted = message
            with self._sending:
                self._left[number] = len(noted)
            done = partial(self._done.append, number)
            for place, data in enumerate(noted):
                self._put(number, place, done, *loads(data))
        return message is not None

    def _put(
        self, number: int, place: int, done: Callable[[], None], kind: str, noted: Any
    ) -> None:
        if kind == "grade":
            graded = self._writer.grade(Grade(*noted))
            graded.add_done_callback(partial(self._answer, number, place))
        else:
            table, make = _ROWS[kind]
            self._writer.put(table, partial(make, noted, self._texts), 0, done)

    def _answer(self, number: int, place: int, graded: Future[Outcome]) -> None:
        error = graded.exception()
        self.tell("grade", number, place, None if error else graded.result(), error and str(error))
        self._done.append(number)

    def _count(self, table: str, outcome: str, rows: int) -> None:
        # SQLAlchemy's names are no plain strings, which alone can be sent.
        self.tell("count", str(table), outcome, rows)
        if table == "feedback":  # all grades of a transaction have been answered
            self._report()

    def _report(self) -> None:
        with self._sending:
            is_writing = self._writer.is_writing
            if is_writing != self._was_writing:
                self._was_writing = is_writing
                self.tell("writing", is_writing)
            self._left.subtract(self._done.popleft() for _ in range(len(self._done)))
            done = [number for number, left in self._left.items() if left == 0]
            for number in done:
                del self._left[number]
            if done:
                self.tell("done", done)
            if self._reports:
                reports = [self._reports.popleft() for _ in range(len(self._reports))]
                with suppress(OSError):  # the gateway was killed
                    self._connection.send_bytes(dumps(reports))

    def _use(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._section = JournalConfig.model_construct(**settings["section"])
        self._texts = Texts(self._section)

    def _erase_texts(self, engine: Engine) -> None:
        with writing(engine) as connection:
            erase_texts(connection, before=time.time() - self._section.retention_days * _DAY_S)

    def _note_prices(self, engine: Engine) -> None:
        with writing(engine) as connection:
            note_prices(connection, self._settings["prices"], time.time())

    def _add_up(self, engine: Engine) -> None:
        """Tell what shadows cost today."""
        now = time.time()
        day = now // _DAY_S * _DAY_S
        spent = select(func.sum(SHADOWS.c.cost_usd)).where(SHADOWS.c.time >= day)
        with engine.connect() as connection:
            self.tell("spent", day, connection.scalar(spent) or 0.0, now)
        self._report()


def main() -> None:
    """Run with the number of the connection's file descriptor as argument."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all; the gateway says when to end
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE)  # a request comes before a row
    worker = Worker(Connection(int(sys.argv[1])))
    logging.getLogger().handlers = [_Forwarding(worker)]
    LOGGER.setLevel(logging.INFO)
    worker.run()


if __name__ == "__main__":
    main()
