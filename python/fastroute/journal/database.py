"""Opens a journal: SQLite in a file, or PostgreSQL, migrated to the schema of this version."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from fastroute._extras import needed_for
from fastroute._files import lock
from fastroute.errors import InvalidInputError, JournalError

with needed_for("a journal"):
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory
    from sqlalchemy import Connection, Dialect, Engine, Insert, Table, create_engine, event, text
    from sqlalchemy.dialects import postgresql, sqlite
    from sqlalchemy.engine import URL, make_url
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

#: Seconds to wait for another process's transaction, and for a server.
_PATIENCE_S = 5
#: Any number that other programs are not likely to take for theirs.
_ADVISORY_LOCK = 0x66617374
_DRIVERS = {
    "sqlite": "sqlite",
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
}


def journal_url(text: str, *, folder: Path | None = None, password: str | None = None) -> URL:
    """The address of a journal: ``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``.

    The file is relative to ``folder``. Raises InvalidInputError; no message has the password.
    """
    try:
        url = make_url(text)
    except ArgumentError:
        # Only what can't hold a password is shown.
        found = (
            "the journal's URL can't be read" if "@" in text else f"{text!r} is not a journal's URL"
        )
        file = "FILE" if ":" in text or "@" in text else text
        raise InvalidInputError(
            f"{found}; write sqlite:///{file} or postgresql://USER@HOST/DATABASE"
        ) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise InvalidInputError(
            f"the journal's URL begins with {url.drivername!r}; known: sqlite, postgresql"
        )
    url = url.set(drivername=driver)
    if driver == "sqlite":
        if url.database in (None, "", ":memory:"):
            raise InvalidInputError("the journal's URL names no file; write sqlite:///FILE")
        path = (folder or Path()) / Path(str(url.database)).expanduser()
        return url.set(database=str(path))
    return url if password is None else url.set(password=password)


def open_journal(url: str | URL, *, password: str | None = None, create: bool = True) -> Engine:
    """The database at ``url``, with the tables of this version.

    An older schema is migrated under a lock, so that several processes may call this at once.
    ``create=False`` refuses a database that has no journal. Raises InvalidInputError for a URL that
    can't be used, JournalError for a database that can't be reached, or whose schema is newer.
    """
    if isinstance(url, str):
        url = journal_url(url, password=password)
    shown = url.render_as_string(hide_password=True)
    is_file = url.get_backend_name() == "sqlite"
    if is_file and not create and not Path(str(url.database)).exists():
        raise JournalError(f"there is no journal {shown}; a gateway with [journal] makes one")
    engine = _engine(url)
    try:
        with _locked(engine):
            _migrate(engine, shown, create=create)
            if is_file:  # only now: another program's database is left as it is
                _use_wal(engine)
    except (SQLAlchemyError, OSError) as error:
        engine.dispose()
        raise JournalError(f"the journal {shown} can't be opened: {reason(error)}") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def reason(error: Exception) -> str:
    """What went wrong in a database, in one line without statements or parameters."""
    shown = str(getattr(error, "orig", None) or error)
    return " ".join(shown.split())[:300]


def _engine(url: URL) -> Engine:
    if url.get_backend_name() != "sqlite":
        with needed_for("a journal in PostgreSQL"):
            return create_engine(
                url,
                paramstyle="format",
                pool_pre_ping=True,
                connect_args={"connect_timeout": _PATIENCE_S},
                hide_parameters=True,
            )
    engine = create_engine(url, connect_args={"timeout": _PATIENCE_S}, hide_parameters=True)

    # SQLAlchemy's recipe for transactions that SQLite's driver doesn't begin and end by itself.
    @event.listens_for(engine, "connect")
    def _connected(connection: Any, _: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        # In WAL a commit that a loss of power undoes corrupts nothing.
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA secure_delete=ON")  # a prompt that is erased is overwritten
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(engine: Engine) -> None:
    connection = engine.raw_connection()  # it can't be changed within a transaction
    try:
        connection.cursor().execute("PRAGMA journal_mode=WAL").close()
    finally:
        connection.close()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: in SQLite it waits for other writers before it reads."""
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        yield connection


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those of ``rows`` that are not there yet."""
    if rows:
        connection.execute(insert_statement(table, connection.dialect), rows)


def insert_statement(table: Table, dialect: Dialect) -> Insert:
    """An INSERT that leaves rows alone that are there already."""
    make = sqlite.insert if dialect.name == "sqlite" else postgresql.insert
    return make(table).on_conflict_do_nothing()


@contextmanager
def _locked(engine: Engine) -> Iterator[None]:
    """Only one process at a time is in here, for one journal."""
    if engine.dialect.name == "sqlite":
        path = Path(str(engine.url.database))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o600)  # SQLite's other files get the same permissions
        with lock(path.parent):
            yield
        return
    with engine.connect() as connection:
        connection.execute(text(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})"))
        try:
            yield
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock({_ADVISORY_LOCK})"))
            connection.commit()


def _migrate(engine: Engine, shown: str, *, create: bool) -> None:
    config = Config()
    folder = str(files("fastroute.journal").joinpath("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    with writing(engine) as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
        if revision == scripts.get_current_head():
            return
        if revision is None and not create:
            raise JournalError(f"the database {shown} has no journal")
        if revision is not None and revision not in {s.revision for s in scripts.walk_revisions()}:
            raise JournalError(
                f"the journal {shown} has schema {revision[:40]}, which is newer than this version "
                f"of fastroute, whose is {scripts.get_current_head()}: upgrade fastroute, or give "
                "another URL"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
