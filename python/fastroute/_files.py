"""Files and folders that appear whole or not at all, whatever interrupts their writer."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def os_errors_as(kind: type[Exception], what: str) -> Iterator[None]:
    """Inside, an OSError is raised as ``kind``: ``what`` can't be done, and the system's reason."""
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power failure. Raises OSError."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_files(folder: Path) -> None:
    """Make the files of ``folder`` and of folders in it survive a power failure. Raises OSError."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


@contextmanager
def lock(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the folder for one saver: others wait. It ends with the process, and leaves no file.

    Raises OSError; BlockingIOError where another holds it and this one is not to ``wait``.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all; raises OSError."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, which then replaces it; not if anything is raised.

    A file that is replaced keeps its mode; a new one gets 0644. Raises OSError.
    """
    with _temporary(path.parent, f".{path.name}.") as temporary:
        mode = path.stat().st_mode & 0o777 if path.is_file() else 0o644
        yield temporary
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """An empty folder inside ``parent``, which is removed at the end. Raises OSError."""
    with _temporary(parent, ".scratch.", folder=True) as temporary:
        yield temporary


@contextmanager
def _temporary(parent: Path, prefix: str, *, folder: bool = False) -> Iterator[Path]:
    """A temporary file or folder, removed at the end, as are those of processes that were killed.

    A process holds a lock on each of its own for as long as it uses it.
    """
    while True:
        for left in parent.glob(glob.escape(prefix) + "?" * 8):
            with suppress(OSError):
                handle = _lock_if_free(left)
                _remove(left)
                os.close(handle)
        if folder:
            temporary = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        else:
            made, name = tempfile.mkstemp(dir=parent, prefix=prefix)
            os.close(made)
            temporary = Path(name)
        try:
            handle = _lock_if_free(temporary)
        except OSError:  # another process took it for one that was left, and removes it
            continue
        if temporary.exists():
            break
        os.close(handle)
    try:
        yield temporary
    finally:
        _remove(temporary)
        os.close(handle)


def _lock_if_free(path: Path) -> int:
    """A handle that holds the lock on ``path``; raises OSError if another process has it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
