"""Measure ``fastroute score``: speed against the native batch, memory, and a kill half-way.

``python bench/score_figures.py`` makes the rows, a million by default (``--rows``), and prints a
table. The native batch is ``Router.win_rates`` of the same prompts as lists of str, in one thread;
a process of ``score`` has one such thread too, and reads ahead in another.
``--memory-rows 1000000,20000000`` compares peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import machine

_ROWS_PER_GROUP = 50_000
_Spent = tuple[float, float]  # seconds, and seconds of processors
_NATIVE = """
import sys, time
import pyarrow.parquet as pq
from fastroute._validate import limit_threads
from fastroute.routers.specification import parse_router
limit_threads(1)
router = parse_router(sys.argv[2]).make()
took, rows = 0.0, 0
for batch in pq.ParquetFile(sys.argv[1]).iter_batches(4096, columns=["prompt"]):
    prompts = batch.column(0).to_pylist()
    begin = time.perf_counter()
    router.win_rates(prompts)
    took, rows = took + time.perf_counter() - begin, rows + len(prompts)
print(rows / took)
"""


def main() -> int:
    options = _parse()
    print(f"Measured on: {machine()}.", end="\n\n", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        print("| figure | measured |\n|---|---|", flush=True)
        for row in [*_speed(folder, options), *_killed(folder, options), *_memory(folder, options)]:
            print(f"| {row[0]} | {row[1]} |", flush=True)
    return 0


def make_rows(path: Path, rows: int) -> Path:
    """A Parquet file of ``rows`` synthetic prompts (10,000 distinct ones), a group at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from data import make_prompts

    prompts = make_prompts(10_000)
    block = [prompts[i % len(prompts)] for i in range(_ROWS_PER_GROUP)]
    table = pa.table({"prompt": block})
    with pq.ParquetWriter(path, table.schema) as writer:
        for first in range(0, rows, _ROWS_PER_GROUP):
            writer.write_table(table.slice(0, min(_ROWS_PER_GROUP, rows - first)))
    return path


def _score(source: Path, output: Path, options: argparse.Namespace, *more: str) -> list[str]:
    shutil.rmtree(output, ignore_errors=True)
    words = ["--input", str(source), "--output", str(output), "--router", options.router, *more]
    run = ["-m", "fastroute"] if more else ["-c", _ONE_THREAD]
    return [sys.executable, *run, "score", *words]


_ONE_THREAD = """
import sys
from fastroute._validate import limit_threads
from fastroute.cli import main
limit_threads(1)
sys.exit(main(sys.argv[1:]))
"""


def _speed(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    """Rows a second, the best of each; starting a process and its router is counted apart."""
    source, output = make_rows(folder / "rows.parquet", options.rows), folder / "out"
    few = make_rows(folder / "few.parquet", 1000)
    native: list[float] = []
    one: list[_Spent] = []
    two: list[_Spent] = []
    starts: dict[int, list[_Spent]] = {1: [], 2: []}
    for _ in range(options.turns):
        ran = subprocess.run(
            [sys.executable, "-c", _NATIVE, str(source), options.router],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        native.append(float(ran.stdout))
        for workers, taken in ((1, one), (2, two)):
            more = ("--workers", "2") if workers == 2 else ()
            starts[workers].append(_spent(_score(few, output, options, *more)))
            taken.append(_spent(_score(source, output, options, *more)))
    # The least of each, without the start.
    seconds, busy = (
        {n: min(s[k] for s in t) - min(s[k] for s in starts[n]) for n, t in ((1, one), (2, two))}
        for k in (0, 1)
    )
    rates = {n: options.rows / s for n, s in seconds.items()}
    best, cores = max(native), busy[1] / seconds[1]
    return [
        ("native batch, one thread", f"{best:,.0f} rows a second"),
        (
            "`score`, one process, one thread that scores",
            f"{rates[1]:,.0f} rows a second, {100 * rates[1] / best:.0f} % of the native batch",
        ),
        (
            "`score --workers 2`",
            f"{rates[2]:,.0f} rows a second, {rates[2] / rates[1]:.2f} times one process",
        ),
        (
            "cores that one process keeps busy, with its thread that reads ahead",
            f"{cores:.2f}, so that two processes on two cores can be {2 / cores:.2f} times as fast",
        ),
        (
            "processor time of two processes for the same rows",
            f"{busy[2] / busy[1]:.2f} times that of one",
        ),
        (
            "start of a process, 1 and 2 workers, left out above",
            f"{min(starts[1])[0]:.2f} s and {min(starts[2])[0]:.2f} s",
        ),
    ]


def _spent(command: list[str]) -> _Spent:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _killed(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    source, whole, cut = folder / "rows.parquet", folder / "whole", folder / "cut"
    subprocess.run(_score(source, whole, options), check=True, stdout=subprocess.DEVNULL)
    parts = len(list(whole.glob("part-*.parquet")))
    command = _score(source, cut, options, "--workers", "2")
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(list(cut.glob("part-*.parquet"))) < parts // 2:
        time.sleep(0.01)
    process.kill()
    process.wait()
    there = len(list(cut.glob("part-*.parquet")))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    same = {f.name: f.read_bytes() for f in whole.iterdir()} == {
        f.name: f.read_bytes() for f in cut.iterdir()
    }
    return [
        (
            f"killed with SIGKILL at {there} of {parts} parts, and the same command again",
            "the same bytes" if same else "OTHER BYTES",
        )
    ]


def _memory(folder: Path, options: argparse.Namespace) -> list[tuple[str, str]]:
    found = []
    for rows in map(int, options.memory_rows.split(",")):
        source = make_rows(folder / "memory.parquet", rows)
        command = _score(source, folder / "out", options)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        found.append((f"peak memory of a process, {rows:,} rows", _mib(usage)))
    return found


def _mib(usage: resource.struct_rusage) -> str:
    return f"{usage.ru_maxrss / 1024:.0f} MiB"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--memory-rows", default="1000000", metavar="N,N")
    parser.add_argument("--router", default="mf")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--folder", help="where rows and scores go (default: the system's)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
