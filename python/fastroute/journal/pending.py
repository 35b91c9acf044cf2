"""Notes of calls whose rows are not in the database yet, so that a kill -9 leaves none unbilled.

They are slots of a file that is mapped into memory: what was written to it outlives its process,
and the next one that opens the journal makes rows of it. A call under way has estimated figures.
"""

from __future__ import annotations

import fcntl
import hashlib
import math
import mmap
import os
import struct
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from fastroute.journal.database import insert_new, writing
from fastroute.journal.schema import REQUESTS, SHADOWS

_SLOTS = 4096
#: state, is a shadow, is an estimate, status, time, weight, cost, latency, tokens: input, cached,
#: output; id, path, model, caller.
_SLOT = struct.Struct("<BBBxi4d3i4x16s32s100s64s")
_FREE, _UNDER_WAY, _OVER = range(3)


@dataclass(slots=True)
class Note:
    """What is noted of a call; of one under way its figures are estimates."""

    request_id: str
    time: float
    path: str
    model: str
    caller: str | None
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None
    is_estimate: bool = True
    latency_ms: float = 0.0
    status: int = 0
    #: Of a shadow the inverse of its sampling probability; None for a request.
    weight: float | None = None


class Pending:
    """The notes of this process. Raises OSError if there is no room for them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            raise PermissionError(f"{folder} is another user's")
        self._path = folder / f"{os.getpid()}-{os.urandom(4).hex()}"
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._file, fcntl.LOCK_EX)  # until this process ends, however it does
        try:
            # A write to a mapped page for which the disk has no room would end the process.
            os.posix_fallocate(self._file, 0, _SLOTS * _SLOT.size)
            self._map = mmap.mmap(self._file, _SLOTS * _SLOT.size)
        except BaseException:
            self._path.unlink()
            os.close(self._file)
            raise
        self._free = deque(range(_SLOTS))

    def begin(self, note: Note) -> int | None:
        """Note a call that is sent now; its slot, or None if all are taken."""
        try:
            slot = self._free.pop()  # the last one released, whose page is in the cache
        except IndexError:
            return None
        self._write(slot, _UNDER_WAY, note)
        return slot

    def finish(self, slot: int, note: Note) -> None:
        """Note what the call came to."""
        self._write(slot, _OVER, note)

    def release(self, slot: int) -> None:
        """Forget a call: its row is in the database. Called by other threads, too."""
        self._map[slot * _SLOT.size] = _FREE
        self._free.append(slot)

    def close(self) -> None:
        """Forget all."""
        self._path.unlink(missing_ok=True)
        self._map.close()
        os.close(self._file)

    def _write(self, slot: int, state: int, note: Note) -> None:
        begin = slot * _SLOT.size
        _SLOT.pack_into(
            self._map, begin, _FREE, note.weight is not None, note.is_estimate, note.status,
            note.time, note.weight or 0.0, math.nan if note.cost_usd is None else note.cost_usd,
            note.latency_ms, note.input_tokens, note.cached_tokens, note.output_tokens,
            note.request_id.encode(), note.path.encode(), note.model.encode("utf-8", "replace"),
            (note.caller or "").encode("utf-8", "replace"),
        )  # fmt: skip
        self._map[begin] = state  # last, so that no half of a note is read


def recover(folder: Path, engine: Engine) -> int:
    """Make rows of what ended processes left; returns how many. A row that is there stays."""
    count = 0
    for path in folder.iterdir():
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # another process was quicker
            continue
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            notes = list(_notes(os.read(file, _SLOTS * _SLOT.size)))
            with writing(engine) as connection:
                for table in (REQUESTS, SHADOWS):
                    is_shadow = table is SHADOWS
                    rows = [_row(*n) for n in notes if (n[1].weight is not None) == is_shadow]
                    insert_new(connection, table, rows)
            path.unlink(missing_ok=True)
            count += len(notes)
        except BlockingIOError:  # its process is alive
            continue
        finally:
            os.close(file)
    return count


def pending_folder(url: URL) -> Path:
    """Where the notes of the journal at ``url`` are: beside its file, or, of a server, in the
    folder for temporary files."""
    if url.get_backend_name() == "sqlite":
        return Path(f"{url.database}.pending")
    name = url.render_as_string(hide_password=True).encode()
    digest = hashlib.sha256(name).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"fastroute-{os.geteuid()}-{digest}.pending"


def _notes(raw: bytes) -> Iterator[tuple[int, Note]]:
    for fields in _SLOT.iter_unpack(raw[: len(raw) // _SLOT.size * _SLOT.size]):
        state, is_shadow, is_estimate, status, time, weight, cost, latency, *rest = fields
        full, cached, output, *texts = rest
        if state != _FREE:
            name, path, model, caller = (t.rstrip(b"\0").decode(errors="ignore") for t in texts)
            yield state, Note(
                name, time, path, model, caller or None, full, cached, output,
                None if math.isnan(cost) else cost, bool(is_estimate), latency, status,
                weight if is_shadow else None,
            )  # fmt: skip


def _row(state: int, note: Note) -> dict[str, Any]:
    killed = "killed" if state == _UNDER_WAY else None
    row: dict[str, Any] = {
        "request_id": note.request_id,
        "time": note.time,
        "input_tokens": note.input_tokens,
        "cached_tokens": note.cached_tokens,
        "output_tokens": note.output_tokens,
        "tokens_are_estimates": note.is_estimate,
        "cost_usd": note.cost_usd,
        "latency_ms": note.latency_ms if killed is None else None,
        "error": killed,
    }
    if note.weight is not None:
        return row | {"model": note.model, "weight": note.weight}
    return row | {
        "caller": note.caller,
        "path": note.path,
        "chosen": note.model,
        "answered_by": note.model,
        "status": note.status or None,
    }
