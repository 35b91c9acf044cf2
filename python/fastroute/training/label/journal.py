"""An append-only file of answers that were paid for.

A line is 16 hex digits, a space, a JSON object and a line feed; the digits begin the SHA-256 of the
JSON. Each line is on the disk (fsync) before ``add`` returns, so that a killed process loses at
most the answers that it had not yet received. What a crash left of a last line is removed at the
next opening; a line that was altered is passed over and counted.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from fastroute.data.line_file import LineFile
from fastroute.errors import InvalidInputError

_DIGITS = 16


class Journal(LineFile):
    """Records by key, kept in a file that only one process has open at a time.

    Args:
        path: the file; it is made if it is missing.

    Raises InvalidInputError if it can't be opened, is no journal, or is in use.

    Attributes:
        damaged: how many lines were passed over because their digits don't fit.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._records: dict[str, dict[str, Any]] = {}
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        lines = self.content.split(b"\n")[:-1]
        records = [record for record in map(_record_of, lines) if record is not None]
        self.damaged = len(lines) - len(records)
        self._records |= {record["key"]: record for record in records}
        if lines and not self._records:
            raise InvalidInputError(
                f"journal {self.path} is not a journal of answers; give another file"
            )
        if self.torn and not lines and not _begins_a_line(self.torn):
            raise InvalidInputError(
                f"journal {self.path} is not a journal of answers; give another file"
            )
        self.cut(self.end)

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
        try:
            self.append(_digits(text) + b" " + text + b"\n")
        except OSError as error:
            raise InvalidInputError(
                f"journal {self.path} can't be written: {error.strerror}; answers received from "
                "now on would be lost, so nothing more is asked"
            ) from error
        self._records[key] = whole


def _digits(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_DIGITS].encode()


def _begins_a_line(content: bytes) -> bool:
    head = content[: _DIGITS + 1]
    return all(c in b"0123456789abcdef" for c in head[:_DIGITS]) and head[_DIGITS:] in (b"", b" ")


def _record_of(line: bytes) -> dict[str, Any] | None:
    digits, space, text = line[:_DIGITS], line[_DIGITS : _DIGITS + 1], line[_DIGITS + 1 :]
    if space != b" " or digits != _digits(text):
        return None
    record = json.loads(text)
    return record if isinstance(record, dict) and isinstance(record.get("key"), str) else None
