"""Saved routers and embedders: a folder of arrays and JSON, versioned and checksummed.

Layout of an artifact folder::

    artifact.json        format, schema_version, kind, config, for each other file its length in
                         bytes and its SHA-256, optionally the provenance, and the SHA-256 of all
                         that (manifest_sha256)
    arrays.safetensors   the arrays by name
    ...                  further files that the kind needs, such as tokenizer.json

No file is ever unpickled or executed. ``load_artifact`` verifies every file before it is used,
and its errors say which file is missing, truncated, altered, or newer than this fastroute.

A save replaces an artifact atomically. It writes each new file as ``NAME.new-SHA256``, replaces the
manifest, which commits the save, and renames the new files to their names. A process that is killed
between the last two steps leaves files called ``NAME.new-SHA256``: loading reads them, and the next
save renames or removes them. Savers of one folder wait for each other; loading never waits, and
starts again if the manifest has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from fastroute._files import lock, os_errors_as, sync_folder, write_whole
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactTruncatedError,
    ArtifactVersionError,
    FastRouteError,
    InvalidInputError,
    InvalidTypeError,
)
from fastroute.provenance import Provenance

__all__ = [
    "Artifact",
    "load_artifact",
    "prompt_hash",
    "save_artifact",
    "save_provenance",
]

FORMAT = "fastroute-artifact"
SCHEMA_VERSION = 1
MANIFEST = "artifact.json"
ARRAYS = "arrays.safetensors"

Array = npt.NDArray[Any]
T = TypeVar("T")

#: How often a load starts again because another process has saved to the folder in between.
_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Artifact:
    """A verified artifact in memory.

    Attributes:
        path: the folder that it was read from.
        kind: what it is, for example ``"mf"`` or ``"static_embedder"``.
        config: the JSON that its writer stored with it.
        arrays: its arrays by name.
        files: contents of its further files by name.
        checksum: SHA-256 of the manifest, which has those of all other files; 64 hex digits.
        provenance: what it records of a router, with this checksum.
    """

    path: Path
    kind: str
    config: dict[str, Any]
    arrays: dict[str, Array]
    files: dict[str, bytes]
    checksum: str
    provenance: Provenance


def prompt_hash(prompt: str) -> int:
    """64-bit hash of a prompt without its surrounding white space.

    Artifacts list the hashes of the prompts that they were trained on, so that an evaluation on
    one of them can be refused.
    """
    digest = hashlib.sha256(prompt.strip().encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little")


def hash_prompts(prompts: Iterable[str]) -> npt.NDArray[np.uint64]:
    """The distinct ``prompt_hash`` of prompts, rising: ``Provenance.trained_on``."""
    return np.array(sorted({prompt_hash(prompt) for prompt in prompts}), dtype=np.uint64)


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the path of an artifact's folder, or say why it can't be one.

    Raises InvalidTypeError for anything but a str or a path, ArtifactError for a path that no
    system can have.
    """
    text = os.fspath(folder) if isinstance(folder, (str, os.PathLike)) else folder
    if not isinstance(text, str):
        raise InvalidTypeError(
            f"folder must be a str or a path, got {folder!r}; pass the path of an artifact's folder"
        )
    try:
        possible = b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        possible = False
    if not possible:
        raise ArtifactError(
            f"folder is {text!r}, which has a character that no path can have; pass the path of an "
            "artifact's folder"
        )
    return Path(text)


def save_artifact(
    folder: str | os.PathLike[str],
    *,
    kind: str,
    config: Mapping[str, Any],
    arrays: Mapping[str, Array],
    files: Mapping[str, bytes] | None = None,
    provenance: Provenance | None = None,
    locked: bool = False,
) -> None:
    """Write an artifact. If that fails or is interrupted, the folder keeps its old artifact whole.

    ``provenance`` is stored with it, except its checksum, which follows from the files. Equal input
    gives equal bytes. ``locked`` says that the caller holds ``lock(folder)``.

    Raises InvalidInputError if ``config`` is not plain JSON, an array does not hold numbers or a
    file name is not a plain name, ArtifactError if the folder can't be written; for a ``folder``
    that is not a path, see ``check_folder``.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save

    target = check_folder(folder)
    known = Provenance() if provenance is None else provenance
    arrays = {**arrays, **known.arrays()}
    try:
        config_json = json.loads(json.dumps(dict(config), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"config must be plain JSON: {error}") from error
    try:
        contents = {ARRAYS: save({k: np.asarray(arrays[k], order="C") for k in sorted(arrays)})}
    except SafetensorError as error:
        raise InvalidInputError(f"arrays must be NumPy arrays of numbers: {error}") from error
    for name, content in sorted((files or {}).items()):
        if name in (MANIFEST, ARRAYS) or not _is_plain_name(name):
            raise InvalidInputError(f"files has {name!r}, which is reserved or not a plain name")
        contents[name] = content
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "config": config_json,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
        **({"provenance": facts} if (facts := known.facts()) else {}),
    }
    manifest["manifest_sha256"] = _manifest_sha256(manifest)
    contents[MANIFEST] = (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode()
    with os_errors_as(ArtifactError, f"{target} can't be written"):
        target.mkdir(parents=True, exist_ok=True)
        with contextlib.nullcontext() if locked else lock(target):
            _commit(target, contents, manifest["files"])


def save_provenance(folder: str | os.PathLike[str], provenance: Provenance) -> None:
    """Replace the provenance of a saved artifact; everything else stays.

    The artifact gets another checksum: a cascade that names it by the old one must be saved again.
    Raises as ``load_artifact`` and ``save_artifact``.
    """
    path = check_folder(folder)
    load_artifact(path)  # says what is wrong with a folder that can't be locked
    with os_errors_as(ArtifactError, f"{path} can't be written"), lock(path):
        old = load_artifact(path)
        kept = old.arrays.keys() - old.provenance.arrays().keys()
        save_artifact(
            path,
            kind=old.kind,
            config=old.config,
            arrays={name: old.arrays[name] for name in kept},
            files=old.files,
            provenance=provenance,
            locked=True,
        )


def _commit(folder: Path, contents: Mapping[str, bytes], stated: Mapping[str, Any]) -> None:
    """Replace the artifact in ``folder``, which is locked, by ``contents``; raises OSError."""
    try:
        old = set(json.loads((folder / MANIFEST).read_bytes())["files"])
    except (OSError, KeyError, RecursionError, TypeError, ValueError):
        old = set()
    for name, facts in stated.items():
        write_whole(_new_name(folder, name, facts["sha256"]), contents[name])
    sync_folder(folder)
    write_whole(folder / MANIFEST, contents[MANIFEST])
    sync_folder(folder)
    # The new artifact is in place. What is left to do, the next save does if it fails here.
    with contextlib.suppress(OSError):
        for name, facts in stated.items():
            _new_name(folder, name, facts["sha256"]).replace(folder / name)
        known = "|".join(re.escape(name) for name in {*old, *contents})
        left = re.compile(rf"({known})\.new-[0-9a-f]{{16}}|\.({known})(\.new-\w+)?\.[a-z0-9_]{{8}}")
        for path in folder.iterdir():
            stale = path.name in old - contents.keys() and _is_plain_name(path.name)
            if stale or left.fullmatch(path.name):
                path.unlink()


def _new_name(folder: Path, name: str, sha256: str) -> Path:
    return folder / f"{name}.new-{sha256[:16]}"


def load_artifact(
    folder: str | os.PathLike[str],
    *,
    kind: str | None = None,
    only: Collection[str] | None = None,
) -> Artifact:
    """Read and verify an artifact; of its further files those in ``only``, if that is given.

    Raises:
        ArtifactNotFoundError: the folder or one of its files is missing.
        ArtifactTruncatedError: a file has another length than the manifest says.
        ArtifactChecksumError: a file has the right length and another content.
        ArtifactVersionError: written by a newer fastroute.
        ArtifactError: not an artifact, or of another ``kind`` than the one asked for.
        InvalidTypeError: ``folder`` is not a path.
    """
    path = check_folder(folder)
    return read_consistently(path, lambda: _load(path, kind, only))


def read_consistently(folder: Path, read: Callable[[], T], *, by_name: bool = False) -> T:
    """What ``read`` returns of an artifact, called again where a save has replaced it meanwhile.

    ``by_name`` says that ``read`` opens files by name without verifying what they hold.
    """
    for _ in range(_ATTEMPTS):
        before = _manifest_identity(folder)
        try:
            found = read()
        except FastRouteError:
            if before == _manifest_identity(folder):
                raise
        else:
            if not by_name or before == _manifest_identity(folder):
                return found
    return read()


def artifact_file(folder: Path, name: str) -> Path:
    """The path of a file of an artifact, which an interrupted save may have left at its new name.

    For another folder it is ``folder`` / ``name``.
    """
    try:
        facts = json.loads(_read(folder / MANIFEST))["files"][name]
        new = _new_name(folder, name, facts["sha256"])
    except (OSError, ArtifactError, KeyError, RecursionError, TypeError, ValueError):
        return folder / name
    return new if _is_plain_name(new.name) and new.is_file() else folder / name


def _manifest_identity(folder: Path) -> tuple[int, ...] | None:
    """Differs after every save, also after one of equal content."""
    try:
        found = (folder / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _load(path: Path, kind: str | None, only: Collection[str] | None) -> Artifact:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    manifest_bytes = _read_file(path, MANIFEST)
    try:
        manifest = json.loads(manifest_bytes)
        if manifest["format"] != FORMAT:
            raise KeyError("format")
        version, found_kind = manifest["schema_version"], manifest["kind"]
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise KeyError("schema_version")
        if version > SCHEMA_VERSION:
            raise ArtifactVersionError(
                f"{path} has schema version {version}, newer than {SCHEMA_VERSION}, the newest "
                "that this fastroute reads; upgrade fastroute or save the artifact again"
            )
        stated_sha256 = manifest["manifest_sha256"]
        config, listed = dict(manifest["config"]), dict(manifest["files"])
        expected = {n: (int(f["bytes"]), str(f["sha256"])) for n, f in listed.items()}
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path / MANIFEST} is not the manifest of a fastroute artifact, or it is truncated "
            f"or altered ({type(error).__name__}: {error}); download or export it again"
        ) from error
    if stated_sha256 != _manifest_sha256(manifest):
        raise ArtifactChecksumError(
            f"{path / MANIFEST} was altered: its SHA-256 is not the one stated in it; "
            "download or export it again"
        )
    if kind is not None and found_kind != kind:
        raise ArtifactError(f"{path} holds a {found_kind!r} artifact where {kind!r} is needed")

    contents: dict[str, bytes] = {}
    for name, (length, sha256) in expected.items():
        if not _is_plain_name(name):
            raise ArtifactError(f"{path / MANIFEST} lists {name!r}, which is not a plain name")
        if only is not None and name not in only and name != ARRAYS:
            continue
        content = contents[name] = _read_file(path, name, sha256)
        if len(content) != length:
            raise ArtifactTruncatedError(
                f"{path / name} has {len(content)} bytes where its manifest says {length}: it was "
                "truncated or replaced; download or export it again"
            )
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ArtifactChecksumError(
                f"{path / name} was altered: its SHA-256 is not the one in its manifest; "
                "download or export it again"
            )
    for needed in (ARRAYS, *(() if only is None else sorted(only))):
        if needed not in contents:
            raise ArtifactError(
                f"{path / MANIFEST} does not list {needed}; download or export it again"
            )
    try:
        arrays = load(contents.pop(ARRAYS))
    except (KeyError, SafetensorError) as error:  # KeyError: a dtype that NumPy does not have
        raise ArtifactError(
            f"{path / ARRAYS} is not a safetensors file of NumPy's dtypes: {error}; "
            "download or export it again"
        ) from error
    checksum = hashlib.sha256(manifest_bytes).hexdigest()
    try:
        facts = dict(manifest.get("provenance", {}))
        known = Provenance.read(arrays, facts, checksum)
    except (InvalidInputError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{path / ARRAYS} or {MANIFEST} has an invalid provenance: {error}; "
            "download or export it again"
        ) from error
    return Artifact(path, found_kind, config, arrays, contents, checksum, known)


def _is_plain_name(name: str) -> bool:
    """Whether ``name`` is a file directly in the folder, on any system."""
    return name.isprintable() and name not in ("", ".", "..") and not set(name) & set("/\\:")


def _manifest_sha256(manifest: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "manifest_sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _read_file(folder: Path, name: str, sha256: str | None = None) -> bytes:
    """The content of a file; of the one that a save left at its new name, if there is one."""
    try:
        if sha256 is not None and re.fullmatch("[0-9a-f]{64}", sha256):
            with contextlib.suppress(FileNotFoundError):
                return _read(_new_name(folder, name, sha256))
        return _read(folder / name)
    except FileNotFoundError as error:
        if not folder.exists():
            raise ArtifactNotFoundError(
                f"there is no folder {folder}; give the path of a saved artifact"
            ) from error
        raise ArtifactNotFoundError(
            f"{folder / name} is missing, so {folder} is not a complete fastroute artifact; "
            "download or export it again or give the path of another"
        ) from error
    except OSError as error:
        raise ArtifactError(f"{folder / name} can't be read: {error.strerror}") from error


def _read(path: Path) -> bytes:
    check_regular(path)
    return path.read_bytes()


def check_regular(path: Path) -> int:
    """Length in bytes of a regular file; reading a pipe would wait for a writer.

    Raises OSError, ArtifactError for anything else, such as a pipe or a folder.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ArtifactError(
            f"{path} can't be read: it is not a regular file; download or export it again"
        )
    return found.st_size
