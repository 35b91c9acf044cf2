"""A cache of win rates, in a file of the user's cache folder.

Keyed by the router's identity (name, artifact checksum, embedder; see ``router_identity``) and
the exact prompt. Several processes may use it at once: SQLite makes a writer wait for
another. Its write-ahead log would be faster, but does not work on a network file system, where home
folders often are.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.routers.base import Router
from fastroute.types import Float64Array

_SCHEMA = """
create table if not exists win_rates (
    key blob primary key,
    win_rate real not null
) without rowid
"""


def cache_folder() -> Path:
    """The folder for cached files: FASTROUTE_CACHE, or the platform's folder for caches."""
    chosen = os.environ.get("FASTROUTE_CACHE")
    if chosen:
        return Path(chosen)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fastroute"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData" / "Local")
        return Path(local) / "fastroute" / "cache"
    base = os.environ.get("XDG_CACHE_HOME") or ""
    # The XDG specification says to ignore a relative path.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "fastroute"


def router_identity(router: Router) -> str | None:
    """An identifier of everything that determines a router's win rates, or None if there is none.

    A router that was loaded from an artifact has one, because the checksum covers every number in
    it. A router that was fitted in this process has none, and is not cached.
    """
    if router.provenance.checksum is None:
        return None
    from fastroute import __version__

    embedder = getattr(router, "embedder", None)
    pair = (getattr(router, "strong_model", ""), getattr(router, "weak_model", ""))
    parts = (
        __version__,
        router.name,
        router.provenance.checksum,
        "" if embedder is None else embedder.name,
        *pair,
    )
    return json.dumps(parts)


class WinRateCache:
    """Win rates on disk.

    Args:
        path: the file; by default ``win_rates.sqlite3`` in ``cache_folder()``.

    Raises InvalidInputError if the file can't be opened or is not a cache of win rates.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path) if path is not None else cache_folder() / "win_rates.sqlite3"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(self.path, timeout=30.0)
        except (OSError, sqlite3.Error) as error:
            raise self._unusable(error) from error
        try:
            self._database.execute("pragma synchronous=normal")
            with self._database:
                self._database.execute(_SCHEMA)
        except sqlite3.Error as error:
            self._database.close()
            raise self._unusable(error) from error

    def lookup(self, identity: str, prompts: Sequence[str]) -> Float64Array:
        """Win rates of prompts, float64[n]; NaN where one is not cached."""
        found = np.full(len(prompts), np.nan)
        select = "select win_rate from win_rates where key = ?"
        try:
            for i, key in enumerate(_keys(identity, prompts)):
                row = self._database.execute(select, (key,)).fetchone()
                if row is not None:
                    found[i] = row[0]
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        return found

    def store(self, identity: str, prompts: Sequence[str], win_rates: Float64Array) -> None:
        """Store win rates, float64[n], in one transaction."""
        rows = zip(_keys(identity, prompts), win_rates.tolist(), strict=True)
        try:
            with self._database:
                self._database.executemany("insert or replace into win_rates values (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> WinRateCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unusable(self, error: Exception) -> InvalidInputError:
        return InvalidInputError(
            f"the cache {self.path} can't be used ({error}); delete it, set FASTROUTE_CACHE to "
            "a writable folder, or use no cache (--no-cache)"
        )


def _keys(identity: str, prompts: Sequence[str]) -> list[bytes]:
    start = hashlib.sha256(identity.encode())
    keys = []
    for prompt in prompts:
        digest = start.copy()
        digest.update(b"\0" + prompt.encode("utf-8", "surrogatepass"))
        keys.append(digest.digest()[:16])
    return keys
