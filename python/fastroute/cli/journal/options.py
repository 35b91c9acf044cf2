"""What the commands of a journal share: its URL, and a span of time."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fastroute.cli.options import add_option
from fastroute.errors import JournalError
from fastroute.journal import PASSWORD_VARIABLE

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine


def add_url(parser: argparse.ArgumentParser, name: str = "url") -> None:
    """Add the journal's URL, as an optional argument or the option ``name``."""
    optional: dict[str, Any] = {} if name.startswith("-") else {"nargs": "?"}
    add_option(parser, f"{name} URL", default="sqlite:///journal.db", **optional,
        help="sqlite:///FILE or postgresql://USER@HOST/DATABASE, whose password is read from "
        f"{PASSWORD_VARIABLE} (default: sqlite:///journal.db)")  # fmt: skip


def add_span(parser: argparse.ArgumentParser) -> None:
    """Add the span of time of the requests."""
    for name in ("since", "until"):
        add_option(parser, f"--{name} TIME", type=moment,
            help=f"requests {'from' if name == 'since' else 'before'} this date (2026-11-28, or "
            "with a time, in UTC), or this many days ago (7d)")  # fmt: skip


def span(options: argparse.Namespace) -> tuple[float, float]:
    """The seconds that ``add_span`` read."""
    since, until = options.since, options.until
    return 0.0 if since is None else since, 1e18 if until is None else until


def moment(value: str) -> float:
    """Seconds since the Unix epoch of a date, or of so many days ago."""
    try:
        if value.endswith("d"):
            return datetime.now(UTC).timestamp() - float(value[:-1]) * 86400
        found = datetime.fromisoformat(value)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{value!r} is not a date such as 2026-11-28, or days such as 7d"
        ) from error


@contextmanager
def opened(url: str) -> Iterator[Engine]:
    """The journal at ``url``. Raises JournalError if there is none, or it fails."""
    from sqlalchemy.exc import SQLAlchemyError

    from fastroute.journal.database import open_journal, reason

    engine = open_journal(url, password=os.environ.get(PASSWORD_VARIABLE), create=False)
    try:
        yield engine
    except SQLAlchemyError as error:
        raise JournalError(f"the journal failed: {reason(error)}") from error
    finally:
        engine.dispose()


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """A connection that reads the journal at ``url``."""
    with opened(url) as engine, engine.connect() as connection:
        yield connection


def date(seconds: float | None) -> str:
    """A moment, to the second; "-" for none."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
