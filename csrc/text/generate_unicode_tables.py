"""Writes unicode_tables.inc from Python's unicodedata: ``python generate_unicode_tables.py``.

The tables are runs of code points, which unicode.cpp expands when the first vocabulary is loaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

TARGET = Path(__file__).with_name("unicode_tables.inc")
CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]

#: Classes of code points, in the order of fastroute::text::CodePointClass.
CLASSES = (
    "space", "newline", "control", "mark", "digit", "punctuation", "symbol", "ascii_upper",
    "latin", "greek", "cyrillic", "hebrew", "arabic", "devanagari", "other_indic",
    "southeast_asian", "hangul", "kana", "han", "other",
)  # fmt: skip
_SCRIPTS = {
    "LATIN": "latin",
    "GREEK": "greek",
    "CYRILLIC": "cyrillic",
    "HEBREW": "hebrew",
    "ARABIC": "arabic",
    "DEVANAGARI": "devanagari",
    **dict.fromkeys(
        [
            "BENGALI",
            "GURMUKHI",
            "GUJARATI",
            "ORIYA",
            "TAMIL",
            "TELUGU",
            "KANNADA",
            "MALAYALAM",
            "SINHALA",
        ],
        "other_indic",
    ),
    **dict.fromkeys(["THAI", "LAO", "KHMER", "MYANMAR"], "southeast_asian"),
    "HANGUL": "hangul",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "CJK": "han",
}
_WIDTHS = ("FULLWIDTH ", "HALFWIDTH ", "MODIFIER LETTER ")
#: White space to SentencePiece beside what Unicode calls so.
_SPACES = {0x200B, 0x200E, 0x200F, 0xFEFF, 0x2581, 0xFFFD}
_VARIATION_SELECTORS = {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)}


def is_space(code: int) -> bool:
    return chr(code).isspace() or code in _SPACES


def is_dropped(code: int) -> bool:
    """Whether text is read as if this code point were not in it."""
    if is_space(code):
        return False
    return unicodedata.category(chr(code)) in {"Cc", "Cf"} or code in _VARIATION_SELECTORS


def class_of(code: int) -> str:
    character = chr(code)
    if character == "\n":
        return "newline"
    if is_space(code):
        return "space"
    if is_dropped(code):
        return "control"
    if "A" <= character <= "Z":
        return "ascii_upper"
    category = unicodedata.category(character)
    by_category = {"M": "mark", "N": "digit", "P": "punctuation", "S": "symbol"}
    if category[0] in by_category:
        return by_category[category[0]]
    name = unicodedata.name(character, "")
    for width in _WIDTHS:
        name = name.removeprefix(width)
    return _SCRIPTS.get(name.split(" ")[0], "other") if category[0] == "L" else "other"


def replacement(code: int) -> tuple[int, ...]:
    """What NFKC makes of a code point that stands alone."""
    return tuple(map(ord, unicodedata.normalize("NFKC", chr(code))))


def lower(code: int) -> tuple[int, ...]:
    return tuple(map(ord, chr(code).lower()))


def pair(code: int) -> tuple[int, int] | None:
    """The two code points that ``code`` is composed of, Hangul syllables apart."""
    parts = unicodedata.decomposition(chr(code)).split()
    if len(parts) != 2 or parts[0][0] == "<" or replacement(code) != (code,):
        return None
    return int(parts[0], 16), int(parts[1], 16)


def runs_of(values: Callable[[int], int]) -> list[int]:
    """[first code point, value] wherever the value changes, from 0 on."""
    runs: list[int] = []
    for code in range(0x110000):
        value = 0 if 0xD800 <= code < 0xE000 else values(code)
        if not runs or runs[-1] != value:
            runs += [code, value]
    return runs


def mapping_runs(mapping: dict[int, tuple[int, ...]]) -> list[int]:
    """Records [first, count << 8 | step << 5 | length, targets].

    Code points first, first + step, ... map to ``length`` code points each. With length 0 they map
    to one each, which rise by the same step from the single target that is given.
    """
    codes, runs = sorted(mapping), []
    i = 0
    while i < len(codes):
        best = (1, 1)
        for step in (1, 2):
            n = 1
            while (
                i + n < len(codes)
                and codes[i + n] == codes[i] + n * step
                and len(mapping[codes[i]]) == 1
                and mapping[codes[i + n]] == (mapping[codes[i]][0] + n * step,)
            ):
                n += 1
            best = max(best, (n, step))
        n, step = best
        if n > 2:
            runs += [codes[i], n << 8 | step << 5, mapping[codes[i]][0]]
            i += n
            continue
        n, length = 1, len(mapping[codes[i]])
        while (
            i + n < len(codes)
            and codes[i + n] == codes[i] + n
            and len(mapping[codes[i + n]]) == length
            and not _starts_run(mapping, codes, i + n)
        ):
            n += 1
        runs += [codes[i], n << 8 | 1 << 5 | length]
        runs += [target for code in codes[i : i + n] for target in mapping[code]]
        i += n
    return runs


def _starts_run(mapping: dict[int, tuple[int, ...]], codes: Sequence[int], i: int) -> bool:
    ahead = codes[i : i + 3]
    return (
        len(ahead) == 3
        and [c - ahead[0] for c in ahead] == [0, 1, 2]
        and all(mapping[c] == (mapping[ahead[0]][0] + c - ahead[0],) for c in ahead)
    )


def array(name: str, values: Iterable[int]) -> list[str]:
    lines, line = [], "   "
    for value in values:
        text = f" {value}," if value < 10 else f" 0x{value:x},"
        if len(line) + len(text) > 100:
            lines.append(line)
            line = "   "
        line += text
    return [f"constexpr std::uint32_t {name}[] = {{", *lines, line, "};", ""]


def source() -> str:
    unstable = {c: replacement(c) for c in CODE_POINTS if replacement(c) != (c,)}
    lowered = {c: lower(c) for c in CODE_POINTS if lower(c) != (c,)}
    pairs = {c: p for c in CODE_POINTS if (p := pair(c))}
    # What can be composed with the code point before it, though its combining class is 0.
    seconds = {b for _, b in pairs.values()} | {*range(0x1161, 0x1176), *range(0x11A8, 0x11C3)}
    classes = {name: i for i, name in enumerate(CLASSES)}
    lines = [
        "// Generated by generate_unicode_tables.py, whose docstrings describe the layout.",
        f'constexpr const char* kUnicodeVersion = "{unicodedata.unidata_version}";',
        "",
        *array("kClassRuns", runs_of(lambda c: classes[class_of(c)])),
        *array("kCombiningRuns", runs_of(lambda c: unicodedata.combining(chr(c)))),
        *array("kReplacements", mapping_runs(unstable)),
        *array("kLowerCase", mapping_runs(lowered)),
        *array("kPairs", (n for c, p in sorted(pairs.items()) for n in (c, *p))),
        *array("kSeconds", sorted(c for c in seconds if not unicodedata.combining(chr(c)))),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    TARGET.write_text(source(), "utf-8")
