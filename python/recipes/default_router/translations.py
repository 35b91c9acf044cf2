"""Messages of programs and their translations.

The length in every script and equal scores in every language are learnt from them. They are in the
wheels of Django, JupyterLab's language packs (BSD-3-Clause) and Sphinx (BSD-2-Clause).
"""

from __future__ import annotations

import os
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fastroute.errors import InvalidInputError

#: Languages of the encoder but English.
LANGUAGES = ("ar", "de", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "ru", "th", "tr", "zh")
_FOLDER = re.compile(r"/locales?/([A-Za-z]{2})(?:[_-]([A-Za-z]+))?/LC_MESSAGES/[^/]+\.mo$")
#: Shorter ones are labels of buttons.
_MIN_CHARACTERS, _MIN_TRANSLATED = 20, 4


class Translation(NamedTuple):
    language: str
    english: str
    translated: str


def read_translations(wheels: Sequence[str | os.PathLike[str]]) -> list[Translation]:
    """All translations of sentences in ``wheels``, each once, in order of file and message.

    Raises InvalidInputError if there is none in one of ``LANGUAGES``.
    """
    found: dict[Translation, None] = {}
    for wheel in sorted(map(Path, wheels), key=lambda path: path.name):
        with zipfile.ZipFile(wheel) as archive:
            for name in sorted(archive.namelist()):
                match = _FOLDER.search(name)
                if match and match[1] in LANGUAGES:
                    found.update(dict.fromkeys(_messages(match[1], archive.read(name))))
    if missing := set(LANGUAGES) - {translation.language for translation in found}:
        raise InvalidInputError(f"the wheels have no translations in {', '.join(sorted(missing))}")
    return list(found)


def _messages(language: str, catalogue: bytes) -> list[Translation]:
    found = []
    for key, value in _read_catalogue(catalogue):
        # A context stands before \x04, a plural behind \0.
        english = key.rpartition("\x04")[2].partition("\0")[0]
        translated = value.partition("\0")[0]
        if len(english) >= _MIN_CHARACTERS and len(translated) >= _MIN_TRANSLATED:
            found.append(Translation(language, english, translated))
    return sorted(t for t in found if t.english != t.translated)


def _read_catalogue(catalogue: bytes) -> Iterator[tuple[str, str]]:
    """Messages and their translations of a compiled catalogue of GNU gettext (a .mo file)."""
    order = "<" if catalogue[:4] == b"\xde\x12\x04\x95" else ">"
    count, keys, values = struct.unpack_from(f"{order}3I", catalogue, 8)

    def text(table: int, number: int) -> str:
        size, begin = struct.unpack_from(f"{order}2I", catalogue, table + 8 * number)
        return catalogue[begin : begin + size].decode()

    for number in range(count):
        yield text(keys, number), text(values, number)
