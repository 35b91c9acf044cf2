"""The journal's process: one that dies or hangs costs no request, no row and no grade."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from fakes.journals import numbers
from fastroute.errors import JournalError
from fastroute.gateway.config.journal import JournalConfig
from fastroute.gateway.journal.priority import NICE, may_idle
from fastroute.gateway.journal.process import WriterProcess
from fastroute.gateway.journal.rows import REQUEST
from fastroute.journal.database import open_journal
from fastroute.journal.feedback import Grade
from fastroute.journal.schema import FEEDBACK, REQUESTS

_BEGAN_S = time.time()


class Running:
    """A process, with what it counted, logged and released."""

    def __init__(self, url: str, most_rows: int) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.events: list[str] = []
        self.released: list[int] = []
        section = JournalConfig(url=url, prompts=True)
        settings = {"section": section.model_dump(by_alias=True), "pending": None, "prices": []}
        self.writer = WriterProcess(
            settings,
            self._count,
            self._log,
            self.released.extend,
            lambda *_: None,
            most_rows=most_rows,
        )

    def _count(self, table: str, outcome: str, count: int) -> None:
        self.counts[table, outcome] += count

    def _log(self, event: str, level: int = 0, **_: Any) -> None:
        del level
        self.events.append(event)

    def put(self, *numbers: int) -> list[bool]:
        return [self.writer.put("requests", noted(number), number) for number in numbers]

    def children(self) -> list[int]:
        found = []
        for task in Path("/proc/self/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # a thread or child that ended
                for name in (task / "children").read_text().split():
                    if b"journal.worker" in Path(f"/proc/{name}/cmdline").read_bytes():
                        found.append(int(name))
        return found

    def signal(self, number: signal.Signals) -> int:
        self.wait_for(lambda: self.children() != [])
        (pid,) = self.children()
        os.kill(pid, number)
        return pid

    def wait_for(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end_s, (self.counts, self.events)
            time.sleep(0.01)


def noted(number: int, **more: Any) -> tuple[Any, ...]:
    values = dict.fromkeys(REQUEST) | {
        "request_id": f"{number:016x}", "time": _BEGAN_S + number, "path": "/x", "caller": "me",
        "prompt": "text", "body": b"", "calls": [], "stream": False, "chosen": "m",
    }  # fmt: skip
    return tuple((values | more).values())


@contextmanager
def running(url: str, most_rows: int = 10_000) -> Iterator[Running]:
    made = Running(url, most_rows)
    try:
        yield made
    finally:
        made.writer.close()
    assert made.children() == []


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/journal.db"


def test_rows_arrive_and_their_slots_are_released(url: str) -> None:
    with running(url) as made:
        made.put(*range(2500))
    assert numbers(url) == list(range(2500))
    assert sorted(made.released) == list(range(2500))
    assert made.counts == {("requests", "written"): 2500}
    assert made.events == []


def test_a_process_that_is_killed_loses_no_row_and_no_grade(url: str) -> None:
    with running(url) as made:
        made.put(*range(100))
        made.wait_for(lambda: made.counts["requests", "written"] == 100)
        pid = made.signal(signal.SIGSTOP)
        made.put(*range(100, 200))
        grade = made.writer.grade(Grade(f"{150:016x}", 5.0, "user", "me", score=0.5))
        os.kill(pid, signal.SIGKILL)
        assert grade.result(60) == "joined"
        made.put(200)
    assert numbers(url) == list(range(201))
    assert sorted(made.released) == list(range(201))
    assert made.events == ["the journal's process ended; it is started again"]
    engine = open_journal(url)
    with engine.connect() as connection:
        assert connection.scalar(select(FEEDBACK.c.score)) == 0.5
    engine.dispose()


def test_while_it_hangs_rows_are_dropped_and_nothing_waits(url: str) -> None:
    with running(url, most_rows=10) as made:
        pid = made.signal(signal.SIGSTOP)
        began_s = time.thread_time()
        assert made.put(*range(1000)) == [True] * 10 + [False] * 990
        assert time.thread_time() - began_s < 0.5
        assert made.counts == {("requests", "dropped"): 990}
        assert made.released == list(range(10, 1000))
        with pytest.raises(JournalError, match="takes no more grades"):
            made.writer.grade(Grade("0" * 16, 5.0, "user", score=0.5)).result(0)
        os.kill(pid, signal.SIGCONT)
        made.wait_for(lambda: made.counts["requests", "written"] == 10)
        assert made.put(2000) == [True]
    assert numbers(url) == [*range(10), 2000]


def test_texts_that_wait_are_bounded(url: str) -> None:
    with running(url) as made:
        pid = made.signal(signal.SIGSTOP)
        text = "x" * (30 * 2**20)
        put = made.writer.put
        sent = [put("requests", noted(i, prompt=text), None) for i in range(4)]
        assert sent == [True, True, True, False]
        os.kill(pid, signal.SIGCONT)
        made.wait_for(lambda: made.counts["requests", "written"] == 3)
        assert put("requests", noted(4, prompt=text), None)


def test_what_can_t_be_sent_is_refused(url: str) -> None:
    with running(url) as made:
        assert not made.writer.put("requests", noted(1, caller=object()), 7)
        made.put(2)
    assert numbers(url) == [2]
    assert made.counts == {("requests", "refused"): 1, ("requests", "written"): 1}
    assert made.released == [7, 2]


def test_other_settings_hold_from_then_on(url: str) -> None:
    with running(url) as made:
        made.put(1)
        made.wait_for(lambda: made.counts["requests", "written"] == 1)
        section = JournalConfig(url=url, prompts=True, max_text_characters=2)
        settings = {"section": section.model_dump(by_alias=True), "pending": None, "prices": []}
        made.writer.configure(settings)
        made.put(2)
    engine = open_journal(url)
    with engine.connect() as connection:
        found = connection.scalars(select(REQUESTS.c.prompt).order_by(REQUESTS.c.time))
        assert list(found) == ["text", "te"]
    engine.dispose()


@pytest.mark.skipif(not may_idle(), reason="needs the capability SYS_NICE")
def test_it_runs_when_nothing_else_does_unless_it_is_late(url: str) -> None:
    with running(url) as made:

        def has(policy: int) -> bool:
            (pid,) = made.children()
            tasks = Path(f"/proc/{pid}/task").iterdir()
            return {os.sched_getscheduler(int(task.name)) for task in tasks} == {policy}

        made.put(1)
        made.wait_for(lambda: made.counts["requests", "written"] == 1)
        made.wait_for(lambda: has(os.SCHED_IDLE))
        pid = made.signal(signal.SIGSTOP)
        made.put(2)
        made.wait_for(lambda: has(os.SCHED_OTHER))
        os.kill(pid, signal.SIGCONT)
        made.wait_for(lambda: has(os.SCHED_IDLE))
        assert made.counts["requests", "written"] == 2
        made.signal(signal.SIGSTOP)
        grade = made.writer.grade(Grade(f"{1:016x}", 5.0, "user", "me", score=0.5))
        made.wait_for(lambda: has(os.SCHED_OTHER))
        os.kill(pid, signal.SIGCONT)
        assert grade.result(60) == "joined"
        assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0) + NICE
