"""Rows of exports: files, and tables or queries of SQL databases by their URL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastroute._checks import check_path
from fastroute._extras import needed_for
from fastroute.data.row_files import Row, read_rows
from fastroute.errors import InvalidInputError

#: One or several paths or URLs.
Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def read_sources(sources: Sources, query: str | None = None) -> list[tuple[str, str, Row]]:
    """Each row of each source: the source's name, where the row is (with that name where there are
    several), and the row.

    Args:
        sources: ``.csv``, ``.jsonl`` or ``.parquet`` files, each perhaps ``.gz``, or SQLAlchemy's
            URLs, with ``?table=NAME``.
        query: a SELECT for the databases, instead of a table.

    Raises InvalidInputError for what can't be read or has no rows, MissingDependencyError for SQL
    without SQLAlchemy, or for Parquet without pyarrow.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not given:
        raise InvalidInputError("path is empty; give a file or a database's URL")
    if query is not None and not any("://" in str(source) for source in given):
        raise InvalidInputError(f"query is for a database's URL, and {given[0]} is a file")
    found: list[tuple[str, str, Row]] = []
    for source in given:
        if isinstance(source, str) and "://" in source:
            name, rows = _read_sql(source, query)
        else:
            file = check_path("path", source)
            name, rows = str(file), list(read_rows(file))
        if not rows:
            raise InvalidInputError(f"{name} has no rows")
        before = f"{name}, " if len(given) > 1 else ""
        found += [(name, before + where, row) for where, row in rows]
    return found


def _read_sql(url: str, query: str | None) -> tuple[str, list[tuple[str, Row]]]:
    """The database's name, without a password, and its rows. Nothing is written to it."""
    with needed_for("reading a database"):
        import sqlalchemy
        from sqlalchemy import exc
    try:
        parsed = sqlalchemy.make_url(url)
    except exc.ArgumentError as error:
        raise InvalidInputError(
            "path is not a database's URL such as sqlite:///traffic.db?table=graded"
        ) from error
    table = parsed.query.get("table")
    parsed = parsed.difference_update_query(["table"])
    name = parsed.render_as_string(hide_password=True)
    file = parsed.database
    if parsed.get_backend_name() == "sqlite" and not (file and Path(file).is_file()):
        raise InvalidInputError(f"{name}: there is no such file")  # it would be made
    if parsed.drivername == "postgresql":  # the driver that the extra installs
        parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        with needed_for(name):
            engine = sqlalchemy.create_engine(parsed)
        try:
            with engine.connect() as connection:  # without a commit
                wanted = _selected(sqlalchemy, connection, name, table, query)
                rows = connection.execute(wanted).mappings().all()
        finally:
            engine.dispose()
    except exc.SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise InvalidInputError(f"{name} can't be read: {str(reason).splitlines()[0]}") from error
    return name, [
        (f"row {i}", {str(key): _plain(value) for key, value in row.items()})
        for i, row in enumerate(rows, 1)
    ]


def _selected(library: Any, connection: Any, name: str, table: Any, query: str | None) -> Any:
    if query is not None:
        return library.text(query)
    names = library.inspect(connection).get_table_names()
    if table is None and len(names) == 1:
        table = names[0]
    if not isinstance(table, str):
        raise InvalidInputError(
            f"{name}: say which table, with ?table=NAME, or give --query; the tables are "
            f"{', '.join(names) or 'none'}"
        )
    return library.select(library.Table(table, library.MetaData(), autoload_with=connection))


def _plain(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value
