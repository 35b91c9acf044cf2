"""Standard streams that a process may lack, or may fail to use, as clear errors."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from fastroute.errors import InvalidInputError, OutputError

# Controls but tab and line feed, line and paragraph separators, and marks of direction, which can
# make a terminal show, hide or do what was not written.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]"
)


def printable(text: str) -> str:
    """``text`` with what would steer a terminal written as an escape, such as ``\\u001b``.

    Line feeds and tabs stay. The escapes are JSON's, so that JSON stays what it is.
    """
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def say(line: str) -> None:
    """Print ``line`` on standard error, printable: it may hold names from files."""
    print(printable(line), file=sys.stderr, flush=True)


@contextmanager
def checked_streams() -> Iterator[None]:
    """Inside, standard output raises OutputError, a missing input InvalidInputError at use.

    Python has None for a stream that was closed before it started. A reader that stopped is left
    as the BrokenPipeError that it is, and where standard error is closed nothing is printed.
    """
    streams = sys.stdin, sys.stdout, sys.stderr
    output: Any = _Output(streams[1])
    with ExitStack() as opened:
        sys.stdout = output
        if streams[0] is None:
            reader = io.BufferedReader(_NoInput())
            sys.stdin = opened.enter_context(io.TextIOWrapper(reader, encoding="utf-8"))
        if streams[2] is None:
            sys.stderr = opened.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams


def occupy_descriptors() -> None:
    """Open those of 0, 1 and 2 that are closed, so that no socket gets their numbers: where libuv
    is to close one of them, it ends the process."""
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor <= 2:
        descriptor = os.open(os.devnull, os.O_RDWR)
    os.close(descriptor)


def silence_output() -> None:
    """Discard what standard output still holds; otherwise Python would report an error at exit."""
    with suppress(OSError, AttributeError):
        descriptor = sys.stdout.fileno()
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


class _Output:
    """Standard output, with clear errors for its failures."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        if self._stream is None:
            raise OutputError("standard output can't be written: it is closed")
        try:
            return self._stream.write(printable(text))
        except UnicodeEncodeError as error:
            remedy = "" if "utf" in error.encoding else "; set PYTHONIOENCODING=utf-8"
            raise OutputError(
                f"standard output can't be written: its encoding, {error.encoding}, has no "
                f"{error.object[error.start]!a}{remedy}"
            ) from error
        except OSError as error:
            raise _failed(error) from error

    def flush(self) -> None:
        if self._stream is None:
            return
        try:
            self._stream.flush()
        except OSError as error:
            raise _failed(error) from error


def _failed(error: OSError) -> Exception:
    if isinstance(error, BrokenPipeError):
        return error
    return OutputError(f"standard output can't be written: {error.strerror or error}")


class _NoInput(io.RawIOBase):
    """A standard input that is not there."""

    def _refuse(self) -> NoReturn:
        raise InvalidInputError("there is no standard input: it is closed")

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        self._refuse()

    def readinto(self, _buffer: Any, /) -> int:
        self._refuse()
