"""Files to read and to write, on this machine or in an object store, through Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from fastroute._extras import needed_for
from fastroute._files import whole_file
from fastroute.data.row_files import KINDS, file_kind
from fastroute.errors import InvalidInputError, OutputError


def arrow() -> Any:
    """``pyarrow``, with ``compute``, ``fs`` and ``parquet``."""
    with needed_for("scoring files"):
        import pyarrow
        import pyarrow.compute
        import pyarrow.fs
        import pyarrow.parquet
    return pyarrow


@dataclass(frozen=True, slots=True)
class Place:
    """A file or folder: a path of this machine, or a URI such as ``s3://bucket/folder``."""

    name: str

    @property
    def label(self) -> str:
        """Its name without credentials and options, for messages and files."""
        if self.is_local:
            return self.name
        scheme, _, rest = self.name.partition("?")[0].partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"

    @property
    def is_local(self) -> bool:
        """Whether it is a path of this machine."""
        return "://" not in self.name

    @property
    def kind(self) -> str:
        """What its name ends in, as ``data.row_files.file_kind``."""
        return file_kind(Path(self.name.partition("?")[0] if not self.is_local else self.name))

    def absolute(self) -> Place:
        """The same for a process with another working folder."""
        return Place(str(Path(self.name).absolute())) if self.is_local else self

    def opened(self) -> tuple[Any, str]:
        """Arrow's file system, and the path in it. Raises InvalidInputError."""
        fs = arrow().fs
        if self.is_local:
            return fs.LocalFileSystem(), self.absolute().name
        try:
            system, path = fs.FileSystem.from_uri(self.name)
        except (ValueError, OSError, NotImplementedError) as error:
            raise InvalidInputError(f"{self.label} can't be opened: {error}") from error
        return system, str(path)

    def named(self, path: str) -> Place:
        """Another path of the same file system."""
        if self.is_local:
            return Place(path)
        address, mark, query = self.name.partition("?")
        _, own = self.opened()
        before = address.removesuffix("/").removesuffix(own.removesuffix("/"))
        return Place(f"{before}{path}{mark}{query}")

    def __truediv__(self, name: str) -> Place:
        if self.is_local:
            return Place(str(Path(self.name) / name))
        address, mark, query = self.name.partition("?")
        return Place(f"{address.rstrip('/')}/{name}{mark}{query}")

    @contextmanager
    def writing(self) -> Iterator[Any]:
        """What Arrow writes to: the file appears whole at the end, or not at all."""
        try:
            if self.is_local:
                with whole_file(Path(self.name)) as temporary:
                    yield str(temporary)
                return
            # An object store shows an object when its stream is closed, which an error does too.
            system, path = self.opened()
            with system.open_output_stream(path) as stream:
                try:
                    yield stream
                except BaseException:
                    stream.close()
                    system.delete_file(path)
                    raise
        except OSError as error:
            raise OutputError(f"{self.label} can't be written: {error}") from error

    def write(self, content: bytes) -> None:
        """Write a small file. Raises OutputError."""
        with self.writing() as target:
            if isinstance(target, str):
                Path(target).write_bytes(content)
            else:
                target.write(content)

    def read(self) -> bytes | None:
        """The content of a small file, or None if there is none. Raises InvalidInputError."""
        system, path = self.opened()
        try:
            with system.open_input_stream(path, compression=None) as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidInputError(f"{self.label} can't be read: {error}") from error

    def names(self) -> set[str]:
        """The names of the files in this folder; none where it does not exist."""
        return {PurePosixPath(info.path).name for info in _listed(self) if info.is_file}

    def remove(self, names: Sequence[str]) -> None:
        """Remove files of this folder."""
        for name in names:
            system, path = (self / name).opened()
            system.delete_file(path)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read, as it was when it was found.

    Attributes:
        place: where it is.
        size: in bytes.
        modified_ns: time of its last change; None where it is not known.
    """

    place: Place
    size: int
    modified_ns: int | None


def find_inputs(places: Sequence[str]) -> list[InputFile]:
    """The files that ``places`` stand for, in their order, those of each by name.

    A place is a file, a folder, or a pattern with ``*`` in any part of its path, as a path or a
    URI. Raises InvalidInputError where one stands for no file, or a file is named twice.
    """
    found: list[InputFile] = []
    for name in places:
        place = Place(name)
        some = _matching(place)
        if not some:
            raise InvalidInputError(
                f"input {place.label} stands for no file that ends in .{', .'.join(KINDS)}"
            )
        found += [InputFile(place.named(i.path), i.size, i.mtime_ns) for i in some]
    seen: set[str] = set()
    for file in found:
        if file.place.name in seen:
            raise InvalidInputError(f"input {file.place.label} is given twice")
        seen.add(file.place.name)
    return found


def _matching(place: Place) -> list[Any]:
    system, path = place.opened()
    if not _is_pattern(path):
        try:
            info = system.get_file_info(path)
        except OSError as error:
            raise InvalidInputError(f"input {place.label} can't be read: {error}") from error
        if info.is_file:
            return [info]
        return [i for i in _listed(place) if i.is_file and _is_readable(i)]
    steps = path.split("/")
    first = next(i for i, step in enumerate(steps) if _is_pattern(step))
    folders = ["/".join(steps[:first])]
    for depth, step in enumerate(steps[first:], first):
        infos = [
            info
            for folder in folders
            for info in _listed(place.named(folder or "/"))
            if fnmatchcase(PurePosixPath(info.path).name, step)
        ]
        if depth == len(steps) - 1:
            return sorted((i for i in infos if i.is_file and _is_readable(i)), key=_path)
        folders = sorted(info.path for info in infos if not info.is_file)
    return []


def _listed(place: Place) -> list[Any]:
    system, path = place.opened()
    selector = arrow().fs.FileSelector(path, allow_not_found=True)
    try:
        return sorted(system.get_file_info(selector), key=_path)
    except OSError as error:
        raise InvalidInputError(f"{place.label} can't be read: {error}") from error


def _path(info: Any) -> str:
    path: str = info.path
    return path


def _is_pattern(path: str) -> bool:
    return any(sign in path for sign in "*[")


def _is_readable(info: Any) -> bool:
    path = Path(info.path)
    return file_kind(path) in KINDS and not path.name.startswith(".")
