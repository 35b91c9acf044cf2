"""Room for the files in which workers share their counts.

prometheus_client maps them into memory: a page of them for which the disk has no room would end the
process by SIGBUS. So the room is taken before they are used.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

#: The variable by which prometheus_client is told the folder of the files.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_FILE_BYTES = 4 * 2**20


def has_room(folder: str) -> bool:
    """Whether there is room for the files of one more worker."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _allocate(file.fileno(), _FILE_BYTES)
    except OSError:
        return False
    return True


def take_room(folder: str) -> None:
    """Take the room of the files that this process has made there. Raises OSError."""
    for path in Path(folder).glob(f"*_{os.getpid()}.db"):
        with path.open("rb+") as file:
            _allocate(file.fileno(), path.stat().st_size)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(descriptor, 0, size)
