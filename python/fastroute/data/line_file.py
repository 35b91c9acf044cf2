"""A file of lines that one process adds to, each on the disk before the next."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from fastroute._files import os_errors_as, sync_folder
from fastroute.errors import InvalidInputError


class LineFile:
    """Whole lines, added at the end; only one process has the file open at a time.

    Args:
        path: the file; it is made if it is missing.

    Raises InvalidInputError if it can't be opened or is in use.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)  #: the file
        with os_errors_as(InvalidInputError, f"{self.path} can't be opened"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = self.path.read_bytes()
            sync_folder(self.path.parent)  # a new file is lost with its folder's entry
        except BlockingIOError as error:
            self.close()
            raise InvalidInputError(
                f"{self.path} is in use by another process; wait until it ends, or give another "
                "file"
            ) from error
        except OSError as error:
            self.close()
            raise InvalidInputError(f"{self.path} can't be read: {error.strerror}") from error
        self.end = content.rfind(b"\n") + 1  #: the length of the whole lines
        #: torn: what a crash left of a last line; ``cut(end)`` removes it, before anything is
        #: added.
        #: content: its whole lines when it was opened.
        self.content, self.torn = content[: self.end], content[self.end :]

    def cut(self, end: int) -> None:
        """Remove what follows the first ``end`` bytes; raises OSError."""
        os.ftruncate(self._file, end)
        os.fsync(self._file)
        self.end = end

    def append(self, line: bytes) -> None:
        """Add a line, given with its line feed. Raises OSError; the file is then as before."""
        try:
            written = 0
            while written < len(line):
                written += os.pwrite(self._file, line[written:], self.end + written)
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self.end)
            raise
        self.end += len(line)

    def close(self) -> None:
        """Close the file; another process may then open it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
