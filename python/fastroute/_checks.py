"""Checks of the arguments of evaluation, with messages that name the argument, what was found and
what to do."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.types import Float64Array

#: The greatest magnitude of a score or a cost: sums and ratios of larger ones could overflow.
GREATEST = 1e100

#: The most bootstrap resamples: far more than any interval needs, and still bounded in time.
MOST_RESAMPLES = 1_000_000


def check_integer(name: str, value: object, least: int, most: int | None = None) -> int:
    """Return ``value`` if it is an int (or NumPy's) in ``least``..``most``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise InvalidTypeError(f"{name} must be an int, got {type(value).__name__} {value!r:.80}")
    number = int(value)
    if number < least or (most is not None and number > most):
        wanted = f"{least} or more" if most is None else f"in {least:,}..{most:,}"
        raise InvalidInputError(f"{name} must be {wanted}, got {_shown(number)}")
    return number


def check_resampling(resamples: object, seed: object, *, least: int = 0) -> tuple[int, int]:
    """``resamples`` (``least``..1,000,000) and ``seed`` (0 or more), as ints."""
    return check_integer("resamples", resamples, least, MOST_RESAMPLES), check_integer(
        "seed", seed, 0
    )


def check_number(name: str, value: object) -> float:
    """Return ``value`` as a float if it is a number, and not NaN."""
    numbers = (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, numbers):
        raise InvalidTypeError(f"{name} must be a number, got {type(value).__name__} {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isnan(number):
        raise InvalidInputError(f"{name} must be a number, got nan")
    return number


def check_column(name: str, value: object, *, most: float | None = None) -> Float64Array:
    """Return ``value`` if it is float64[n] with n at least 1, finite, and at most ``most``."""
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        kind = getattr(value, "dtype", type(value).__name__)
        raise InvalidTypeError(
            f"{name} must be a float64 array, got {kind}; pass np.asarray({name}, dtype=np.float64)"
        )
    if value.ndim != 1 or not len(value):
        raise InvalidInputError(f"{name} has shape {value.shape}; it must be [n], n at least 1")
    bad = ~np.isfinite(value)
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(f"{name}[{i}] is {value[i]}; every value must be finite")
    if most is not None and (bad := np.abs(value) > most).any():
        i = int(np.flatnonzero(bad)[0])
        raise InvalidInputError(f"{name}[{i}] is {value[i]}; {name} must be within {most:g} of 0")
    return value


def check_same_length(**columns: Float64Array) -> None:
    """Raise InvalidInputError unless all have the length of the first."""
    (first, wanted), *others = columns.items()
    for name, column in others:
        if column.shape != wanted.shape:
            raise InvalidInputError(
                f"{name} has shape {column.shape} and {first} {wanted.shape}; both must be [n]"
            )


def check_probabilities(name: str, value: object) -> Float64Array:
    """Return ``value`` if it is float64[n] in 0..1."""
    column = check_column(name, value)
    outside = (column < 0.0) | (column > 1.0)
    if outside.any():
        i = int(np.flatnonzero(outside)[0])
        raise InvalidInputError(f"{name}[{i}] is {column[i]}; it must be in 0..1")
    return column


def check_path(name: str, value: object) -> Path:
    """Return ``value`` as a Path if it can be the name of a file."""
    if not isinstance(value, (str, os.PathLike)) or not isinstance(os.fspath(value), str):
        raise InvalidTypeError(f"{name} must be a path, got {type(value).__name__}; pass a str")
    if "\0" in os.fspath(value):
        raise InvalidInputError(f"{name} must not contain a NUL character, got {value!r}")
    return Path(value)


def _shown(number: int) -> str:
    # Python refuses to write out an int of thousands of digits.
    return f"{number}" if number.bit_length() < 1000 else f"an int of {number.bit_length()} bits"
