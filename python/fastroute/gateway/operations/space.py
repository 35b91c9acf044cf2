"""Room for the files in which workers share their counts.

prometheus_client maps them into memory: a page of them for which the disk has no room would end the
process by SIGBUS. So the room is taken before they are used. A file that is full is made twice as
long by the library; it has been made that long before, by us.
"""

from __future__ import annotations

import os
import struct
import tempfile
from pathlib import Path

#: The variable by which prometheus_client is told the folder of the files.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_FILE_BYTES = 4 * 2**20
#: What one more label may need: a histogram has 22 lines of a few hundred bytes.
_LABEL_BYTES = 64 * 1024


def has_room(folder: str) -> bool:
    """Whether there is room for the files of one more worker."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            _allocate(file.fileno(), _FILE_BYTES)
    except OSError:
        return False
    return True


def take_room(folder: str) -> None:
    """Take the room of the files that this process has made there, and of one more label in each.

    Raises OSError if there is none; the files can then be used as they are, without a new label.
    """
    for path in Path(folder).glob(f"*_{os.getpid()}.db"):
        with path.open("rb+") as file:
            size = path.stat().st_size
            # They begin with how much of them is used.
            (used,) = struct.unpack("i", file.read(4))
            _allocate(file.fileno(), size if used + _LABEL_BYTES <= size else 2 * size)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # macOS has none
        os.posix_fallocate(descriptor, 0, size)
