"""Parts of a job: each is read, scored and written on its own, wherever it is."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from fastroute._progress import Advance
from fastroute._tasks.processes import Task
from fastroute.data.row_files import read_rows
from fastroute.errors import InvalidInputError
from fastroute.scoring.batch import SCORES, BatchScorer
from fastroute.scoring.files import InputFile, Place, arrow

#: Prompts that are read and scored at a time, and rows that are written at a time.
_ROWS_AT_ONCE = 2048
_ROWS_PER_GROUP = 65_536
#: Bytes of a column that are read at a time: a row group need not fit in memory.
_BUFFER_BYTES = 1 << 20
_ROW = "row"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with every part.

    Attributes:
        router: as on the command line.
        threshold: ``win_rate >= threshold`` is strong.
        column: of the prompts.
        keep: columns that are copied to the output.
        output: the folder that is written.
    """

    router: str
    threshold: float
    column: str
    keep: tuple[str, ...]
    output: Place

    def task(self, scorer: BatchScorer | None = None) -> Task:
        """``score_part`` for a process, with a scorer of its own."""
        if scorer is None:
            scorer = BatchScorer(self.router, column=self.column, threshold=self.threshold)
        return partial(score_part, self, scorer)


@dataclass(frozen=True, slots=True)
class Part:
    """A row group of a Parquet file, or a whole file of another kind.

    Attributes:
        file: where it is read from.
        name: of the file that is written, without its end.
        group: number of the row group; None for a whole file.
        first: number of rows before it in the file.
        rows: in it; None where that is not known before it is read.
    """

    file: Place
    name: str
    group: int | None
    first: int
    rows: int | None

    @property
    def scores(self) -> str:
        """The name of the file with its scores."""
        return f"{self.name}.parquet"

    @property
    def errors(self) -> str:
        """The name of the file with its rows that could not be scored."""
        return f"{self.name}.errors.jsonl"


def plan(files: Sequence[InputFile], column: str, keep: Sequence[str]) -> list[Part]:
    """The parts of all files, in order.

    Raises InvalidInputError for a file that can't be read or lacks a column.
    """
    for name in (column, *keep):
        if name in (_ROW, *SCORES):
            raise InvalidInputError(
                f"column {name!r} has the name of a column of the output; rename it in the input"
            )
    parts = []
    for i, file in enumerate(files):
        if file.place.kind != "parquet":
            parts.append(Part(file.place, f"part-{i:05d}-00000", None, 0, None))
            continue
        first = 0
        with _parquet(file.place) as table:
            names = table.schema_arrow.names
            for name in (column, *keep):
                if names.count(name) != 1:
                    raise InvalidInputError(
                        f"{file.place.label} has {names.count(name)} columns named {name!r}; its "
                        f"columns are {', '.join(map(repr, names))}"
                    )
            for group in range(table.num_row_groups):
                rows = table.metadata.row_group(group).num_rows
                parts.append(Part(file.place, f"part-{i:05d}-{group:05d}", group, first, rows))
                first += rows
    return parts


def score_part(job: Job, scorer: BatchScorer, part: Part, advance: Advance) -> tuple[int, int]:
    """Score and write a part; rows with scores, and rows without.

    ``advance`` is called with the rows that were read, a batch at a time.
    """
    pa = arrow()
    rows, pending, errors = 0, [], []
    with (job.output / part.scores).writing() as target:
        writer = None
        try:
            for read, table, unreadable in read_part(part, [job.column, *job.keep]):
                scored = scorer(table)
                refused = scored.filter(pa.compute.is_valid(scored["error"]))
                errors += unreadable
                errors += zip(refused[_ROW].to_pylist(), refused["error"].to_pylist(), strict=True)
                if refused.num_rows:
                    scored = scored.filter(pa.compute.is_null(scored["error"]))
                scored = scored.select([_ROW, *job.keep, *SCORES[:-1]])
                rows += scored.num_rows
                pending.append(scored)
                if writer is None:
                    schema = scored.schema.remove_metadata()
                    writer = _writer(target, schema, job.keep)
                if sum(map(len, pending)) >= _ROWS_PER_GROUP:
                    writer.write_table(pa.concat_tables(pending), row_group_size=_ROWS_PER_GROUP)
                    pending = []
                advance(read)
            assert writer is not None
            if pending:
                writer.write_table(pa.concat_tables(pending), row_group_size=_ROWS_PER_GROUP)
        finally:
            if writer is not None:
                writer.close()
        if errors:  # before the scores, whose file says that the part is done
            said = [
                {"file": part.file.label, "row": row, "error": error}
                for row, error in sorted(errors)
            ]
            lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in said)
            (job.output / part.errors).write(lines.encode("utf-8", "replace"))
    return rows, len(errors)


def _writer(target: Any, schema: Any, keep: Sequence[str]) -> Any:
    """Numbers of rows are stored as differences, scores as they are: few of these repeat."""
    return arrow().parquet.ParquetWriter(
        target, schema, compression="zstd", use_dictionary=list(keep),
        column_encoding={_ROW: "DELTA_BINARY_PACKED"},
    )  # fmt: skip


def _ahead(items: Iterator[_T]) -> Iterator[_T]:
    """The items, each made in a thread while the one before is in use."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def read_part(
    part: Part, columns: Sequence[str]
) -> Iterator[tuple[int, Any, list[tuple[int, str]]]]:
    """Rows read, a table with ``row`` and the columns, and rows that can't be read, with reasons.

    The first column is that of the prompts. At least one table, so that a part without rows has a
    file with columns. Raises InvalidInputError.
    """
    return _ahead(_tables(part, list(dict.fromkeys(columns))))


def _tables(part: Part, columns: list[str]) -> Iterator[tuple[int, Any, list[tuple[int, str]]]]:
    if part.group is None:
        yield from _text_tables(part, columns)
        return
    pa = arrow()
    number = part.first
    try:
        with _parquet(part.file) as table:
            batches = table.iter_batches(_ROWS_AT_ONCE, row_groups=[part.group], columns=columns)
            schema = pa.schema([table.schema_arrow.field(name) for name in columns])
            for batch in batches if part.rows else [schema.empty_table()]:
                rows = pa.array(np.arange(number + 1, number + 1 + batch.num_rows))
                number += batch.num_rows
                arrays = [batch.column(name) for name in columns]
                yield batch.num_rows, pa.table([rows, *arrays], [_ROW, *columns]), []
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(f"{part.file.label} can't be read as Parquet: {error}") from error


def _text_tables(
    part: Part, columns: list[str]
) -> Iterator[tuple[int, Any, list[tuple[int, str]]]]:
    pa = arrow()
    if part.file.is_local:
        rows = read_rows(Path(part.file.name))
    else:
        system, path = part.file.opened()
        try:
            rows = read_rows(Path(path), system.open_input_file(path))
        except OSError as error:
            raise InvalidInputError(f"{part.file.label} can't be read: {error}") from error
    done = False
    while not done:
        some = list(islice(rows, _ROWS_AT_ONCE))
        done = len(some) < _ROWS_AT_ONCE
        numbers: list[int] = []
        values: dict[str, list[str | None]] = {name: [] for name in columns}
        errors: list[tuple[int, str]] = []
        for where, row in some:
            number = int(where.rpartition(" ")[2])
            why = row if isinstance(row, str) else _why_not(row, columns[0])
            if why is not None or isinstance(row, str):
                errors.append((number, str(why)))
                continue
            numbers.append(number)
            for name in columns:
                values[name].append(_as_text(row.get(name)))
        arrays = [pa.array(values[name], pa.string()) for name in columns]
        names = [_ROW, *columns]
        yield len(some), pa.table([pa.array(numbers, pa.int64()), *arrays], names), errors


def _why_not(row: dict[str, Any], column: str) -> str | None:
    """Why a row of JSON or CSV can't be scored."""
    value = row.get(column)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "the prompt holds a lone surrogate, which is not Unicode text"
        return None
    if column not in row:
        return f"no {column!r}"
    return "the prompt is null" if value is None else f"the prompt is {type(value).__name__}"


def _as_text(value: Any) -> str | None:
    """A kept value of a JSON line, as text: lines may disagree on the type."""
    if value is None or isinstance(value, str):
        return None if value is None else value.encode("utf-8", "replace").decode()
    return json.dumps(value, ensure_ascii=True)


def _parquet(place: Place) -> Any:
    pa = arrow()
    system, path = place.opened()
    try:
        return pa.parquet.ParquetFile(
            system.open_input_file(path), buffer_size=_BUFFER_BYTES, pre_buffer=False
        )
    except (OSError, pa.ArrowException) as error:
        raise InvalidInputError(f"{place.label} can't be read as Parquet: {error}") from error


def rows_of(place: Place) -> int:
    """The number of rows of a Parquet file. Raises InvalidInputError."""
    with _parquet(place) as table:
        return int(table.metadata.num_rows)
