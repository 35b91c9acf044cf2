"""What a journal costs: the gateway without, with it, and with shadows and feedback beside it.

Every 20th answer gets a grade, and 2 % of requests a shadow. The settings take turns, in another
order each round, and each turn starts a gateway: two processes of one program differ by several per
cent in processor time, as their memory lies differently. "off again" is "off" once more, and so
shows the noise.

- Latency at a fixed rate, half of what the gateway without a journal manages: ``--latency-rounds``
  turns of 3 seconds each, and as many with one request at a time. A request's time begins when it
  is due, whether or not the one before was answered. With one at a time the client waits for its
  grades, too, so that a request may come after a pause.
- Throughput at concurrency 64: ``--rounds`` of ``--seconds`` each, in turns of at most
  ``--turn-seconds``. There every process wants a processor, so that latency says how long requests
  queue. ``--settings`` are compared with "off". The soak, ten minutes without a break:
  ``--settings "journal, shadow, feedback" --rounds 1 --seconds 600 --turn-seconds 600``.

"added" is the median over the rounds of a setting's figure minus that of "off" in the same round,
with quartiles. It fails if a request failed, or one that was answered, or a grade that was
acknowledged, is not in the database.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import re
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

from sqlalchemy import func, select

from fastroute.journal.database import open_journal
from fastroute.journal.schema import FEEDBACK, REQUESTS, SHADOWS
from open_loop import at_rate
from serve_clients import upstream
from serve_load import processor_s, read_answer, request_bytes, running

CONFIG = """
[server]
port = {port}
log_level = "error"
[routing]
strong_model = "strong"
weak_model = "weak"
router = "mf"
[endpoint]
base_url = "{url}"
[models.strong]
input_usd_per_mtok = 10
output_usd_per_mtok = 30
[models.weak]
input_usd_per_mtok = 1
output_usd_per_mtok = 2
"""
OFF, AGAIN, FULL = "off", "off again", "journal, shadow, feedback"
JOURNAL = '[journal]\nurl = "{journal}"\nprompts = true\nanswers = true\n'
MORE = {
    OFF: "",
    AGAIN: "",
    "journal": JOURNAL,
    FULL: JOURNAL + "[shadow]\nshare = 0.02\ndaily_usd = 1000.0\n",
}
#: Seconds of a measurement of latency; of starting, warming up and stopping a gateway.
LATENCY_S, START_S = 3.0, 6.0


def unused_port() -> int:
    """A port below those that the system gives to clients, one of which may have another."""
    while True:
        port = random.randrange(20_000, 30_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class Setting:
    """How a gateway is configured, and what its clients saw."""

    def __init__(self, config: Path, journal: str, url: str, kind: str) -> None:
        self.port = self.pid = 0
        self.grades = kind == FULL
        self._config = config
        self._text = CONFIG.replace("{url}", url) + MORE[kind].format(journal=journal)
        self.answered = self.graded = self.failed = self._number = 0
        #: By name, a figure for each round.
        self.figures: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def started(self) -> Iterator[None]:
        """A gateway that has answered requests for some seconds."""
        self.port = unused_port()
        self._config.write_text(self._text.replace("{port}", str(self.port)))
        command = [sys.executable, "-m", "fastroute", "serve", "--config", str(self._config)]
        with running(command, self.port, {}) as self.pid:
            asyncio.run(self.load(16, 2.0))
            yield

    def note(self, name: str, taken: list[float]) -> None:
        """Note the percentiles of a round."""
        taken = sorted(taken) or [math.nan]
        self.figures[f"{name} median"].append(taken[len(taken) // 2] * 1e3)
        self.figures[f"{name} p99"].append(taken[int(0.99 * len(taken))] * 1e3)

    def grade(self, head: bytes) -> bytes | None:
        """The grade of every 20th answer."""
        self._number += 1
        if not self.grades or self._number % 20:
            return None
        name = re.search(rb"x-fastroute-request-id: *(\w+)", head)
        assert name is not None
        body = json.dumps({"request_id": name[1].decode(), "score": 0.5})
        return (
            f"POST /v1/feedback HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}"
            f"\r\n\r\n{body}"
        ).encode()

    def calls(self) -> float:
        """Calls that the gateway answered or made beside requests."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            found = re.search(rb'shadows_total\{outcome="answered"\} (\S+)', answer.read())
        return self.graded + (float(found[1]) if found else 0.0)

    def used(self) -> dict[str, float]:
        """Microseconds of processor time of the gateway, and of the journal's process."""
        tasks = list(Path(f"/proc/{self.pid}/task").iterdir())
        children = [int(c) for t in tasks for c in (t / "children").read_text().split()]
        return {
            "gateway us": processor_s(self.pid) * 1e6,
            "writer us": sum(map(processor_s, children)) * 1e6,
        }

    async def load(self, concurrency: int, seconds: float) -> list[float]:
        """Seconds of each request of clients that wait for answers."""
        raw = request_bytes("fastroute", self.port)
        end = time.perf_counter() + seconds
        taken: list[float] = []

        async def work() -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            while time.perf_counter() < end:
                began = time.perf_counter()
                writer.write(raw)
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)content-length: *(\d+)", head)
                assert length is not None
                await reader.readexactly(int(length[1]))
                if not head.startswith(b"HTTP/1.1 200"):
                    self.failed += 1
                    continue
                taken.append(time.perf_counter() - began)
                grade = self.grade(head)
                if grade is not None:
                    writer.write(grade)
                    status, _ = await read_answer(reader)
                    self.graded += status == 200
                    self.failed += status != 200
            writer.close()

        ended = await asyncio.gather(*(work() for _ in range(concurrency)), return_exceptions=True)
        self.failed += sum(isinstance(end, Exception) for end in ended)
        self.answered += len(taken)
        return taken

    def saturate(self, seconds: float) -> None:
        """Note throughput, and processor time a request."""
        with self.started():
            self._saturate(seconds)

    def _saturate(self, seconds: float) -> None:
        before, calls, began = self.used(), self.calls(), time.perf_counter()
        taken = asyncio.run(self.load(64, seconds))
        spent, count = time.perf_counter() - began, max(1, len(taken))
        self.figures["requests/s"].append(count / spent)
        self.figures["calls/s"].append((count + self.calls() - calls) / spent)
        for name, used in self.used().items():
            self.figures[name].append((used - before[name]) / count)
        self.note("saturated", taken)

    def at_rate(self, rate: float) -> None:
        """Note latency at ``rate`` requests a second, and one at a time."""
        with self.started():
            self._at_rate(rate)

    def _at_rate(self, rate: float) -> None:
        raw = request_bytes("fastroute", self.port)
        taken, failed, graded = at_rate(self.port, raw, rate, LATENCY_S, self.grade)
        self.answered += len(taken)
        self.failed += failed
        self.graded += graded
        self.note("fixed rate", taken)
        self.note("one at a time", asyncio.run(self.load(1, LATENCY_S)))


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """First, median, third."""
    found = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return found[0], found[1], found[2]


def take_turns(
    settings: Collection[Setting], rounds: int, what: str, measure: Callable[[Setting], None]
) -> None:
    for number in range(rounds):
        for setting in random.sample(list(settings), len(settings)):
            measure(setting)
        print(f"{what}: round {number + 1} of {rounds}", flush=True)


def table(title: str, settings: dict[str, Setting], columns: Sequence[tuple[str, str]]) -> None:
    """Print the median of each figure, and what it is compared with "off" in the same round."""
    print(f"\n{title}\n{'':<27}" + "".join(f"{name:>48}" for name, _ in columns))
    for kind, setting in settings.items():
        cells = []
        for name, compared in columns:
            ours, others = setting.figures[name], settings[OFF].figures[name]
            shown = f"{statistics.median(ours):.{3 if compared == 'added' else 0}f}"
            pairs = list(zip(ours, others, strict=True))
            if kind != OFF and compared == "share":
                low, middle, high = quartiles([a / b for a, b in pairs])
                shown += f"  {middle:.1%} [{low:.1%}, {high:.1%}]"
            elif kind != OFF and compared == "added":
                low, middle, high = quartiles([a - b for a, b in pairs])
                shown += f"  added {middle:+.3f} [{low:+.3f}, {high:+.3f}]"
            cells.append(f"{shown:>48}")
        print(f"{kind:<27}" + "".join(cells), flush=True)


def lost(settings: dict[str, Setting], folder: Path) -> int:
    """How many requests and grades are not in the databases, or failed."""
    count = 0
    for i, (kind, setting) in enumerate(settings.items()):
        count += setting.failed
        said = f"{setting.answered} requests answered, {setting.failed} failed"
        if MORE[kind]:
            engine = open_journal(f"sqlite:///{folder}/{i}.db")
            with engine.connect() as connection:
                requests, grades, shadows = (
                    connection.scalar(select(func.count()).select_from(table)) or 0
                    for table in (REQUESTS, FEEDBACK, SHADOWS)
                )
            engine.dispose()
            count += max(0, setting.answered - requests) + max(0, setting.graded - grades)
            said += f", rows: {requests}; grades: {setting.graded}, rows: {grades}; "
            said += f"shadows: {shadows}"
        print(f"{kind:<27}{said}")
    return count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--latency-rounds", type=int, default=10)
    parser.add_argument("--turn-seconds", type=float, default=60.0)
    parser.add_argument("--settings", nargs="+", choices=MORE, default=list(MORE), metavar="NAME")
    parser.add_argument("--url", help="of a journal in PostgreSQL, empty (default: SQLite)")
    options = parser.parse_args()
    turns = math.ceil(options.seconds / options.turn_seconds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with upstream() as url:
            settings = {
                kind: Setting(
                    folder / f"{i}.toml", options.url or f"sqlite:///{folder}/{i}.db", url, kind
                )
                for i, kind in enumerate(dict.fromkeys([OFF, *options.settings]))
            }
            off = settings[OFF]
            off.saturate(5.0)
            rate = round(off.figures["requests/s"][0] / 2)
            off.figures.clear()
            each = settings.values()
            took_s = options.latency_rounds * (2 * LATENCY_S + START_S)
            took_s += options.rounds * (options.seconds + turns * START_S)
            minutes = len(settings) * took_s / 60
            print(f"{os.cpu_count()} processors; about {minutes:.0f} minutes", flush=True)
            what = f"latency at {rate} requests/s, and one at a time"
            take_turns(each, options.latency_rounds, what, lambda setting: setting.at_rate(rate))
            for title, name in (
                (f"Latency at {rate} requests/s, half of the most, in ms", "fixed rate"),
                ("Latency of one request at a time, in ms", "one at a time"),
            ):
                columns = [(f"{name} {figure}", "added") for figure in ("median", "p99")]
                table(title, settings, columns)
            seconds = options.seconds / turns
            take_turns(
                each, options.rounds * turns, "concurrency 64", lambda s: s.saturate(seconds)
            )
            table(
                "Throughput at concurrency 64",
                settings,
                [("requests/s", "share"), ("calls/s", "share")],
            )
            columns = [("gateway us", "share"), ("writer us", ""), ("saturated p99", "added")]
            table(
                "Processor time a request, and latency (ms), at concurrency 64", settings, columns
            )
        print()
        count = 0 if options.url else lost(settings, folder)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
