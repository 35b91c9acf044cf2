"""Grades of answers: numbers, thumbs and words, and the scale that they are on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fastroute.data.row_values import number_of
from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array

_GOOD = (
    *("up", "thumbs up", "thumbs_up", "thumbs-up", "thumbsup", "like", "liked", "good", "yes"),
    *("pass", "passed", "correct", "right", "positive", "accept", "accepted"),
)
_BAD = (
    *("down", "thumbs down", "thumbs_down", "thumbs-down", "thumbsdown", "dislike", "disliked"),
    *("bad", "no", "fail", "failed", "incorrect", "wrong", "negative", "reject", "rejected"),
)
_WORDS = dict.fromkeys(_GOOD, 1.0) | dict.fromkeys(_BAD, 0.0)
# From the narrowest: the first that holds the grades is the scale.
_SCALES = ((0, 1), (-1, 1), (1, 5), (0, 5), (1, 10), (0, 10), (0, 100))
# A scale may leave out this share of the grades, which are then malformed.
_STRAY = 0.01


class Scale(NamedTuple):
    """The least and the greatest grade, and how that is known, in words."""

    low: float
    high: float
    source: str

    def unit(self, grades: Float64Array) -> Float64Array:
        """The grades on 0..1; NaN stays NaN."""
        scaled: Float64Array = (grades - self.low) / (self.high - self.low)
        return scaled

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


def grade_of(row: dict[str, Any], column: str) -> float:
    """The grade in a cell that is not blank, as a number on the file's scale.

    Words such as "up", "down", "pass" and "fail", and the two thumbs, are 1 and 0. Raises
    ValueError for what is neither a number nor such a word.
    """
    value = row[column]
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _WORDS:
            return _WORDS[word]
        if word[:1] in "\N{THUMBS UP SIGN}\N{THUMBS DOWN SIGN}":
            return float(word[:1] == "\N{THUMBS UP SIGN}")
    return number_of(row, column)


def read_scale(given: str) -> Scale:
    """The scale that "1-5" or "0..1" names. Raises InvalidInputError for anything else."""
    for mark in ("..", "-"):
        low, found, high = given[1:].partition(mark)  # the first character may be a sign
        try:
            ends = float(given[:1] + low), float(high)
        except ValueError:
            continue
        if found and ends[0] < ends[1]:
            return Scale(*ends, "as given")
    raise InvalidInputError(
        f"grades: {given!r} is not a scale; give the least and the greatest grade, such as 1-5"
    )


def tell_scale(grades: Sequence[float]) -> Scale:
    """The scale of a file's grades: the narrowest of 0-1, -1-1, 1-5, 0-5, 1-10, 0-10 and 0-100
    that holds at least 99 % of them.

    Raises InvalidInputError where none does.
    """
    values = np.asarray(grades, dtype=np.float64)
    for low, high in _SCALES:
        inside = (values >= low) & (values <= high)
        if (~inside).mean() <= _STRAY:
            return Scale(float(low), float(high), "told from the data")
    raise InvalidInputError(
        f"grades are from {values.min():g} to {values.max():g}, which is no known scale; give it, "
        "such as --grades 1-7"
    )
