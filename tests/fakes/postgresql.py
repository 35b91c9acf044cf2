"""A PostgreSQL server in a temporary folder, on a free port."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from fakes.ports import free_port

_USER = "postgres"


def _program(name: str) -> str:
    """Where ``name`` is. Skips the test that asks if PostgreSQL is not installed."""
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    found = shutil.which(name) or (str(places[-1]) if places else None)
    if found is None:
        pytest.skip(f"PostgreSQL's {name} is not installed")
    return found


def _run(*words: str) -> None:
    """As another user than root, whom PostgreSQL refuses."""
    if os.geteuid() == 0:
        words = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups", *words)
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, cwd="/")


class PostgreSQL:
    """A running server."""

    def __init__(self, folder: Path) -> None:
        self.port = 0
        self._folder = folder
        self._databases = 0

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c fsync=off "
            f"-c unix_socket_directories={self._folder} -c max_connections=40"
        )
        log = self._folder / "log"
        command = ("start", "-w", "-t", "120", "-D", self._data, "-o", settings, "-l", str(log))
        try:
            _run(_program("pg_ctl"), *command)
        except subprocess.CalledProcessError as error:
            said = log.read_text() if log.exists() else "nothing"
            raise AssertionError(f"the server did not start: {said}") from error

    def start_on_a_free_port(self) -> None:
        """``start``, on another port if the one chosen is taken meanwhile."""
        for attempt in range(5):
            self.port = free_port()
            try:
                self.start()
            except AssertionError as error:
                if attempt == 4 or "Address already in use" not in str(error):
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop it at once: connections are closed."""
        _run(_program("pg_ctl"), "stop", "-w", "-D", self._data, "-m", "immediate")

    def database(self) -> str:
        """The URL of a new, empty database."""
        self._databases += 1
        name = f"journal{self._databases}"
        _run(_program("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", _USER, name)
        return f"postgresql://{_USER}@127.0.0.1:{self.port}/{name}"

    @property
    def _data(self) -> str:
        return str(self._folder / "data")


@contextmanager
def start() -> Iterator[PostgreSQL]:
    """A running server; skips the test where PostgreSQL is not installed."""
    initdb = _program("initdb")
    with TemporaryDirectory(prefix="fastroute-postgresql-", dir="/tmp") as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, _USER, _USER)
        server = PostgreSQL(folder)
        _run(initdb, "-D", str(folder / "data"), "-U", _USER, "-A", "trust", "--no-sync")
        server.start_on_a_free_port()
        try:
            yield server
        finally:
            with suppress(subprocess.CalledProcessError):  # the test has stopped it
                server.stop()
