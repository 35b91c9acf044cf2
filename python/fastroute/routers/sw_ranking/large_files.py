"""Files of an artifact that are too large to read at every start: they are memory-mapped.

A file's name has the start of its SHA-256, so that a save over an older artifact changes no file
that the older manifest names: until the new manifest is in place the folder holds the old artifact,
and then the new one. The manifest's entry of each file::

    {"file": "rows-0123456789ab.npy", "bytes": ..., "sha256": ..., "sample_sha256": ...}

``sample_sha256`` is of its first and last MiB and of blocks between, and of all of a small file:
it is checked at every start.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.artifacts import check_regular
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactTruncatedError,
)
from fastroute.routers.sw_ranking.neighbors import NeighborIndex

_BYTES_AT_ONCE = 1 << 22
_WHOLE_UP_TO = 1 << 22
_END = 1 << 20
_BLOCK, _BLOCKS = 1 << 12, 256
_NONE: Mapping[str, Any] = {}
_POPULATE_READ = 22  # MADV_POPULATE_READ, Linux 5.14
_MAPPED_AT_ONCE = 1 << 26  # bytes
#: Fewer pages in a row are left to page faults, which map so many each.
_FEWEST_PAGES = 16


def write_all_large(folder: Path, contents: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Write files by name as ``write_large`` does; if one fails, remove those already written."""
    before = {path.name for path in folder.iterdir()}
    stated: dict[str, dict[str, Any]] = {}
    try:
        for name, content in contents.items():
            stated[name] = write_large(folder, name, content, stated)
    except BaseException:
        for facts in stated.values():
            if facts["file"] not in before:
                (folder / facts["file"]).unlink(missing_ok=True)
        raise
    return stated


def write_large(
    folder: Path, name: str, content: Any, before: Mapping[str, Any] = _NONE
) -> dict[str, Any]:
    """Write an array or an index into ``folder`` and return its entry in the manifest.

    ``name`` is such as "rows.npy". A path is a file of the same file system that is linked here; a
    function writes a file itself, and is given the entries of those ``before`` it. No existing
    file is changed, since other processes may have it mapped. Raises OSError.
    """
    handle, temporary_name = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
    os.close(handle)
    temporary = Path(temporary_name)
    try:
        if isinstance(content, NeighborIndex):
            content.save(temporary)
        elif isinstance(content, Path):
            _link(content, temporary)
        elif callable(content):
            content(temporary, before)
        else:
            with temporary.open("wb") as file:
                np.save(file, content, allow_pickle=False)
        sha256 = _sha256(temporary)
        stem, suffix = name.split(".")
        stated = {
            "file": f"{stem}-{sha256[:12]}.{suffix}",
            "bytes": temporary.stat().st_size,
            "sha256": sha256,
            "sample_sha256": _sample_sha256(temporary),
        }
        temporary.chmod(0o644)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(folder / str(stated["file"]))
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return stated


def _link(path: Path, to: Path) -> None:
    """Give a file a second name, in place of the file ``to``; a copy where that can't be."""
    to.unlink()
    try:
        os.link(path, to)
    except OSError:
        shutil.copyfile(path, to)


def remove_others(folder: Path, names: Collection[str], kept: Collection[str]) -> None:
    """Remove files called ``names`` of earlier and interrupted saves, but not those ``kept``."""
    stems = "|".join(re.escape(name.split(".")[0]) for name in names)
    ends = "|".join(sorted({name.split(".")[1] for name in names}))
    ours = re.compile(
        rf"({stems})(-[0-9a-f]{{12}})?\.({ends})|\.({stems})\.({ends})\.[a-z0-9_]{{8}}"
    )
    for path in folder.iterdir():
        if ours.fullmatch(path.name) and path.name not in kept:
            with contextlib.suppress(OSError):  # in use (Windows): the next save removes it
                path.unlink()


def check_large(folder: Path, name: str, stated: Any, *, verify: bool) -> Path:
    """The path of a file that is as the manifest states; ``verify`` reads all of it.

    Raises ArtifactError and its subclasses.
    """
    stem, suffix = name.split(".")
    entry = stated if isinstance(stated, dict) else {}
    # The first artifacts had no SHA-256 in names and no "file" in the manifest.
    file, length = entry.get("file", name), entry.get("bytes")
    sha256, sample = entry.get("sha256"), entry.get("sample_sha256")
    if not (
        isinstance(file, str)
        and re.fullmatch(rf"{re.escape(stem)}(-[0-9a-f]{{12}})?\.{suffix}", file)
        and isinstance(length, int)
        and isinstance(sha256, str)
        and (sample is None or isinstance(sample, str))
    ):
        raise ArtifactError(
            f"{folder} has an invalid entry of {name} in its manifest, {stated!r}; "
            "download or export it again"
        )
    path = folder / file
    try:
        found = check_regular(path)
        if found != length:
            raise ArtifactTruncatedError(
                f"{path} has {found} bytes where its manifest says {length}: it was truncated or "
                "replaced; download or export it again"
            )
        # FAISS trusts the size that an index states, and may allocate all memory for it.
        whole = verify or (sample is None and suffix == "faiss")
        if (whole and _sha256(path) != sha256) or (
            sample is not None and _sample_sha256(path) != sample
        ):
            raise ArtifactChecksumError(
                f"{path} was altered: its SHA-256 is not the one in its manifest; "
                "download or export it again"
            )
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(
            f"{path} is missing, so {folder} is not a complete fastroute artifact; "
            "download or export it again or give the path of another"
        ) from error
    except OSError as error:
        raise ArtifactError(f"{path} can't be read: {error.strerror}") from error
    return path


def map_cached(path: Path, mapped: npt.NDArray[Any]) -> None:
    """Map those pages of a file that the system has in memory; ``mapped`` is a view of the file.

    It reads nothing from the disk. Without it a query has a page fault for nearly every battle that
    it reads, until all pages were asked for once. Does nothing where the system can't.
    """
    # Linux says what is in memory to those only who own the file or may change it; to others it
    # says that all of it is.
    if sys.platform != "linux" or not (
        path.stat().st_uid == os.geteuid() or os.access(path, os.W_OK)
    ):
        return
    system, page = ctypes.CDLL(None), os.sysconf("SC_PAGE_SIZE")
    begin, end = mapped.ctypes.data, mapped.ctypes.data + mapped.nbytes
    for first in range(begin - begin % page, end, _MAPPED_AT_ONCE):
        size = min(_MAPPED_AT_ONCE, end - first)
        cached = np.zeros(-(-size // page) + 2, np.uint8)
        address = ctypes.c_void_p(cached.ctypes.data + 1)
        if system.mincore(ctypes.c_void_p(first), ctypes.c_size_t(size), address):
            return
        ends = np.flatnonzero(np.diff(cached & 1)).reshape(-1, 2)
        for a, b in ends[np.diff(ends)[:, 0] >= _FEWEST_PAGES].tolist():
            run = ctypes.c_void_p(first + a * page), ctypes.c_size_t((b - a) * page)
            if system.madvise(*run, _POPULATE_READ):
                return


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_BYTES_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()


def _sample_sha256(path: Path) -> str:
    length = path.stat().st_size
    if length <= _WHOLE_UP_TO:
        return _sha256(path)
    digest = hashlib.sha256()
    between = np.linspace(_END, length - _END - _BLOCK, _BLOCKS).astype(np.int64).tolist()
    with path.open("rb") as file:
        for first, count in ((0, _END), *((at, _BLOCK) for at in between), (length - _END, _END)):
            file.seek(first)
            digest.update(file.read(count))
    return digest.hexdigest()
