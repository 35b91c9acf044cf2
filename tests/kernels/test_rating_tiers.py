"""Cutting ratings into tiers, against trying every cut."""

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


def _cost(ratings: np.ndarray, tiers: np.ndarray) -> float:
    starts = [0, *(np.flatnonzero(np.diff(tiers)) + 1)]
    return reference.tiers_cost(list(ratings), starts)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11, 14])
def test_no_cut_is_cheaper(count: int) -> None:
    ratings = np.sort(np.random.default_rng(count).normal(1000, 150, count))
    for num_tiers in range(1, count + 1):
        tiers = _native.cut_rating_tiers(ratings, num_tiers)
        assert tiers.dtype == np.int32
        assert sorted(set(tiers)) == list(range(num_tiers))
        best = reference.best_tiers_cost(list(ratings), num_tiers)
        assert _cost(ratings, tiers) == pytest.approx(best, rel=1e-10, abs=1e-9)
        np.testing.assert_array_equal(tiers, reference.rating_tiers(list(ratings), num_tiers))


@given(
    ratings=st.lists(st.integers(-50, 50).map(float), min_size=1, max_size=9),
    num_tiers=st.integers(1, 9),
)
def test_equal_ratings_too(ratings: list[float], num_tiers: int) -> None:
    num_tiers = min(num_tiers, len(ratings))
    sorted_ratings = np.sort(np.array(ratings))
    tiers = _native.cut_rating_tiers(sorted_ratings, num_tiers)
    assert sorted(set(tiers)) == list(range(num_tiers))
    best = reference.best_tiers_cost(list(sorted_ratings), num_tiers)
    assert _cost(sorted_ratings, tiers) == pytest.approx(best, abs=1e-9)


@given(
    ratings=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40), num_tiers=st.integers(1, 40)
)
def test_tiers_rise_with_the_ratings_and_none_is_empty(
    ratings: list[float], num_tiers: int
) -> None:
    num_tiers = min(num_tiers, len(ratings))
    tiers = _native.cut_rating_tiers(np.sort(np.array(ratings)), num_tiers)
    assert tiers[0] == 0
    assert tiers[-1] == num_tiers - 1
    assert set(np.diff(tiers)) <= {0, 1}


@given(seed=st.integers(0, 2**32 - 1), constant=st.integers(-4096, 4096))
def test_a_constant_added_to_all_ratings_changes_nothing(seed: int, constant: int) -> None:
    # Multiples of 1/64, so that adding the constant does not round.
    ratings = np.sort(np.random.default_rng(seed).integers(0, 64_000, 12)) / 64.0
    np.testing.assert_array_equal(
        _native.cut_rating_tiers(ratings + constant, 5), _native.cut_rating_tiers(ratings, 5)
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_falling_ratings_get_the_same_tiers_counted_from_the_other_end(seed: int) -> None:
    ratings = np.sort(np.random.default_rng(seed).normal(size=13))
    rising = _native.cut_rating_tiers(ratings, 4)
    falling = _native.cut_rating_tiers(ratings[::-1].copy(), 4)
    np.testing.assert_array_equal(falling, 3 - rising[::-1])


@pytest.mark.parametrize("scale", [1e200, 1.7e308])
def test_variances_that_overflow_still_give_tiers(scale: float) -> None:
    ratings = np.array([-1.0, -0.5, 0.0, 0.25, 1.0]) * scale
    for num_tiers in range(1, 6):
        tiers = _native.cut_rating_tiers(ratings, num_tiers)
        assert sorted(set(tiers)) == list(range(num_tiers))
        assert (np.diff(tiers) >= 0).all()


def test_bad_input(tmp_path: Path) -> None:
    ratings = np.linspace(0.0, 1.0, 5)
    bad_arrays.check_refusals(ratings, "ratings", lambda r: _native.cut_rating_tiers(r, 2))
    bad_arrays.check_accepted(ratings, lambda r: _native.cut_rating_tiers(r, 2), tmp_path)
    for num_tiers in (0, -1, 6, 2.0, None, True, "3", 10**30):
        with pytest.raises(InvalidInputError, match=r"num_tiers must be an int from 1 to 5, got"):
            _native.cut_rating_tiers(ratings, num_tiers)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=r"num_tiers must be an int from 1 to 0, got 1"):
        _native.cut_rating_tiers(np.empty(0), 1)
    with pytest.raises(InvalidInputError, match=r"ratings must be sorted; pass np.sort"):
        _native.cut_rating_tiers(np.array([1.0, 3.0, 2.0]), 2)
    for value in (np.nan, np.inf):
        with pytest.raises(InvalidInputError, match=r"^ratings\[1\] is (nan|inf)"):
            _native.cut_rating_tiers(np.array([1.0, value, 2.0]), 2)
