"""What a journal costs: the gateway without, with it, and with shadows and feedback beside it.

``python bench/serve_journal.py`` runs 5 rounds of 5 seconds of each in turn at concurrency 64, and
then measures latency at concurrency 1 in 10 alternating rounds; ``--seconds 600 --rounds 1`` is the
soak of ten minutes. Every 20th answer gets a grade, and 2 % of requests a shadow. It fails if a
request or a grade that was acknowledged is not in the database, and prints by how much throughput
falls: best round against best round, as a busy machine only ever slows a round down. A grade and a
shadow are a call more for the gateway, so that its calls a second are printed, too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import urlopen

from sqlalchemy import func, select

from fastroute.journal.database import open_journal
from fastroute.journal.schema import FEEDBACK, REQUESTS, SHADOWS
from serve_clients import upstream
from serve_load import free_port, processor_s, read_answer, request_bytes, running

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
MORE = {
    "off": "",
    "journal": '[journal]\nurl = "{journal}"\nprompts = true\nanswers = true\n',
    "journal, shadow, feedback": '[journal]\nurl = "{journal}"\nprompts = true\nanswers = true\n'
    "[shadow]\nshare = 0.02\ndaily_usd = 1000.0\n",
}
FULL = "journal, shadow, feedback"


class Seen:
    """What the clients of one gateway saw."""

    def __init__(self) -> None:
        self.answered = self.graded = 0
        self.rates: list[float] = []
        self.calls: list[float] = []
        self.processor_us: list[float] = []
        self.writer_us: list[float] = []
        self.p50_ms: list[float] = []
        self.p99_ms: list[float] = []


def shadows_answered(port: int) -> float:
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        found = re.search(rb'shadows_total\{outcome="answered"\} (\S+)', answer.read())
    return float(found[1]) if found else 0.0


def writer_s(pid: int) -> float:
    """Seconds of processor time of the journal's process of the gateway ``pid``."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sum(processor_s(int(child)) for task in tasks for child in task.read_text().split())


async def load(port: int, concurrency: int, seconds: float, seen: Seen, grade: bool) -> list[float]:
    """Seconds of each request in ``seconds``."""
    raw = request_bytes("fastroute", port)
    end = time.perf_counter() + seconds
    taken: list[float] = []

    async def work() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        number = 0
        while time.perf_counter() < end:
            began = time.perf_counter()
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: *(\d+)", head)
            assert length is not None
            await reader.readexactly(int(length[1]))
            assert head.startswith(b"HTTP/1.1 200"), head
            taken.append(time.perf_counter() - began)
            seen.answered += 1
            number += 1
            if grade and number % 20 == 0:
                name = re.search(rb"x-fastroute-request-id: *(\w+)", head)
                assert name is not None
                body = json.dumps({"request_id": name[1].decode(), "score": 0.5})
                writer.write(
                    f"POST /v1/feedback HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}"
                    f"\r\n\r\n{body}".encode()
                )
                status, said = await read_answer(reader)
                assert status == 200, said
                seen.graded += 1
        writer.close()

    await asyncio.gather(*(work() for _ in range(concurrency)))
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--url", help="of a journal in PostgreSQL (default: SQLite)")
    options = parser.parse_args()
    all_seen = {name: Seen() for name in MORE}
    with tempfile.TemporaryDirectory() as name, upstream() as url:
        folder = Path(name)
        with ExitStack() as stack:
            started = {}
            for i, (kind, more) in enumerate(MORE.items()):
                port, config = free_port(), folder / f"{i}.toml"
                journal = options.url or f"sqlite:///{folder}/{i}.db"
                text = CONFIG.format(port=port, url=url) + more.format(journal=journal)
                config.write_text(text)
                command = [sys.executable, "-m", "fastroute", "serve", "--config", str(config)]
                started[kind] = port, stack.enter_context(running(command, port, {}))
            for concurrency, seconds, rounds in (
                (64, options.seconds, options.rounds),
                (1, 2.0, 10),
            ):
                for number in range(rounds):
                    for kind, (port, pid) in started.items():
                        seen = all_seen[kind]
                        began_s, writer_began_s = processor_s(pid), writer_s(pid)
                        others = shadows_answered(port) + seen.graded
                        began = time.perf_counter()
                        job = load(port, concurrency, seconds, seen, kind == FULL)
                        taken = sorted(asyncio.run(job))
                        if concurrency == 1:
                            seen.p50_ms.append(taken[len(taken) // 2] * 1e3)
                            seen.p99_ms.append(taken[int(0.99 * len(taken))] * 1e3)
                        else:
                            seconds_taken = time.perf_counter() - began
                            others = shadows_answered(port) + seen.graded - others
                            seen.rates.append(len(taken) / seconds_taken)
                            seen.calls.append((len(taken) + others) / seconds_taken)
                            for used, used_s in (
                                (seen.processor_us, processor_s(pid) - began_s),
                                (seen.writer_us, writer_s(pid) - writer_began_s),
                            ):
                                used.append(used_s / len(taken) * 1e6)
                    print(
                        f"round {number + 1} of {rounds} at concurrency {concurrency}", flush=True
                    )
        lost = 0
        for i, kind in enumerate(MORE):
            seen = all_seen[kind]
            best = max(all_seen["off"].rates)
            print(
                f"{kind:<26}{max(seen.rates):>7.0f} requests/s ({max(seen.rates) / best:.1%}), "
                f"{max(seen.calls):.0f} calls/s ({max(seen.calls) / best:.1%}), processor "
                f"{min(seen.processor_us):.0f} us, journal's process {min(seen.writer_us):.0f} us; "
                f"alone: median {min(seen.p50_ms):.3f} ms, p99 {min(seen.p99_ms):.3f} ms"
            )
            if kind != "off" and not options.url:
                engine = open_journal(f"sqlite:///{folder}/{i}.db")
                with engine.connect() as connection:
                    found = [
                        connection.scalar(select(func.count()).select_from(table)) or 0
                        for table in (REQUESTS, FEEDBACK, SHADOWS)
                    ]
                engine.dispose()
                lost += seen.answered - found[0] + seen.graded - found[1]
                print(f"  {seen.answered} requests, rows: {found[0]}; shadows: {found[2]}; grades: "
                      f"{seen.graded}, rows: {found[1]}")  # fmt: skip
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
