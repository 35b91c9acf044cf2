"""Rows of JSONL, CSV and Parquet files, with where each stands and what is wrong with it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from fastroute.errors import InvalidInputError, MissingDependencyError

#: A row, or what is wrong with it.
Row = dict[str, Any] | str
#: What names of files end in, a last ``.gz`` aside.
KINDS = ("jsonl", "csv", "parquet")


def file_kind(file: Path) -> str:
    """What a file's name ends in, in lower case and without a last ``.gz``."""
    return file.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()


def data_files(place: Path) -> list[Path]:
    """``place`` itself, or, if it is a folder, the files in it that ``read_rows`` reads, by name.

    Other files and folders in it are not looked at. Raises InvalidInputError where it has none.
    """
    if not place.is_dir():
        return [place]
    found = [
        file
        for file in sorted(place.iterdir())
        if file_kind(file) in KINDS and file.is_file() and not file.name.startswith(".")
    ]
    if not found:
        raise InvalidInputError(f"{place} has no file that ends in .jsonl, .csv or .parquet")
    return found


def read_rows(file: Path) -> Iterator[tuple[str, Row]]:
    """Each row of a ``.jsonl``, ``.csv`` or ``.parquet`` file, and where it is ("line 3").

    Each may be gzipped (``.gz``); a gzipped Parquet file is unpacked in memory.

    A row that can't be read is yielded as what is wrong with it. Raises InvalidInputError if the
    file can't be read, MissingDependencyError for Parquet without pyarrow.
    """
    kind = file_kind(file)
    if kind == "jsonl":
        return read_json_lines(file)
    if kind == "csv":
        return _csv_rows(file)
    if kind == "parquet":
        return _parquet_rows(file)
    raise InvalidInputError(f"{file} must end in .jsonl, .csv or .parquet")


def read_lines(file: Path) -> Iterator[tuple[str, Row]]:
    """Each line of a text file as a row with ``prompt``; blank ones are skipped."""
    with _opened(file) as text:
        for number, line in enumerate(text, start=1):
            if line.strip():
                where = f"line {number}"
                yield where, _NOT_UTF8 if _is_garbled(line) else {"prompt": line.rstrip("\r\n")}


def read_json_lines(file: Path) -> Iterator[tuple[str, Row]]:
    """``read_rows`` of JSONL, whatever the file's name."""
    with _opened(file) as text:
        for number, line in enumerate(text, start=1):
            if not line.strip():
                continue
            where = f"line {number}"
            if _is_garbled(line):
                yield where, _NOT_UTF8
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield where, f"not JSON ({error})"
                continue
            yield where, row if isinstance(row, dict) else "not a JSON object"


def raise_cell_limit() -> None:
    """Let CSV cells be as long as JSON's texts; the module's limit holds for the whole process."""
    csv.field_size_limit(max(csv.field_size_limit(), 2**31 - 1))


def check_header(file: Path, names: Sequence[str]) -> None:
    """Raise InvalidInputError if two columns have one name: which of them is meant, who knows."""
    for name in names:
        if names.count(name) > 1:
            raise InvalidInputError(
                f"{file}: {names.count(name)} columns are named {name!r}; rename or drop all but "
                "one"
            )


def _csv_rows(file: Path) -> Iterator[tuple[str, Row]]:
    with _opened(file) as text:
        raise_cell_limit()
        reader = csv.reader(text, strict=True)
        header: list[str] | None = None
        line = 1
        while True:
            where = f"line {line}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield where, f"not CSV ({error})"
                line = reader.line_num + 1
                continue
            line = reader.line_num + 1
            if cells is None:
                return
            if header is None:
                header = cells
                check_header(file, header)
            elif not cells:
                continue
            elif len(cells) != len(header):
                yield where, f"{len(cells)} cells where the header has {len(header)}"
            elif any(map(_is_garbled, cells)):
                yield where, _NOT_UTF8
            else:
                yield where, dict(zip(header, cells, strict=True))


def _parquet_rows(file: Path) -> Iterator[tuple[str, Row]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingDependencyError(
            'reading Parquet needs pyarrow; pip install "fastroute[eval]"'
        ) from error
    try:
        content = io.BytesIO(gzip.decompress(file.read_bytes())) if _is_gzipped(file) else file
        with parquet.ParquetFile(content) as table:
            number = 0
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (OSError, EOFError, zlib.error, ArrowException) as error:
        raise InvalidInputError(f"{file} can't be read as Parquet: {error}") from error


# What UTF-8 can't read becomes lone surrogates, so that the error can name the line.
_NOT_UTF8 = "not UTF-8 text"


def _is_garbled(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= c <= "\udcff" for c in text)


def _is_gzipped(file: Path) -> bool:
    return file.suffix == ".gz"


@contextmanager
def _opened(file: Path) -> Iterator[IO[str]]:
    try:
        open_bytes = gzip.open if _is_gzipped(file) else open
        with (
            open_bytes(file, "rb") as stream,
            io.TextIOWrapper(
                stream, encoding="utf-8-sig", errors="surrogateescape", newline=""
            ) as text,
        ):
            yield text
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidInputError(f"{file} can't be read: {reason}") from error
