"""Powers of two in float64, at every SIMD level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import bad_arrays
import reference
from fastroute import _native
from fastroute.errors import InvalidInputError

LOG2_OF_10 = np.log2(10.0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 255, 256, 257])
@pytest.mark.usefixtures("simd_level")
def test_every_length_to_two_units_in_the_last_place(count: int) -> None:
    x = np.linspace(-1.0, 1.0, count, dtype=np.float32)
    got = _native.exp2_scaled(x, LOG2_OF_10)
    assert got.dtype == np.float64
    wanted = reference.exp2_scaled(x, LOG2_OF_10)
    # Two units in the last place of a float64 are at most 2 * 2^-52 of it; the product
    # x * scale itself is rounded the same way on both sides.
    assert (np.abs(got - wanted) <= 2 * 2.0**-52 * wanted).all()
    for i in {0, count // 2, count - 1} & set(range(count)):
        assert _native.exp2_scaled(x[i : i + 1], LOG2_OF_10)[0] == got[i]


@pytest.mark.usefixtures("simd_level")
def test_the_whole_range_of_exponents() -> None:
    x = np.linspace(-1022.0, 1023.0, 20011, dtype=np.float32)
    wanted = reference.exp2_scaled(x, 1.0)
    assert (np.abs(_native.exp2_scaled(x, 1.0) - wanted) <= 2 * 2.0**-52 * wanted).all()


@pytest.mark.usefixtures("simd_level")
def test_integer_exponents_are_exact() -> None:
    x = np.arange(-1022, 1024, dtype=np.float32)
    np.testing.assert_array_equal(_native.exp2_scaled(x, 1.0), np.ldexp(1.0, x.astype(np.int64)))


@pytest.mark.usefixtures("simd_level")
def test_exponents_are_clamped() -> None:
    x = np.array([-3e38, -1e4, -1022.5, 1023.5, 1e4, 3e38], dtype=np.float32)
    low, high = 2.0**-1022, 2.0**1023
    np.testing.assert_array_equal(_native.exp2_scaled(x, 1.0), [low, low, low, high, high, high])


@pytest.mark.usefixtures("simd_level")
def test_it_rises_with_the_exponent() -> None:
    x = np.linspace(-2.0, 2.0, 4001, dtype=np.float32)
    assert (np.diff(_native.exp2_scaled(x, LOG2_OF_10)) > 0).all()


def test_bad_input(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    bad_arrays.check_refusals(x, "x", lambda x: _native.exp2_scaled(x, 2.0))
    bad_arrays.check_accepted(x, lambda x: _native.exp2_scaled(x, 2.0), tmp_path)
    for value in (np.nan, np.inf, -np.inf):
        bad = x.copy()
        bad[3] = value
        with pytest.raises(InvalidInputError, match=r"x\[3\] is -?(nan|inf)"):
            _native.exp2_scaled(bad, 2.0)
        with pytest.raises(InvalidInputError, match="scale must be a finite number"):
            _native.exp2_scaled(x, value)
    for scale in ("2", None, True):
        with pytest.raises(InvalidInputError, match="scale must be a finite number"):
            _native.exp2_scaled(x, scale)  # type: ignore[arg-type]
