"""An append-only file of answers that were paid for.

A line is 16 hex digits, a space, a JSON object and a line feed; the digits begin the SHA-256 of the
JSON. Each line is on the disk (fsync) before ``add`` returns, so that a killed process loses at
most the answers that it had not yet received. What a crash left of a last line is cut off at the
next opening; a line that was altered is passed over and counted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fastroute._files import sync_folder
from fastroute.errors import InvalidInputError

_DIGITS = 16


class Journal:
    """Records by key, kept in a file that only one process has open at a time.

    Args:
        path: the file; it is made if it is missing.

    Raises InvalidInputError if it can't be opened, is no journal, or is in use.

    Attributes:
        path: the file.
        torn_bytes: length of the unfinished last line that was cut off.
        damaged: how many lines were passed over because their digits don't fit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.torn_bytes = 0
        self.damaged = 0
        self._records: dict[str, dict[str, Any]] = {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise InvalidInputError(f"journal {self.path} can't be opened: {error}") from error
        try:
            self._open()
        except BaseException:
            os.close(self._file)
            raise

    def _open(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InvalidInputError(
                f"journal {self.path} is in use by another process; wait for its end, or give "
                "another file"
            ) from error
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise InvalidInputError(f"journal {self.path} can't be read: {error}") from error
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.split(b"\n")[:-1]:
            record = _read(line)
            if record is None:
                self.damaged += 1
            else:
                self._records[record["key"]] = record
        if whole and not self._records:
            raise InvalidInputError(
                f"journal {self.path} holds no line of a journal; give another file"
            )
        self.torn_bytes = len(content) - len(whole)
        if self.torn_bytes and not whole and not _begins_a_line(content):
            raise InvalidInputError(f"journal {self.path} is another kind of file; give another")
        self._end = len(whole)
        os.ftruncate(self._file, self._end)
        sync_folder(self.path.parent)  # a new file is lost with its folder's entry

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def get(self, key: str) -> dict[str, Any] | None:
        """The record of ``key``, or None."""
        return self._records.get(key)

    def text(self, key: str) -> str | None:
        """The text of the answer under ``key``, or None."""
        record = self.get(key)
        return None if record is None else str(record["text"])

    def add(self, key: str, record: dict[str, Any]) -> None:
        """Write ``record``, plain JSON, under ``key``; it is on the disk when this returns.

        Raises InvalidInputError if it can't be written; the file is then as it was before.
        """
        whole = {"key": key, **record}
        text = json.dumps(whole, separators=(",", ":")).encode()
        line = _digits(text) + b" " + text + b"\n"
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self._end + written)
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._end)
            raise InvalidInputError(
                f"journal {self.path} can't be written: {error.strerror}; answers received from "
                "now on would be lost, so nothing more is asked"
            ) from error
        self._end += len(line)
        self._records[key] = whole

    def close(self) -> None:
        """Close the file; another process may then open it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _digits(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


def _begins_a_line(content: bytes) -> bool:
    head = content[: _DIGITS + 1]
    return all(c in b"0123456789abcdef" for c in head[:_DIGITS]) and head[_DIGITS:] in (b"", b" ")


def _read(line: bytes) -> dict[str, Any] | None:
    digits, space, text = line[:_DIGITS], line[_DIGITS : _DIGITS + 1], line[_DIGITS + 1 :]
    if space != b" " or digits != _digits(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None
