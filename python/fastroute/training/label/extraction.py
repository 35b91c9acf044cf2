r"""Finds the answer in a model's response, for grading by an answer key.

**Multiple choice** (``choice``), a letter from A to J. The first of these rules that finds one:

1. the last ``\boxed{B}`` (also ``\boxed{\text{B}}``);
2. the last "answer is (B)", "answer: B", "option B is correct" and the like, also with emphasis
   and brackets around the letter;
3. a first line that is only a letter, or begins with a letter and one of ``) . :``, as in
   "B. Paris";
4. a last line of that kind.

**Numbers** (``number``). The first of these rules that finds one:

1. the last number after the last ``####``, as GSM8K's solutions end;
2. the last ``\boxed{...}``;
3. the last "answer is 42" or "answer: 42";
4. the last number of the response.

Dollar signs, per cent signs, thousands' commas and emphasis count for nothing. Fractions such as
3/4 are numbers. Numbers are equal if they differ by at most one part in a million.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["choice", "number"]

_EMPHASIS = re.compile(r"\*\*|__|`")
_BOXED = re.compile(r"\\boxed\s*\{\s*(?:\\text\s*\{)?([^{}]*)\}")
_LETTER = r"[(\[{]?\s*([A-J])\s*[)\]}]?(?![\w'\u2019])"
_ANSWER_LETTER = re.compile(
    r"\b(?:answer|choice|option)\b(?:\s+(?:is|would be|should be))?\s*:?\s*"
    r"(?:(?:option|choice|letter)\s+)?" + _LETTER,
    re.IGNORECASE,
)
_ONLY_LETTER = re.compile(r"\s*[(\[]?([A-J])(?:[)\]]?\s*\.?\s*$|[)\].:]+\s)")
_NUMBER = r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+|(?<=\d))(?:[eE][-+]?\d{1,3})?"
_FRACTION = re.compile(rf"(?<![\w.])({_NUMBER})(?:\s*/\s*({_NUMBER}))?")
_LATEX_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_ANSWER_NUMBER = re.compile(
    r"\banswer\b(?:\s+(?:is|would be|should be))?\s*[:=]?\s*", re.IGNORECASE
)


def extract_choice(response: str) -> str | None:
    """The letter that ``response`` chooses, in upper case; None if no rule finds one."""
    text = _EMPHASIS.sub("", response)
    for boxed in reversed(_BOXED.findall(text)):
        found = re.fullmatch(r"\(?([A-Ja-j])\)?\.?", boxed.strip())
        if found:
            return found[1].upper()
    named = [match for match in _ANSWER_LETTER.finditer(text) if _is_letter(match)]
    if named:
        return named[-1][1].upper()
    lines = [line for line in text.splitlines() if line.strip()]
    for line in (*lines[:1], *lines[-1:]):
        found = _ONLY_LETTER.match(line)
        if found:
            return found[1]
    return None


def _is_letter(match: re.Match[str]) -> bool:
    """Whether the letter is one, and not the words "a" and "I" of a sentence."""
    bare = match[0].rstrip()[-1] == match[1]
    return match[1].isupper() and not (
        bare and match[1] in "AI" and re.match(r"[ \t]+[a-z]", match.string[match.end() :])
    )


def extract_number(response: str) -> Fraction | None:
    """The number that ``response`` ends on; None if no rule finds one."""
    text = _EMPHASIS.sub("", response).replace("\u2212", "-")
    if "####" in text:
        found = _numbers(text.rpartition("####")[2])
        if found:
            return found[0]
    for boxed in reversed(re.findall(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}", text)):
        found = _numbers(boxed)
        if found:
            return found[-1]
    for match in reversed(list(_ANSWER_NUMBER.finditer(text))):
        after = re.match(r"[\s$€£\\(\[]*(?=[-+.\d\\])", text[match.end() :])
        found = _numbers(text[match.end() + after.end() :]) if after else []
        if found:
            return found[0]
    found = _numbers(text)
    return found[-1] if found else None


def _numbers(text: str) -> list[Fraction]:
    text = _LATEX_FRACTION.sub(r" \1/\2 ", text)
    found = []
    for match in _FRACTION.finditer(text):
        value = _value(match[1])
        if value is None:
            continue
        below = _value(match[2]) if match[2] else None
        found.append(value / below if below else value)
    return found


def _value(digits: str) -> Fraction | None:
    try:
        return Fraction(digits.replace(",", ""))
    except ValueError:
        return None


def equal_numbers(a: Fraction, b: Fraction) -> bool:
    """Whether two numbers differ by at most one part in a million."""
    return abs(a - b) <= max(abs(a), abs(b)) / 10**6
