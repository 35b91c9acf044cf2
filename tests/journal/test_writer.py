"""The writer: what is put arrives, nothing waits, and failures of the database are survived."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from fakes import postgresql
from fakes.journals import numbers
from fastroute.errors import JournalError
from fastroute.journal.database import open_journal
from fastroute.journal.feedback import Grade
from fastroute.journal.schema import FEEDBACK, REQUESTS
from fastroute.journal.writer import Task, Writer


def row(number: int, **more: Any) -> Mapping[str, Any]:
    return {"request_id": f"{number:016x}", "time": 1.0 + number, "path": "/x", **more}


class Running:
    """A writer, with what it counted and logged."""

    def __init__(self, connect: Callable[[], Engine], **options: Any) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.events: list[str] = []
        self.writer = Writer(connect, self._count, self._log, flush_s=0.02, **options)

    def _count(self, table: str, outcome: str, count: int) -> None:
        self.counts[table, outcome] += count

    def _log(self, event: str, _level: int = 0, **facts: Any) -> None:
        self.events.append(f"{event}: {facts.get('reason')}")

    def put(self, *numbers: int, **more: Any) -> None:
        for number in numbers:
            self.writer.put(REQUESTS, partial(row, number, **more))

    def wait_for(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.counts, self.events)
            time.sleep(0.01)


@contextmanager
def running(connect: Callable[[], Engine], **options: Any) -> Iterator[Running]:
    made = Running(connect, **options)
    try:
        yield made
    finally:
        made.writer.close(60)  # the machine may be busy with other tests


def test_rows_arrive_once_each(url: str) -> None:
    with running(partial(open_journal, url)) as made:
        made.put(*range(2500))
        made.put(7)  # as after a commit whose answer was lost
    assert numbers(url) == list(range(2500))
    assert made.counts["requests", "written"] == 2501


def test_any_text_can_be_kept(url: str) -> None:
    with running(partial(open_journal, url)) as made:
        made.put(1, prompt="a\0b \ud800 ☃", scores={"a\0": 0.5})
    assert made.counts == {("requests", "written"): 1}
    engine = open_journal(url)
    with engine.connect() as connection:
        assert connection.scalar(select(REQUESTS.c.prompt)) == "a\ufffdb ? ☃"
        assert connection.scalar(select(REQUESTS.c.scores)) == {"a\0": 0.5}
    engine.dispose()


def test_a_row_that_is_refused_costs_no_other(url: str) -> None:
    with running(partial(open_journal, url)) as made:
        made.put(1, 2)
        made.put(3, time=None)
        made.writer.put(REQUESTS, lambda: row(4, scores={"a": float("nan")}))
        made.writer.put(REQUESTS, lambda: 1 // 0)  # type: ignore[arg-type, return-value]
        made.put(5)
    assert numbers(url) == [1, 2, 5]
    assert made.counts == {("requests", "written"): 3, ("requests", "refused"): 3}


def test_a_full_queue_drops_and_does_not_wait(tmp_path: Path) -> None:
    url, opened = f"sqlite:///{tmp_path}/journal.db", threading.Event()

    def slow() -> Engine:
        opened.wait()
        return open_journal(url)

    with running(slow, most_rows=10) as made:
        time.sleep(0.1)  # the thread waits for the database
        began = time.perf_counter()
        made.put(*range(1000))
        assert time.perf_counter() - began < 0.5
        assert made.counts == {("requests", "dropped"): 990}
        opened.set()
        made.wait_for(lambda: made.counts["requests", "written"] == 10)
        made.put(2000)
    assert numbers(url) == [*range(10), 2000]


def test_texts_that_wait_are_bounded(tmp_path: Path) -> None:
    opened = threading.Event()

    def slow() -> Engine:
        opened.wait()
        return open_journal(f"sqlite:///{tmp_path}/journal.db")

    with running(slow) as made:
        put = partial(made.writer.put, REQUESTS)
        assert [put(partial(row, i), 30 * 2**20) for i in range(3)] == [True, True, False]
        opened.set()
        made.wait_for(lambda: made.counts["requests", "written"] == 2)
        assert put(partial(row, 4), 30 * 2**20)


def test_a_full_disk_stops_the_journal_until_there_is_room(tmp_path: Path) -> None:
    url, pages = f"sqlite:///{tmp_path}/journal.db", [80]

    def connect() -> Engine:
        engine = open_journal(url)

        @event.listens_for(engine, "begin")
        def _limit(connection: Any) -> None:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages[0]}")

        return engine

    with running(connect) as made:
        made.put(1)
        made.wait_for(lambda: made.counts["requests", "written"] == 1)
        made.put(*range(2, 500), prompt="x" * 1000)
        made.wait_for(lambda: not made.writer.is_writing)
        with pytest.raises(JournalError, match="the journal can't be written"):
            made.writer.grade(Grade("1", 1.0, "user", score=1.0)).result(10)
        pages[0] = 100_000
        made.wait_for(lambda: made.writer.is_writing)
    assert numbers(url) == list(range(1, 500))
    assert made.events == [
        "the journal can't be written: database or disk is full",
        "the journal is written again: None",
    ]


def test_a_server_that_goes_away_and_comes_back() -> None:
    with postgresql.start() as server:
        url = server.database()
        with running(partial(open_journal, url)) as made:
            made.put(1)
            made.wait_for(lambda: made.counts["requests", "written"] == 1)
            server.stop()
            made.put(2, 3)
            made.wait_for(lambda: not made.writer.is_writing)
            made.put(4)
            server.start()
            made.wait_for(lambda: made.counts["requests", "written"] == 4)
        assert numbers(url) == [1, 2, 3, 4]
        assert made.counts == {("requests", "written"): 4}


def test_a_deleted_file_is_made_again(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/journal.db"
    with running(partial(open_journal, url)) as made:
        made.put(1)
        made.wait_for(lambda: made.counts["requests", "written"] == 1)
        for path in tmp_path.glob("journal.db*"):
            path.unlink()
        made.put(2)
    assert numbers(url) == [2]


def test_a_grade_is_joined_with_the_row_before_it(url: str) -> None:
    with running(partial(open_journal, url)) as made:
        made.put(*range(1500), caller="me", candidates=["a", "b"])
        names = [f"{number:016x}" for number in (1499, 7, 9999)]
        grades = [Grade(name, 5.0, "user", "me", score=0.5) for name in names]
        outcomes = [made.writer.grade(grade).result(30) for grade in grades]
        assert outcomes == ["joined", "joined", "early"]

        def again(**changes: Any) -> str:
            values = {"caller": "me", "score": 0.5, "idempotency_key": "k"} | changes
            return made.writer.grade(Grade(names[1], 6.0, "user", **values)).result(30)

        assert [again(), again(), again(score=0.75)] == ["joined", "joined", "other_grade"]
        assert again(idempotency_key="", score=0.25) == "joined"  # instead of the first
        assert again(caller="you") == "other_caller"
        assert again(winner="c", idempotency_key="w") == "unknown_winner"
        assert again(winner="tie", idempotency_key="w") == "joined"
        assert again(caller=None, idempotency_key="x") == "joined"
        other = Grade(names[2], 5.0, "user", "you", score=0.9)
        assert made.writer.grade(other).result(30) == "other_caller"
    engine = open_journal(url)
    with engine.connect() as connection:
        kept = connection.execute(
            select(FEEDBACK.c.idempotency_key, FEEDBACK.c.score)
            .where(FEEDBACK.c.request_id == names[1])
            .order_by(FEEDBACK.c.idempotency_key)
        ).all()
    engine.dispose()
    assert [tuple(grade) for grade in kept] == [("", 0.25), ("k", 0.5), ("w", 0.5), ("x", 0.5)]


def test_grades_that_come_together_share_a_transaction(url: str) -> None:
    commits: list[float] = []

    def connect() -> Engine:
        engine = open_journal(url)
        event.listen(engine, "commit", lambda _: commits.append(time.monotonic()))
        return engine

    with running(connect) as made:
        made.writer.grade(Grade("0", 1.0, "user", score=1.0)).result(30)
        began = time.monotonic()
        commits.clear()
        futures = []
        for number in range(100):
            futures.append(made.writer.grade(Grade(f"{number + 1}", 1.0, "user", score=1.0)))
            time.sleep(0.002)
        assert [future.result(30) for future in futures] == ["early"] * 100
        assert 1 <= len(commits) <= (time.monotonic() - began) / 0.025 + 1


def test_tasks_run_in_the_thread(url: str) -> None:
    seen: list[int] = []

    def count(engine: Engine) -> None:
        with engine.connect() as connection:
            seen.append(connection.scalar(select(func.count()).select_from(REQUESTS)) or 0)

    with running(partial(open_journal, url), tasks=[Task(0.05, count)]) as made:
        made.wait_for(lambda: seen != [])
        made.put(1)
        made.wait_for(lambda: seen[-1] == 1)


def test_what_waits_at_the_end_is_lost_and_counted() -> None:
    with running(lambda: open_journal("postgresql://u@127.0.0.1:1/db")) as made:
        made.put(1, 2)
        made.wait_for(lambda: not made.writer.is_writing)
    assert made.counts == {("requests", "dropped"): 2}
    assert made.events[-1].startswith("rows of the journal are lost")
