"""Checks of array arguments, with messages that name the argument, what was found and what to do.

Nothing is converted here or anywhere behind it: an array of another dtype or layout is the
caller's to convert, knowingly, because a conversion is a copy.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.types import Float32Array, Float64Array

_AXES = {1: "(n,)", 2: "(n, d)"}


def check_array(name: str, value: object, dtype: npt.DTypeLike, ndim: int) -> npt.NDArray[Any]:
    """Return ``value`` if kernels can read it as it is, else say why not.

    Raises InvalidTypeError for anything but an array of ``dtype``, InvalidInputError for another
    number of dimensions or an array that is not C-contiguous and aligned.
    """
    wanted = np.dtype(dtype)
    if not isinstance(value, np.ndarray):
        raise InvalidTypeError(
            f"{name} must be a NumPy array of {wanted}, got {type(value).__name__}; "
            f"pass np.asarray({name}, dtype=np.{wanted})"
        )
    if value.dtype != wanted:
        raise InvalidTypeError(
            f"{name} must have dtype {wanted}, got {value.dtype}; "
            f"pass {name}.astype(np.{wanted}) (nothing is converted silently)"
        )
    if value.ndim != ndim:
        raise InvalidInputError(
            f"{name} must have {ndim} dimension(s) {_AXES.get(ndim, '')}, got shape {value.shape}"
        )
    if not (value.flags.c_contiguous and value.flags.aligned):
        raise InvalidInputError(
            f"{name} must be C-contiguous and aligned, got strides {value.strides} for shape "
            f"{value.shape}; pass np.ascontiguousarray({name})"
        )
    return value


def check_length(name: str, value: npt.NDArray[Any], length: int, what: str) -> None:
    """Check the length of the last axis; ``what`` says whose length it must be."""
    if value.shape[-1] != length:
        raise InvalidInputError(
            f"{name} has {value.shape[-1]} columns where {what} has {length}; "
            "use the embedder that it was made with"
            if value.ndim == 2
            else f"{name} has length {value.shape[-1]} where {what} has {length}; "
            "use the embedder that it was made with"
        )


def check_finite(name: str, value: npt.NDArray[Any]) -> None:
    """Name the first element that is NaN or infinite, if one is."""
    finite = np.isfinite(value)
    if not finite.all():
        where = tuple(int(i) for i in np.argwhere(~finite)[0])
        index = ", ".join(map(str, where))
        raise InvalidInputError(
            f"{name}[{index}] is {value[where]}; every element must be finite: "
            "drop or fix the rows with NaN or infinity"
        )


def check_no_zero_rows(name: str, value: npt.NDArray[Any]) -> None:
    """Name the first row (or the vector itself) that is all zeros, if one is."""
    nonzero = value.any(axis=-1)
    if not np.all(nonzero):
        which = name if value.ndim == 1 else f"{name}[{int(np.argmin(nonzero))}]"
        raise InvalidInputError(
            f"{which} is the zero vector, which has no direction; "
            "drop it, or score its text (an empty prompt has a defined win rate)"
        )


def check_direction(name: str, x: Float32Array) -> None:
    """Check that one embedding is neither zero nor holds NaN or infinity."""
    check_finite(name, x)
    check_no_zero_rows(name, x)


def check_embedding(x: Float32Array, dimensions: int) -> None:
    """Check one prompt embedding, for a library that would read it unchecked."""
    if type(x) is np.ndarray and x.dtype == np.float32 and x.shape == (dimensions,):
        flags = x.flags
        if flags.c_contiguous and flags.aligned:
            return
    check_array("x", x, np.float32, 1)
    check_length("x", x, dimensions, "the router")


def refuse_query(x: Float32Array) -> NoReturn:
    """Say why one prompt embedding has no direction: NaN, infinite, zero or out of range."""
    check_direction("x", x)
    raise InvalidInputError(
        f"x has length {np.linalg.norm(x.astype(np.float64))}, too small or too large for "
        "float32; scale it to length 1"
    )


def check_token_table(
    table: npt.NDArray[Any], scales: Float32Array, length_scale: float = 0.0
) -> None:
    """Check int8, float16 or float32[v, d] and float32[v], all finite, and a number 0 to 1000."""
    if (
        isinstance(length_scale, bool)
        or not isinstance(length_scale, (int, float))
        or not 0.0 <= length_scale <= 1000.0
    ):
        raise InvalidInputError(
            f"length_scale must be a number from 0 (no length) to 1000, got {length_scale!r}"
        )
    given = getattr(table, "dtype", None)
    dtype = given if given in (np.float16, np.float32) else np.int8
    check_array("table", table, dtype, 2)
    if given != np.int8:
        check_finite("table", table)
    check_array("scales", scales, np.float32, 1)
    check_length("scales", scales, len(table), "the vocabulary")
    check_finite("scales", scales)


def check_token_ids(ids: npt.NDArray[np.int32], vocabulary: int) -> None:
    """Check that int32[n] are rows of a table of ``vocabulary`` rows."""
    check_array("ids", ids, np.int32, 1)
    bad = np.flatnonzero((ids < 0) | (ids >= vocabulary))
    if bad.size:
        raise InvalidInputError(
            f"ids[{bad[0]}] is {ids[bad[0]]}, which is not a row of a table of {vocabulary} "
            "tokens; "
            "use the tokenizer that the table was made with"
        )


def check_wins(wins: Float64Array) -> None:
    """Check summed weights of wins, float64[m, m]: finite and not negative."""
    check_array("wins", wins, np.float64, 2)
    if wins.shape[0] != wins.shape[1] or wins.shape[0] == 0:
        raise InvalidInputError(f"wins must be square and not empty, got shape {wins.shape}")
    check_finite("wins", wins)
    if (wins < 0).any():
        raise InvalidInputError("wins must not be negative: it holds summed weights")


def check_num_threads(num_threads: int) -> int:
    """Return ``num_threads`` if it is an int from 1 to 1024."""
    return check_int("num_threads", num_threads, 1024)


def check_int(name: str, value: int, most: int) -> int:
    """Return ``value`` if it is an int from 1 to ``most``."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise InvalidInputError(f"{name} must be an int from 1 to {most}, got {value!r}")
    return value
