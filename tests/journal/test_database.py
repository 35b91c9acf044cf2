"""Opening a journal: its tables, its migrations, and what it refuses."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, inspect, select, text

from fastroute.errors import InvalidInputError, JournalError
from fastroute.journal.database import journal_url, open_journal, writing
from fastroute.journal.schema import METADATA, REQUESTS


def test_the_migrations_make_the_schema(url: str) -> None:
    engine = open_journal(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()


def test_a_row_comes_back_as_it_went(url: str) -> None:
    engine = open_journal(url)
    row = {
        "request_id": "00ff", "time": 1764324000.123456, "path": "/chat/completions",
        "candidates": ["strong", "weak"], "scores": {"strong": 0.9, "weak": 0.25},
        "chosen": "weak", "propensity": 0.95, "explored": False, "cost_usd": 1.25e-7,
        "prompt": "naïve ☃ 🦜",
    }  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(REQUESTS), [row])
    engine.dispose()
    engine = open_journal(url, create=False)
    with engine.connect() as connection:
        found = connection.execute(select(REQUESTS)).mappings().one()
    assert {name: found[name] for name in row} == row
    assert found["scores"] is not None
    assert found["answer"] is None
    engine.dispose()


def test_processes_that_open_at_once_migrate_once(url: str) -> None:
    code = (
        "import sys; from fastroute.journal.database import open_journal; "
        "open_journal(sys.argv[1]).dispose()"
    )
    running = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", code, url], stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [(p.communicate(timeout=60)[1], p.returncode) for p in running] == [(b"", 0)] * 4


def test_a_newer_schema_is_refused(url: str) -> None:
    engine = open_journal(url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(
        JournalError, match=r"has schema 9999, which is newer .*: upgrade fastroute"
    ):
        open_journal(url)


def test_a_migration_that_fails_changes_nothing(url: str) -> None:
    engine = open_journal(url)
    with writing(engine) as connection:
        connection.execute(text("DROP TABLE prices"))
        connection.execute(text("DELETE FROM alembic_version"))
    with pytest.raises(JournalError, match=r"can't be opened: .*already exists"):
        open_journal(url)
    assert "prices" not in inspect(engine).get_table_names()
    engine.dispose()


def test_nothing_is_created_unasked(url: str, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"there is no journal|has no journal"):
        open_journal(url, create=False)
    assert list(tmp_path.glob("journal.db*")) == []


@pytest.mark.parametrize("is_database", [False, True])
def test_another_file_is_left_as_it_is(is_database: bool, tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("no database")
    if is_database:
        file.unlink()
        with closing(sqlite3.connect(file)) as other:
            other.execute("CREATE TABLE notes (text)")
    before = file.read_bytes()
    with pytest.raises(JournalError, match="has no journal" if is_database else "not a database"):
        open_journal(f"sqlite:///{file}", create=False)
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_bytes() == before


def test_a_server_that_is_away_is_named_without_the_password() -> None:
    with pytest.raises(JournalError, match=r"u:\*\*\*@127.0.0.1:1/db can't be opened: ") as raised:
        open_journal("postgresql://u@127.0.0.1:1/db", password="s3cret")
    assert "s3cret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("journal.db", "'journal.db' is not a journal's URL; write sqlite:///journal.db or"),
        ("mysql://host/db", "begins with 'mysql'; known: sqlite, postgresql"),
        ("sqlite://", "names no file"),
        ("postgresql//u:secret@bad/db", "can't be read"),
    ],
)
def test_other_urls_are_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as raised:
        journal_url(url)
    assert "secret" not in str(raised.value)


def test_a_file_is_relative_to_its_folder(tmp_path: Path) -> None:
    assert journal_url("sqlite:///a.db", folder=tmp_path).database == f"{tmp_path}/a.db"
    assert journal_url("sqlite:////b/a.db", folder=tmp_path).database == "/b/a.db"
