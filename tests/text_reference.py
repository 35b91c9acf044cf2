"""Slow, obvious versions of what csrc/text does to a text, from Python's unicodedata.

Nothing is shared with the kernels' tables or with the script that makes them.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

CLASSES = (
    "space",
    "newline",
    "control",
    "mark",
    "digit",
    "punctuation",
    "symbol",
    "ascii_upper",
    "latin",
    "greek",
    "cyrillic",
    "hebrew",
    "arabic",
    "devanagari",
    "other_indic",
    "southeast_asian",
    "hangul",
    "kana",
    "han",
    "other",
)

#: Code points of one character that are ordered and composed together.
GROUP = 32


def is_space(character: str) -> bool:
    return character.isspace() or character in "\u200b\u200e\u200f\ufeff\u2581\ufffd"


def is_dropped(character: str) -> bool:
    if is_space(character):
        return False
    selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return selector or unicodedata.category(character) in ("Cc", "Cf")


def _begins(character: str) -> bool:
    """Whether no character before this one can be composed with it."""
    if unicodedata.combining(character):
        return False
    if "\u1161" <= character <= "\u1175" or "\u11a8" <= character <= "\u11c2":
        return False  # vowels and final consonants of Hangul
    return character not in _SECONDS


def _second_halves() -> set[str]:
    halves = set()
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code)).split()
        stable = unicodedata.normalize("NFC", chr(code)) == chr(code)
        if len(parts) == 2 and parts[0][0] != "<" and stable:
            halves.add(chr(int(parts[1], 16)))
    return halves


_SECONDS = _second_halves()


def nfkc(text: str) -> str:
    """NFKC, in groups of at most ``GROUP`` code points; white space has none of them."""
    groups: list[str] = []
    for character in "".join(unicodedata.normalize("NFKD", c) for c in text):
        is_full = not groups or len(groups[-1]) == GROUP
        if is_full or _begins(character) or is_space(groups[-1][0]) or is_dropped(groups[-1][0]):
            groups.append("")
        groups[-1] += character
    return "".join(unicodedata.normalize("NFC", group) for group in groups)


def normalize(text: str, *, lowercase: bool = False, exact: bool = True) -> str:
    """``exact`` says that no character has more than ``GROUP`` code points."""
    text = unicodedata.normalize("NFKC", text) if exact else nfkc(text)
    if lowercase:
        text = unicodedata.normalize("NFC", "".join(c.lower() for c in text))
    text = "".join(" " if is_space(c) else c for c in text if not is_dropped(c))
    words = [word for word in text.split(" ") if word]
    return "".join(" " + word for word in words)


def longest_pieces(
    normalized: str, pieces: Mapping[str, int], unknown_row: int | None = None
) -> tuple[list[int], int]:
    """Rows of the longest pieces from left to right, and the number of unknown code points."""
    longest = max(map(len, pieces), default=0)
    rows, unknown, at = [], 0, 0
    while at < len(normalized):
        for size in range(longest, 0, -1):
            piece = normalized[at : at + size]
            if len(piece) == size and piece in pieces:
                rows.append(pieces[piece])
                at += size
                break
        else:
            if normalized[at] != " ":
                unknown += 1
                if unknown_row is not None:
                    rows.append(unknown_row)
            at += 1
    return rows, unknown


def class_of(character: str) -> str:
    if character == "\n":
        return "newline"
    if is_space(character):
        return "space"
    if is_dropped(character):
        return "control"
    if character in "ABCDEFGHIJKLMNOPQRSTUVWXYZ":
        return "ascii_upper"
    category = unicodedata.category(character)
    if category[0] in "MNPS":
        kinds = {"M": "mark", "N": "digit", "P": "punctuation", "S": "symbol"}
        return kinds[category[0]]
    if category[0] != "L":
        return "other"
    name = unicodedata.name(character, "")
    for prefix in ("FULLWIDTH ", "HALFWIDTH ", "MODIFIER LETTER "):
        if name.startswith(prefix):
            name = name[len(prefix) :]
    script = name.split(" ")[0]
    if script in ("LATIN", "GREEK", "CYRILLIC", "HEBREW", "ARABIC", "DEVANAGARI", "HANGUL"):
        return script.lower()
    if script in ("HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"):
        return "kana"
    if script == "CJK":
        return "han"
    if script in ("THAI", "LAO", "KHMER", "MYANMAR"):
        return "southeast_asian"
    indic = "BENGALI GURMUKHI GUJARATI ORIYA TAMIL TELUGU KANNADA MALAYALAM SINHALA"
    return "other_indic" if script in indic.split() else "other"


def class_counts(text: str) -> list[int]:
    classes = [class_of(c) for c in text]
    return [classes.count(name) for name in CLASSES]


def features(
    text: str, units: Sequence[float], pieces: int, unknown: int, *, lowercase: bool = False
) -> dict[str, float]:
    counts = dict(zip(CLASSES, class_counts(text), strict=True))
    visible = sum(n for c, n in counts.items() if c not in ("space", "newline", "control"))
    length = math.log1p(sum(u * n for u, n in zip(units, counts.values(), strict=True)))
    found = {
        "one": 1.0,
        "length": length,
        "excess_length": max(0.0, length - math.log(101)),
        "pieces": math.log1p(pieces),
        "words": math.log1p(normalize(text, lowercase=lowercase).count(" ")),
        "code_points": math.log1p(len(text)),
        "bytes": math.log1p(len(text.encode())),
        "lines": math.log1p(text.count("\n") + 1),
        "unknown": math.log1p(unknown),
        "unknown_share": unknown / (pieces + unknown) if pieces + unknown else 0.0,
    }
    return found | {f"share:{c}": n / visible if visible else 0.0 for c, n in counts.items()}


def embedding(
    table: npt.NDArray[np.int8], scales: npt.NDArray[np.float32], rows: Sequence[int]
) -> npt.NDArray[np.float64]:
    total = np.zeros(table.shape[1])
    for row in rows:
        total += np.float64(scales[row]) * table[row].astype(np.float64)
    length = np.linalg.norm(total)
    return total / length if length > 0 else total
