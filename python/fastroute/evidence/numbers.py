"""Numbers in answers: thousands, fractions, LaTeX, percent, scientific notation, units."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

#: Relative difference below which two numbers are the same: answers are rounded for people.
RELATIVE_TOLERANCE = 1e-4

_WORDS = {
    word: float(value)
    for value, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    )
}
_PLAIN = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)])[-\u2212])?\s?
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
    "percent": {"%": 1, "percent": 1},
}  # fmt: skip
_UNITS = {
    unit: (dimension, size) for dimension, sizes in _SIZES.items() for unit, size in sizes.items()
}


class Quantity(NamedTuple):
    """A number, and the word or sign beside it in lower case, without a plural's s; "" for none."""

    value: float
    unit: str


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
        if not unit:
            following = _UNIT.match(text, match.end())
            word = following[1].lower() if following else ""
            unit = word if word in _UNITS else word.removesuffix("s")
        found.append(Quantity(value, unit))
    return found


def read_quantity(text: str) -> Quantity | None:
    """The number that a short ``text`` states: the last after an equals sign, else the first."""
    word = text.strip().strip(".*_ ").lower()
    if word in _WORDS:
        return Quantity(_WORDS[word], "")
    found = find_quantities(text.rpartition("=")[2]) or find_quantities(text)
    return found[0] if found else None


def same_quantity(a: Quantity, b: Quantity) -> bool:
    """Whether two numbers are equal within ``RELATIVE_TOLERANCE``, in the same unit.

    Known units are converted (3 km is 3000 m, and 3 m is not 3 km). A unit that only one of them
    has, and words that are no units, are ignored. 50 % equals 0.5.
    """
    dimension_a, size_a = _UNITS.get(a.unit, ("", 1.0))
    dimension_b, size_b = _UNITS.get(b.unit, ("", 1.0))
    if dimension_a and dimension_b:
        if dimension_a != dimension_b:
            return False
        return math.isclose(a.value * size_a, b.value * size_b, rel_tol=1e-3)
    if math.isclose(a.value, b.value, rel_tol=RELATIVE_TOLERANCE, abs_tol=1e-12):
        return True
    if "percent" in (dimension_a, dimension_b):
        percent, plain = (a, b) if dimension_a else (b, a)
        return math.isclose(percent.value / 100, plain.value, rel_tol=RELATIVE_TOLERANCE)
    return False


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
