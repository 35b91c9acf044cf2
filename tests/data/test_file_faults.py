"""Files that are no tables: each kind is refused or read in words, in time and in memory."""

from __future__ import annotations

import gzip
import json
import os
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from fastroute.data import read_records
from fastroute.data.row_files import read_lines, read_rows
from fastroute.errors import InvalidInputError

GRADED = {"prompt": "p", "weak": 0, "strong": 1}


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "jsonl.gz", "csv.gz", "parquet.gz"])
@pytest.mark.parametrize("make", [make_fifo, make_socket, make_device, Path.mkdir])
def test_what_is_not_a_regular_file_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], ending: str
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    path = tmp_path / f"t.{ending}"
    make(path)
    with pytest.raises(InvalidInputError, match=r"not a regular file|can't be read"):
        read_records(path)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "jsonl.gz", "csv.gz"])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    rows = "".join(json.dumps(GRADED) + "\n" for _ in range(3))
    content = (rows if "jsonl" in ending else "prompt,weak\np,0\nq,1\n").encode()
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    reading = read_rows(path)
    next(reading)
    with path.open("ab") as more:
        more.write(b"\n")
    with pytest.raises(InvalidInputError, match=r"t\..* changed while it was read"):
        list(reading)


def test_parquet_with_bytes_that_are_not_utf8_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    text = pa.array([b"good", b"bad \xff", b"fine"]).view(pa.string())
    table = pa.table({"prompt": text, "weak": [0, 0, 1], "strong": [1, 1, 1]})
    parquet.write_table(table, path)
    with pytest.raises(InvalidInputError, match=r"t\.parquet: 1 malformed row \(row 2: not UTF-8"):
        read_records(path)
    _, graded, report = read_records(path, skip_bad=True)
    assert [row.prompt for row in graded] == ["good", "fine"]
    assert report.examples == ["row 2: not UTF-8 text"]


def test_a_parquet_value_that_python_cannot_hold_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    days = pa.array([0, 2**31 - 1], pa.int32()).cast(pa.date32())
    parquet.write_table(pa.table({"prompt": ["a", "b"], "date": days}), path)
    first, second = list(read_rows(path))
    assert first[0] == "row 1"
    assert isinstance(first[1], dict)
    assert second[0] == "row 2"
    assert "can't hold" in str(second[1])


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    if ending == "csv":
        path.write_text("prompt,x,x\np,0,1\n")
    else:
        parquet.write_table(pa.table([["p"], [0], [1]], names=["prompt", "x", "x"]), path)
    with pytest.raises(InvalidInputError, match="2 columns are named 'x'"):
        list(read_rows(path))


def seconds(work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def test_a_wide_header_takes_linear_time(tmp_path: Path) -> None:
    def wide(columns: int) -> Path:
        path = tmp_path / f"{columns}.csv"
        names = ",".join(f"m{i}" for i in range(columns))
        path.write_text(f"prompt,{names}\np,{','.join('1' * columns)}\n")
        return path

    assert seconds(lambda: read_records(wide(20_000))) < 5.0  # quadratic: 20 s


def blank(path: Path, before: bytes = b"", after: bytes = b"") -> Path:
    """A gzip of 300 MB of newlines, 300 kB long."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(before)
        for _ in range(300):
            file.write(b"\n" * 1_000_000)
        file.write(after)
    return path


def rows_of(rows: Iterator[tuple[str, Any]]) -> list[tuple[str, Any]]:
    tracemalloc.start()
    try:
        return list(rows)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 20_000_000


@pytest.mark.parametrize("kind", ["jsonl", "csv", "txt"])
def test_300_mb_of_newlines_are_passed_over(tmp_path: Path, kind: str) -> None:
    before = b"prompt\n" if kind == "csv" else b""
    row = b'{"prompt": "x"}\n' if kind == "jsonl" else b"x\n"
    path = blank(tmp_path / f"t.{kind}.gz", before, row)
    begun = time.process_time()
    found = rows_of(read_lines(path) if kind == "txt" else read_rows(path))
    assert time.process_time() - begun < 12.0  # line by line: over 40 s
    line = 300_000_001 + bool(before)
    assert found == [(f"line {line}", {"prompt": "x"})]


def test_a_line_without_an_end_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"\n")
        for _ in range(270):
            file.write(b"x" * 1_000_000)
    with pytest.raises(InvalidInputError, match="line 2 has more than 256 MiB"):
        list(read_rows(path))


def test_an_open_quote_before_many_newlines_is_bounded(tmp_path: Path) -> None:
    path = blank(tmp_path / "t.csv.gz", b'prompt\n"open')
    assert seconds(lambda: list(read_rows(path))) < 30.0


def test_lines_end_as_anybody_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'prompt,weak\r"a\rb",0\r\r\nc,1\n  \nd,1')
    assert list(read_rows(path)) == [
        ("line 2", {"prompt": "a\rb", "weak": "0"}),
        ("line 5", {"prompt": "c", "weak": "1"}),
        ("line 7", {"prompt": "d", "weak": "1"}),
    ]
