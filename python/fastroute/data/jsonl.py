"""Writes files of JSON lines whole or not at all, and none over what is read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastroute._files import os_errors_as, write_whole
from fastroute.errors import InvalidInputError


def check_not_read(output: str, **read: str | None) -> None:
    """Raise InvalidInputError where ``output`` is one of the files that are read, by option."""
    for option, file in read.items():
        if file is not None and Path(file).resolve() == Path(output).resolve():
            raise InvalidInputError(
                f"--output is {output!r}, the file of --{option.replace('_', '-')}, which would be "
                "lost; name another"
            )


def write_rows(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line in UTF-8. Raises InvalidInputError if the file can't be made."""
    file = Path(path)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with os_errors_as(InvalidInputError, f"{file} can't be written"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, text.encode())
