"""Rows of a journal for other programs: answers with their grades, as ``fastroute tune`` reads
them, or a table as it is."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from fastroute._extras import needed_for
from fastroute._files import os_errors_as, whole_file
from fastroute.errors import InvalidInputError
from fastroute.journal.schema import METADATA, REQUESTS, SHADOWS

TABLES = tuple(METADATA.tables)
_CHUNK_ROWS = 10_000
_ANSWER = (
    *("request_id", "time", "caller", "conversation", "prompt", "model", "score", "answer"),
    *("input_tokens", "output_tokens", "cost_usd", "latency_ms", "win_rate", "propensity"),
    *("weight", "is_shadow"),
)


def answer_rows(
    connection: Connection, grades: Mapping[tuple[str, str], float], since: float, until: float
) -> Iterator[dict[str, Any]]:
    """A row for each answer to a request whose prompt was kept, of shadows too: its model, and its
    grade, ``score``, where ``grades`` by (request, model) have one.

    ``weight`` is 1 for a request and the inverse of the sampling probability for a shadow;
    ``propensity`` is the probability with which the policy chose the model.
    """
    of = REQUESTS.c
    fits = (of.time >= since, of.time < until, of.prompt.is_not(None))
    asked = select(REQUESTS).where(*fits, of.answered_by.is_not(None)).order_by(of.time)
    for row in connection.execution_options(yield_per=1000).execute(asked).mappings():
        found = dict(row) | {
            "model": row["answered_by"],
            "score": grades.get((row["request_id"], row["answered_by"])),
            "weight": 1.0,
            "is_shadow": False,
        }
        yield {name: found[name] for name in _ANSWER}
    shadows = (
        select(SHADOWS, of.caller, of.conversation, of.prompt, of.win_rate, of.probabilities)
        .join(REQUESTS, of.request_id == SHADOWS.c.request_id)
        .where(*fits, SHADOWS.c.error.is_(None))
        .order_by(of.time)
    )
    for row in connection.execution_options(yield_per=1000).execute(shadows).mappings():
        found = dict(row) | {
            "score": grades.get((row["request_id"], row["model"])),
            "propensity": (row["probabilities"] or {}).get(row["model"]),
            "is_shadow": True,
        }
        yield {name: found[name] for name in _ANSWER}


def table_rows(
    connection: Connection, name: str, since: float, until: float
) -> Iterator[dict[str, Any]]:
    """The rows of a table, by time."""
    table = METADATA.tables[name]
    found = select(table).where(table.c.time >= since, table.c.time < until).order_by(table.c.time)
    for row in connection.execution_options(yield_per=1000).execute(found).mappings():
        yield dict(row)


def write_export(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    """Write ``rows`` to a .csv, .jsonl or .parquet file, whole or not at all; returns how many.

    In CSV and Parquet an object or a list is its JSON. Raises InvalidInputError for another ending,
    no rows or a file that can't be written, MissingDependencyError for Parquet without pyarrow.
    """
    writers = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
    write = writers.get(path.suffix)
    if write is None:
        raise InvalidInputError(f"{path} must end in .csv, .jsonl or .parquet")
    first = next(rows, None)
    if first is None:
        raise InvalidInputError("the journal has no such rows")
    with os_errors_as(InvalidInputError, f"{path} can't be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as temporary:
            return write(temporary, chain([first], rows))


def _write_jsonl(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def _write_csv(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for count, row in enumerate(rows, 1):
            if count == 1:
                writer.writerow(row)
            writer.writerow(_flat(row).values())
    return count


def _write_parquet(path: Path, rows: Iterator[dict[str, Any]]) -> int:
    with needed_for("a Parquet file"):
        import pyarrow
        import pyarrow.parquet
    chunks = iter(lambda: [_flat(row) for row in islice(rows, _CHUNK_ROWS)], [])
    count = 0
    writer = schema = None
    try:
        for chunk in chunks:
            if writer is None:
                schema = pyarrow.schema([(name, _arrow_type(pyarrow, name)) for name in chunk[0]])
                writer = pyarrow.parquet.ParquetWriter(path, schema)
            writer.write_table(pyarrow.Table.from_pylist(chunk, schema=schema))
            count += len(chunk)
    finally:
        if writer is not None:
            writer.close()
    return count


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        for name, value in row.items()
    }


#: Names of columns of another type than text, by what SQL calls it.
_TYPES: dict[str, str] = {
    column.name: column.type.__class__.__name__
    for table in METADATA.tables.values()
    for column in table.columns
}


def _arrow_type(pyarrow: Any, name: str) -> Any:
    kind = "Boolean" if name == "is_shadow" else _TYPES.get(name, "Text")
    makers = {"Double": "float64", "Integer": "int64", "Boolean": "bool_"}
    return getattr(pyarrow, makers.get(kind, "string"))()
