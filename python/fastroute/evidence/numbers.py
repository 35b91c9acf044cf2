"""Numbers in answers: thousands, fractions, LaTeX, percent, scientific notation, units."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

#: Relative difference below which two numbers with decimals are the same: answers are rounded for
#: people. It is never more than half a cent.
RELATIVE_TOLERANCE = 1e-4
_ABSOLUTE_TOLERANCE = 0.005

_WORDS = {
    word: float(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
         "eleven", "twelve")
    )
}  # fmt: skip
_MOST_CHARACTERS = 1_000  # a longer statement is not a number
_SCALES = {"dozen": 12.0, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12}
# What makes a statement more than one plain number: times and ratios, bounds, dates, formulas.
_QUALIFIED = re.compile(
    r"\d\s*:\s*\d|[<>\u2264\u2265\u2260\u00b1\u221a\u03c0\u00b0]"
    r"|\\(?:sqrt|pi|leq?|geq?|neq?|pm|log|ln|sin|cos|tan)(?![a-z])|[\w)}]\s*[\^_]|\d\s*!"
    r"|\b(?:not|less than|more than|fewer than|greater than|at least|at most|up to|sqrt|square"
    r"|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|january|february|march|april|june|july"
    r"|august|september|october|november|december)\b"
    r"|\d\s?(?:[ap]\.?m|bce?|ad|ce)\b",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"(?<!\d)\d{1,4}(?:(?:\s?:\s?\d{1,4})+(?:\s?[ap]\.?m)?|\s?[ap]\.?m\b)", re.IGNORECASE
)
_LETTER_BEFORE = re.compile(r"(?<=[A-Za-z])\S")
_LETTER = re.compile(r"[A-Za-z]")
_REASON = re.compile(r"\b(?:because|since)\b.*", re.IGNORECASE | re.DOTALL)
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)])[-\u2212\u2013]|\bnegative\b|(?<![\d)]\s)\bminus\b)?\s?
    (?P<currency>[$\u20ac\u00a3\u00a5])?\s?
    (?:
        (?P<mixed>\d+)\s+(?P<mixed_over>\d+)/(?P<mixed_under>\d+)(?![\d/])
      | (?P<over>{_PLAIN})\s?/\s?(?P<under>{_PLAIN})(?![\d/])
      | (?P<plain>{_PLAIN})
        (?:\s?(?:[x*\u00d7]|\\times)\s?10\s?\^?\s?\{{?(?P<power>[-\u2212]?\d+)\}}?
          |[eE](?P<exponent>[-+]?\d+)(?!\w))?
    )
    (?:\s?\\?(?P<percent>%))?
    """,
    re.VERBOSE,
)
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}")
_LATEX = re.compile(
    r"\\(?:text|mathrm|mathbf|textbf|operatorname)\s*\{([^{}]*)\}|\\[,;:! ]|\\left|\\right"
)
_UNIT = re.compile(r"\s?([^\W\d_]+(?:/[^\W\d_]+)?)")
# Units whose confusion changes an answer, with their sizes. Other words after a number are what is
# counted (18 eggs), which answers name or leave out as they like.
_SIZES: dict[str, dict[str, float]] = {
    "length": {"mm": 1e-3, "cm": 1e-2, "m": 1, "meter": 1, "metre": 1, "km": 1e3, "inch": 0.0254,
               "inche": 0.0254, "foot": 0.3048, "feet": 0.3048, "ft": 0.3048, "yard": 0.9144,
               "mile": 1609.344},
    "mass": {"mg": 1e-6, "g": 1e-3, "gram": 1e-3, "kg": 1, "ton": 1e3, "ounce": 0.0283495,
             "oz": 0.0283495, "lb": 0.453592, "pound": 0.453592},
    "time": {"ms": 1e-3, "second": 1, "sec": 1, "min": 60, "minute": 60, "hour": 3600, "hr": 3600,
             "day": 86400, "week": 604800},
    "volume": {"ml": 1e-3, "l": 1, "liter": 1, "litre": 1, "gallon": 3.78541},
    "money": {"$": 1, "dollar": 1, "usd": 1, "cent": 0.01},
    "euros": {"\u20ac": 1, "euro": 1, "eur": 1},
    "sterling": {"\u00a3": 1, "gbp": 1},
    "yen": {"\u00a5": 1, "yen": 1},
    "percent": {"%": 1, "percent": 1},
}  # fmt: skip
UNITS = {
    unit: (dimension, size) for dimension, sizes in _SIZES.items() for unit, size in sizes.items()
}


class Quantity(NamedTuple):
    """A number, and the word or sign beside it in lower case, without a plural's s; "" for none.

    ``whole`` is "" for a plain number, else all that a statement says: 2:30 pm, 10 to 12, or 2x is
    equal to the same words only.
    """

    value: float
    unit: str
    whole: str = ""


def find_quantities(text: str) -> list[Quantity]:
    """Every number in ``text``, in order. Dates and versions are read as the numbers in them."""
    text = _FRACTION.sub(r"(\1)/(\2)", text.replace("{,}", ","))
    text = re.sub(r"\((\d+)\)/\((\d+)\)", r"\1/\2", _LATEX.sub(r"\1", text)).replace("\\$", "$")
    found = []
    for match in _NUMBER.finditer(text):
        value = _value(match)
        if value is None:
            continue
        unit = match["currency"] or ("%" if match["percent"] else "")
        following = _UNIT.match(text, match.end())
        word = following[1].lower() if following else ""
        if following and word in _SCALES:
            value *= _SCALES[word]
            following = _UNIT.match(text, following.end())
            word = following[1].lower() if following else ""
        if not unit:
            unit = word if word in UNITS else word.removesuffix("s")
        start, end = match.start(), match.end()
        joined = _LETTER_BEFORE.match(text, start) or (
            _LETTER.match(text, end) and following and _is_unknown(word)
        )
        whole = text[max(start - 8, 0) : end + 8] if joined else ""
        found.append(Quantity(value, unit, _phrase(whole)))
    return found


def last_quantity(text: str) -> Quantity | None:
    """The last number of ``text``, with what makes it a time or ratio; None for none."""
    found = find_quantities(text)
    if not found:
        return None
    times = _TIME.findall(text)
    return found[-1]._replace(whole=_phrase(times[-1])) if times else found[-1]


def read_quantity(text: str) -> Quantity | None:
    """The number that a short ``text`` states: the last after an equals sign, else the first."""
    word = text.strip().strip(".*_ ").lower()
    if word in _WORDS:
        return Quantity(_WORDS[word], "")
    if len(text) > _MOST_CHARACTERS:
        return None
    said = text.rpartition("=")[2]
    found = find_quantities(said)
    if not found:
        said, found = text, find_quantities(text)
    if not found:
        return None
    shorter = _REASON.sub("", said)
    said, found = (shorter, kept) if (kept := find_quantities(shorter)) else (said, found)
    plain = len(found) == 1 and not found[0].whole and not _QUALIFIED.search(said)
    return found[0]._replace(whole="" if plain else _phrase(said))


def same_quantity(a: Quantity, b: Quantity) -> bool:
    """Whether two numbers are equal, in the same unit: whole numbers exactly, others within
    ``RELATIVE_TOLERANCE``.

    Known units are converted (3 km is 3000 m, and 3 m is not 3 km). A unit that only one of them
    has, and words that are not units, are ignored. 50 % equals 0.5.
    """
    if a.whole or b.whole:
        return a.whole == b.whole
    dimension_a, size_a = UNITS.get(a.unit, ("", 1.0))
    dimension_b, size_b = UNITS.get(b.unit, ("", 1.0))
    if dimension_a and dimension_b and dimension_a != dimension_b:
        return False
    if dimension_a and dimension_b and size_a != size_b:
        return math.isclose(a.value * size_a, b.value * size_b, rel_tol=RELATIVE_TOLERANCE)
    if _close(a.value, b.value):
        return True
    if "percent" in (dimension_a, dimension_b):
        percent, plain = (a, b) if dimension_a else (b, a)
        return math.isclose(percent.value / 100, plain.value, rel_tol=RELATIVE_TOLERANCE)
    return False


def _close(a: float, b: float) -> bool:
    whole = a.is_integer() or b.is_integer()
    tolerance = 1e-9 if whole else RELATIVE_TOLERANCE
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-12) and (
        whole or abs(a - b) <= _ABSOLUTE_TOLERANCE
    )


def _is_unknown(word: str) -> bool:
    """Whether letters right after a number are neither a unit nor an ordinal's end: 2x, 5k."""
    known = word in UNITS or word.removesuffix("s") in UNITS or "/" in word
    return not known and word not in ("st", "nd", "rd", "th")


def _phrase(text: str) -> str:
    """``text`` in one case and spacing; 2:00 pm is 2 pm."""
    return re.sub(r":00\b", "", " ".join(text.casefold().split())).strip(".*`\"'$ ")


def _value(match: re.Match[str]) -> float | None:
    def number(text: str) -> float:
        return float(text.replace(",", "").replace("\u2212", "-"))

    try:
        if match["mixed"] is not None:
            value = number(match["mixed"]) + number(match["mixed_over"]) / number(
                match["mixed_under"]
            )
        elif match["over"] is not None:
            value = number(match["over"]) / number(match["under"])
        else:
            value = number(match["plain"])
            power = match["power"] or match["exponent"]
            if power is not None:
                value *= 10.0 ** int(number(power))
    except (ZeroDivisionError, OverflowError):
        return None
    return -value if match["sign"] else value
