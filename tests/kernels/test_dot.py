"""Dot products of rows with a query, at every SIMD level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bad_arrays
import reference
from fastroute import _native
from fastroute.errors import InvalidInputError

SIZES = [0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 255, 256, 257, 1536]


def _inputs(rows: int, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rows * 10007 + dimensions)
    return (
        rng.normal(size=(rows, dimensions)).astype(np.float32),
        rng.normal(size=dimensions).astype(np.float32),
    )


def _assert_close(got: np.ndarray, rows: np.ndarray, query: np.ndarray) -> None:
    # Each of d products passes through at most d / 16 + 6 additions (16 partial sums or more,
    # then their sum), and each addition rounds by half a unit of float32 at most; the scalar
    # version sums in float64 and rounds once. The bound is on the sum of |products|.
    d = rows.shape[1]
    magnitude = np.abs(rows.astype(np.float64)) @ np.abs(query.astype(np.float64))
    bound = 2.0**-24 * (d / 16 + 24) * magnitude
    assert (np.abs(got.astype(np.float64) - reference.dot_rows(rows, query)) <= bound).all()


@pytest.mark.parametrize("dimensions", SIZES)
@pytest.mark.usefixtures("simd_level")
def test_every_dimension(dimensions: int) -> None:
    rows, query = _inputs(5, dimensions)
    got = _native.dot_rows(rows, query)
    assert got.dtype == np.float32
    assert got.shape == (5,)
    _assert_close(got, rows, query)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 2047, 2048, 2049])
@pytest.mark.usefixtures("simd_level")
def test_every_number_of_rows_and_one_row_is_bitwise_many(count: int) -> None:
    rows, query = _inputs(count, 37)
    got = _native.dot_rows(rows, query)
    assert got.shape == (count,)
    _assert_close(got, rows, query)
    for i in {0, 1, count // 2, count - 2, count - 1} & set(range(count)):
        assert _native.dot_rows(rows[i : i + 1], query)[0] == got[i]


@pytest.mark.parametrize("offset", [1, 2, 3, 5])
@pytest.mark.usefixtures("simd_level")
def test_rows_need_no_alignment_beyond_that_of_a_float(offset: int) -> None:
    rows, query = _inputs(5, 97)
    buffer = np.zeros(rows.size + offset, dtype=np.float32)
    shifted = buffer[offset:].reshape(rows.shape)
    shifted[...] = rows
    np.testing.assert_array_equal(_native.dot_rows(shifted, query), _native.dot_rows(rows, query))


@pytest.mark.usefixtures("simd_level")
def test_integers_are_exact() -> None:
    rng = np.random.default_rng(3)
    rows = rng.integers(-8, 9, size=(9, 333)).astype(np.float32)
    query = rng.integers(-8, 9, size=333).astype(np.float32)
    np.testing.assert_array_equal(_native.dot_rows(rows, query), rows @ query)


@pytest.mark.usefixtures("simd_level")
def test_nothing_beyond_the_arrays_is_read() -> None:
    # NaN on both sides of a row would show in its product.
    for dimensions in SIZES[1:-1]:
        rows, query = _inputs(1, dimensions)
        guarded = np.full(dimensions + 32, np.nan, dtype=np.float32)
        guarded[16:-16] = rows[0]
        got = _native.dot_rows(guarded[None, 16:-16], query)
        assert got[0] == _native.dot_rows(rows, query)[0]


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12), dimensions=st.integers(1, 70))
def test_a_permutation_of_rows_permutes_the_products(
    seed: int, count: int, dimensions: int
) -> None:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, dimensions)).astype(np.float32)
    query = rng.normal(size=dimensions).astype(np.float32)
    order = rng.permutation(count)
    np.testing.assert_array_equal(
        _native.dot_rows(rows[order], query), _native.dot_rows(rows, query)[order]
    )


def test_bad_input(tmp_path: Path) -> None:
    rows, query = _inputs(4, 6)
    bad_arrays.check_refusals(rows, "rows", lambda rows: _native.dot_rows(rows, query))
    bad_arrays.check_refusals(query, "query", lambda query: _native.dot_rows(rows, query))
    bad_arrays.check_accepted(rows, lambda rows: _native.dot_rows(rows, query), tmp_path)
    bad_arrays.check_accepted(query, lambda query: _native.dot_rows(rows, query), tmp_path)
    with pytest.raises(InvalidInputError, match="query has length 5 where rows has 6"):
        _native.dot_rows(rows, query[:5].copy())
