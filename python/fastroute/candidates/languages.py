"""The language of a prompt, as far as its script alone settles it.

Latin and Cyrillic letters and those of Arabic write many languages: the caller has to say which
(``Needs.language``). Nothing is guessed.
"""

from __future__ import annotations

import re

#: ISO 639-1 codes by the characters that only this language is usually written in. Chinese
#: characters are Japanese beside kana.
_SCRIPTS = {
    "ja": re.compile(r"[\u3041-\u30ff\u31f0-\u31ff\uff66-\uff9f]"),
    "ko": re.compile(r"[\u1100-\u11ff\u3131-\u318e\uac00-\ud7a3]"),
    "zh": re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f]"),
    "el": re.compile(r"[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": re.compile(r"[\u05d0-\u05ea]"),
    "th": re.compile(r"[\u0e01-\u0e5b]"),
    "hi": re.compile(r"[\u0900-\u097f]"),
    "ta": re.compile(r"[\u0b80-\u0bff]"),
    "ka": re.compile(r"[\u10a0-\u10ff]"),
    "hy": re.compile(r"[\u0530-\u058f]"),
}
_LETTER = re.compile(r"[^\W\d_]")
#: Characters that are looked at, at the beginning and at the end.
_LOOKED_AT = 2000


def language_of(text: str) -> str:
    """The ISO 639-1 code of the language in whose script most of the letters are; "" if none."""
    if text.isascii():
        return ""
    if len(text) > 2 * _LOOKED_AT:
        text = text[:_LOOKED_AT] + text[-_LOOKED_AT:]
    letters = len(_LETTER.findall(text))
    counts = {code: len(script.findall(text)) for code, script in _SCRIPTS.items()}
    if counts["ja"] and counts["ja"] + counts["zh"] > counts["zh"] * 1.1:
        counts["ja"] += counts.pop("zh")
    code = max(counts, key=lambda found: counts[found])
    return code if counts[code] * 2 > letters else ""
