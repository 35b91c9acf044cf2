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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Engine
from sqlalchemy.engine import URL

from fastroute.journal.database import insert_new, writing
from fastroute.journal.schema import REQUESTS, SHADOWS

_SLOTS = 4096
#: id, path, caller, is a shadow, time, weight: what the end of a call does not change.
_CALL = struct.Struct("<16s32s64s?2d")
#: model, tokens (input, cached, output), is an estimate, status, cost, latency; the state is last,
#: so that no half of a note is read.
_FIGURES = struct.Struct("<100s3i?i2dB")
_SLOT = struct.Struct(_CALL.format + _FIGURES.format[1:])
_FREE, _UNDER_WAY, _OVER = range(3)


class Call(NamedTuple):
    """A call; ``weight`` is the inverse of a shadow's sampling probability, None for a request."""

    request_id: str
    path: str
    caller: str | None
    time: float
    weight: float | None = None


class Figures(NamedTuple):
    """What a call came to; of one under way, estimates."""

    model: str
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    is_estimate: bool = True
    status: int = 0
    cost_usd: float | None = None
    latency_ms: float = 0.0


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

    def begin(self, call: Call, figures: Figures) -> int | None:
        """Note a call that is sent now; its slot, or None if all are taken."""
        try:
            slot = self._free.pop()  # the last one released, whose page is in the cache
        except IndexError:
            return None
        request_id, path, caller, time, weight = call
        _SLOT.pack_into(
            self._map, slot * _SLOT.size, request_id.encode(), path.encode(),
            (caller or "").encode("utf-8", "replace"), weight is not None, time, weight or 0.0,
            *_packed(figures), _UNDER_WAY,
        )  # fmt: skip
        return slot

    def finish(self, slot: int, figures: Figures) -> None:
        """Note what the call came to."""
        _FIGURES.pack_into(self._map, slot * _SLOT.size + _CALL.size, *_packed(figures), _OVER)

    def release(self, slots: Sequence[int]) -> None:
        """Forget calls: their rows are in the database. Called by other threads, too."""
        for slot in slots:
            self._map[(slot + 1) * _SLOT.size - 1] = _FREE
        self._free.extend(slots)

    def close(self) -> None:
        """Forget all."""
        self._path.unlink(missing_ok=True)
        self._map.close()
        os.close(self._file)


def _packed(figures: Figures) -> tuple[object, ...]:
    model, full, cached, output, is_estimate, status, cost, latency = figures
    name = model.encode("utf-8", "replace")
    return (
        name,
        full,
        cached,
        output,
        is_estimate,
        status,
        math.nan if cost is None else cost,
        latency,
    )


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


def _notes(raw: bytes) -> Iterator[tuple[int, Call, Figures]]:
    for fields in _SLOT.iter_unpack(raw[: len(raw) // _SLOT.size * _SLOT.size]):
        *texts, is_shadow, time, weight, model, full, cached, output, is_estimate, status, cost, \
            latency, state = fields  # fmt: skip
        if state != _FREE:
            name, path, caller, model = (
                text.rstrip(b"\0").decode(errors="ignore") for text in (*texts, model)
            )
            yield (
                state,
                Call(name, path, caller or None, time, weight if is_shadow else None),
                Figures(
                    model, full, cached, output, is_estimate, status,
                    None if math.isnan(cost) else cost, latency,
                ),
            )  # fmt: skip


def _row(state: int, call: Call, figures: Figures) -> dict[str, Any]:
    killed = "killed" if state == _UNDER_WAY else None
    row: dict[str, Any] = {
        "request_id": call.request_id,
        "time": call.time,
        "input_tokens": figures.input_tokens,
        "cached_tokens": figures.cached_tokens,
        "output_tokens": figures.output_tokens,
        "tokens_are_estimates": figures.is_estimate,
        "cost_usd": figures.cost_usd,
        "latency_ms": figures.latency_ms if killed is None else None,
        "error": killed,
    }
    if call.weight is not None:
        return row | {"model": figures.model, "weight": call.weight}
    return row | {
        "caller": call.caller,
        "path": call.path,
        "chosen": figures.model,
        "answered_by": figures.model,
        "status": figures.status or None,
    }
