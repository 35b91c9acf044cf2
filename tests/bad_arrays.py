"""Arrays that a kernel must refuse, made from one that it takes, and what a refusal looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fastroute.errors import InvalidInputError, InvalidTypeError

_CPP_WORDS = ("incompatible function arguments", "array_t", "std::", "numpy.typing", "SupportsInt")


def unaligned(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same values, C-contiguous, at an odd address."""
    buffer = bytearray(array.nbytes + 1)
    made = np.frombuffer(buffer, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    made[...] = array
    assert made.flags.c_contiguous
    assert not made.flags.aligned
    return made


def malformed(good: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Everything that has the wrong type, dtype, layout or number of dimensions, by a label."""
    other = np.float64 if good.dtype != np.float64 else np.float32
    cases: dict[str, Any] = {
        "None": None,
        "a list": good.tolist(),
        "a string": "prompt",
        "a number": 1.5,
        "0-d": np.array(1, dtype=good.dtype),
        "another float": good.astype(other),
        "integers": good.astype(np.uint64),
        "objects": good.astype(object),
        "one more dimension": good[None],
        "not contiguous": np.repeat(good, 2, axis=-1)[..., ::2],
        "reversed": good[::-1],
    }
    if good.dtype.itemsize > 1:
        cases["big-endian"] = good.astype(good.dtype.newbyteorder(">"))
        cases["unaligned"] = unaligned(good)
    if good.ndim == 2:
        cases["Fortran order"] = np.asfortranarray(good)
        cases["one row"] = good[0]
    return cases


def check_refusals(good: np.ndarray[Any, Any], name: str, call: Callable[[Any], object]) -> None:
    """``call`` takes ``good`` and refuses everything in ``malformed(good)``, in words."""
    assert min(good.shape) > 1, "shapes of 1 are contiguous either way"
    call(good)
    for label, bad in malformed(good).items():
        with pytest.raises(InvalidInputError) as caught:
            call(bad)
        check_message(caught.value, name, label)
        message = str(caught.value)
        assert ";" in message or "shape" in message, f"{label}: no remedy in {message!r}"
        if label in ("None", "a list", "another float", "integers", "big-endian"):
            assert isinstance(caught.value, InvalidTypeError), label


def check_message(error: BaseException, name: str, label: str = "") -> None:
    message = str(error)
    assert message.startswith(name), f"{label}: {message!r} is not about {name}"
    for word in _CPP_WORDS:
        assert word not in message, f"{label}: {message!r}"


def check_accepted(good: np.ndarray[Any, Any], call: Callable[[Any], Any], tmp_path: Any) -> None:
    """Read-only arrays and subclasses, such as a memory-mapped file, are read as they are."""
    wanted = np.asarray(call(good))
    read_only = good.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(np.asarray(call(read_only)), wanted)
    file = tmp_path / "array.bin"
    file.write_bytes(good.tobytes())
    mapped = np.memmap(file, dtype=good.dtype, mode="r", shape=good.shape)
    np.testing.assert_array_equal(np.asarray(call(mapped)), wanted)
