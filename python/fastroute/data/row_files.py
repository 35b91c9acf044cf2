"""Rows of JSONL, CSV and Parquet files, with where each stands and what is wrong with it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import stat
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastroute._extras import needed_for
from fastroute.errors import InvalidInputError

#: A row, or what is wrong with it.
Row = dict[str, Any] | str
#: What names of files end in, a last ``.gz`` aside.
KINDS = ("jsonl", "csv", "parquet")

# More is no row of text, and would fill the memory: a line, a CSV cell, an unpacked Parquet file.
_MOST_LINE_BYTES = 1 << 28
_MOST_PARQUET_BYTES = 1 << 32
_BLOCK_BYTES = 1 << 16
_NOT_UTF8 = "not UTF-8 text"


def file_kind(file: Path) -> str:
    """What a file's name ends in, in lower case and without a last ``.gz``."""
    return file.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()


def data_files(place: Path) -> list[Path]:
    """``place`` itself, or, if it is a folder, the files in it that ``read_rows`` reads, by name.

    Other files and folders in it are not looked at. Raises InvalidInputError where it has none.
    """
    if not place.is_dir():
        return [place]
    try:
        found = [
            file
            for file in sorted(place.iterdir())
            if file_kind(file) in KINDS and file.is_file() and not file.name.startswith(".")
        ]
    except OSError as error:
        raise InvalidInputError(f"{place} can't be read: {error.strerror}") from error
    if not found:
        raise InvalidInputError(f"{place} has no file that ends in .jsonl, .csv or .parquet")
    return found


def read_rows(file: Path, stream: Any = None) -> Iterator[tuple[str, Row]]:
    """Each row of a ``.jsonl``, ``.csv`` or ``.parquet`` file, and where it is ("line 3").

    Each may be gzipped (``.gz``); a gzipped Parquet file is unpacked in memory. Blank lines are
    skipped. A row that can't be read is yielded as what is wrong with it. ``stream`` has the bytes
    of a JSONL or CSV file that is elsewhere.

    Raises InvalidInputError if the file can't be read, is not a regular file, has a line of more
    than 256 MiB or changes while it is read; MissingDependencyError for Parquet without pyarrow.
    """
    kind = file_kind(file)
    if kind == "jsonl":
        return read_json_lines(file, stream)
    if kind == "csv":
        return _csv_rows(file, stream)
    if kind == "parquet":
        return _parquet_rows(file)
    if kind in ("pkl", "pickle"):
        raise InvalidInputError(
            f"{file} is a pickle, and reading it would run its code; if you trust it, write it as "
            "Parquet: pandas.read_pickle(FILE).to_parquet(FILE.parquet)"
        )
    raise InvalidInputError(f"{file} must end in .jsonl, .csv or .parquet")


def read_lines(file: Path) -> Iterator[tuple[str, Row]]:
    """Each line of a text file as a row with ``prompt``; blank ones are skipped."""
    for number, line in _lines(file):
        text = _decoded(line)
        yield f"line {number}", _NOT_UTF8 if text is None else {"prompt": text.rstrip("\r\n")}


def read_json_lines(file: Path, stream: Any = None) -> Iterator[tuple[str, Row]]:
    """``read_rows`` of JSONL, whatever the file's name."""
    for number, line in _lines(file, stream):
        where, text = f"line {number}", _decoded(line)
        if text is None:
            yield where, _NOT_UTF8
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield where, f"not JSON ({error})"
            continue
        yield where, row if isinstance(row, dict) else "not a JSON object"


def raise_cell_limit() -> None:
    """Let CSV cells be as long as JSON's texts; the module's limit holds for the whole process."""
    csv.field_size_limit(max(csv.field_size_limit(), _MOST_LINE_BYTES))


def check_header(file: Path, names: Sequence[str]) -> None:
    """Raise InvalidInputError if several columns have the same name."""
    name, count = next(iter(Counter(names).most_common(1)), ("", 0))
    if count > 1:
        raise InvalidInputError(
            f"{file}: {count} columns are named {name!r}; rename or drop all but one"
        )


class _CsvLines:
    """The lines of a CSV file for ``csv.reader``, which asks for one record at a time."""

    def __init__(self, file: Path, stream: Any) -> None:
        self._lines = _lines(file, stream, inside=lambda: self.record is not None)
        #: the line on which the record that is being read begins; None before its first.
        self.record: int | None = None
        self.garbled = False  #: whether that record has bytes that are not UTF-8

    def begin_record(self) -> None:
        self.record, self.garbled = None, False

    def __iter__(self) -> _CsvLines:
        return self

    def __next__(self) -> str:
        number, line = next(self._lines)
        self.record = self.record or number
        text = _decoded(line)
        self.garbled |= text is None
        return line.decode("utf-8", "replace") if text is None else text


def _csv_rows(file: Path, stream: Any) -> Iterator[tuple[str, Row]]:
    raise_cell_limit()
    lines = _CsvLines(file, stream)
    reader = csv.reader(lines, strict=True)
    header: list[str] | None = None
    while True:
        lines.begin_record()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield f"line {lines.record}", f"not CSV ({error})"
            continue
        if cells is None:
            return
        where = f"line {lines.record}"
        if header is None:
            if lines.garbled:
                raise InvalidInputError(f"{file}, {where}: the header is {_NOT_UTF8}")
            header = cells
            check_header(file, header)
        elif lines.garbled:
            yield where, _NOT_UTF8
        elif len(cells) != len(header):
            yield where, f"{len(cells)} cells where the header has {len(header)}"
        else:
            yield where, dict(zip(header, cells, strict=True))


def _parquet_rows(file: Path) -> Iterator[tuple[str, Row]]:
    with needed_for("a Parquet file"):
        from pyarrow import ArrowException, parquet
    number = 0
    with _opened(file) as stream:
        content: Any = stream
        if _is_gzipped(file):
            content = io.BytesIO(stream.read(_MOST_PARQUET_BYTES + 1))
            if content.getbuffer().nbytes > _MOST_PARQUET_BYTES:
                raise InvalidInputError(
                    f"{file} decompresses to more than 4 GiB; decompress it to a file first"
                )
        try:
            with parquet.ParquetFile(content) as table:
                check_header(file, table.schema_arrow.names)
                for batch in table.iter_batches():
                    for row in _batch_rows(batch):
                        number += 1
                        yield f"row {number}", row
        except (OSError, EOFError, zlib.error, ArrowException) as error:
            raise InvalidInputError(f"{file} can't be read as Parquet: {error}") from error


def _batch_rows(batch: Any) -> Iterator[Row]:
    """The rows of a batch of Parquet; each on its own if any of them can't be converted."""
    try:
        yield from batch.to_pylist()
        return
    except (ValueError, OverflowError):
        pass
    for i in range(batch.num_rows):
        try:
            yield batch.slice(i, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield _NOT_UTF8
        except (ValueError, OverflowError) as error:
            yield f"a value that Python can't hold ({error})"


def _decoded(line: bytes) -> str | None:
    """The text of a line, or None if it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def _is_gzipped(file: Path) -> bool:
    return file.suffix == ".gz"


def _lines(
    file: Path, given: Any = None, inside: Callable[[], bool] = lambda: False
) -> Iterator[tuple[int, bytes]]:
    """The number and the bytes of each line that is not blank, its line end included.

    Runs of blank lines are passed over a block at a time. While ``inside`` says that they belong to
    a record they are yielded, a block at a time too.
    """
    with _opened(file) if given is None else _unpacked(file, given) as stream:
        number = 1
        if stream.peek(3)[:3] == b"\xef\xbb\xbf":
            stream.read(3)
        while content := stream.readline(_MOST_LINE_BYTES + 1):
            if len(content) > _MOST_LINE_BYTES:
                raise InvalidInputError(
                    f"{file}, line {number} has more than {_MOST_LINE_BYTES >> 20} MiB; "
                    "write a row a line"
                )
            if content.isspace():
                block = stream.peek(_BLOCK_BYTES)
                run = block[: len(block) - len(block.lstrip())]
                content += stream.read(run.rfind(b"\n") + 1)
                if inside():
                    yield number, content
                number += content.count(b"\n")
                continue
            for line in content.splitlines(keepends=True):  # at a lone \r too
                if inside() or not line.isspace():
                    yield number, line
                number += 1


@contextmanager
def _unpacked(file: Path, raw: Any) -> Iterator[io.BufferedReader]:
    """The bytes of an open file, unpacked if its name says that it is gzipped."""
    packed: Any = gzip.GzipFile(fileobj=raw) if _is_gzipped(file) else raw
    yield io.BufferedReader(packed, _BLOCK_BYTES)


@contextmanager
def _opened(file: Path) -> Iterator[io.BufferedReader]:
    """The bytes of a regular file, unpacked if it is gzipped, if it stays what it is."""
    # Without O_NONBLOCK a named pipe waits for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        is_folder = file.is_dir()
        with io.FileIO(os.open(os.devnull if is_folder else file, flags)) as raw:
            if is_folder or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
                what = "a folder" if is_folder else "a pipe or a device"
                raise InvalidInputError(f"{file} is {what}, not a regular file; name a file")
            before = os.fstat(raw.fileno())
            failure = None
            try:
                with _unpacked(file, raw) as stream:
                    yield stream
            except (OSError, EOFError, zlib.error) as error:
                failure = error
            after = os.fstat(raw.fileno())
            if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
                raise InvalidInputError(
                    f"{file} changed while it was read; try again when nothing writes to it"
                ) from failure
            if failure is not None:
                raise failure
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{file} can't be read: {reason}") from error
