"""Bradley-Terry ratings by maximum likelihood, from summed wins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bad_arrays
import reference
from fastroute import _native
from fastroute.errors import InvalidInputError, RatingError


def _wins(players: int, seed: int = 0, *, spread: float = 1.0) -> np.ndarray:
    """Positive weights in every cell, so that finite ratings exist; the diagonal is junk."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=players) * spread
    expected = reference.sigmoid(skill[:, None] - skill[None, :])
    return np.asarray(rng.uniform(1.0, 50.0, (players, players)) * expected + 0.01)


def _reference(wins: np.ndarray) -> np.ndarray:
    """One row a cell and side, with its weight; the kernel's collapsed form is not used."""
    a, b = np.nonzero(~np.eye(len(wins), dtype=bool))
    ratings = reference.battle_ratings(a, b, np.ones(len(a)), wins[a, b], len(wins), strict=False)
    return np.asarray(ratings - ratings.mean())


@pytest.mark.parametrize("players", [2, 3, 4, 5, 10, 17, 64])
@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_it_is_the_maximum_of_the_likelihood(players: int, spread: float) -> None:
    wins = _wins(players, seed=players, spread=spread)
    got = _native.fit_bradley_terry(wins)
    assert got.dtype == np.float64
    assert abs(got.mean()) < 1e-12
    np.testing.assert_allclose(got, _reference(wins), atol=1e-10)


def test_it_is_the_maximum_over_single_battles() -> None:
    rng = np.random.default_rng(5)
    a = rng.integers(0, 6, 2000)
    b = (a + rng.integers(1, 6, 2000)) % 6
    outcome = rng.integers(-1, 2, 2000)
    wins = np.zeros((6, 6))
    for i, j, o in zip(a, b, outcome, strict=True):
        wins[i, j] += (1 + o) / 2
        wins[j, i] += (1 - o) / 2
    wanted = reference.battle_ratings(a, b, outcome, np.ones(2000), 6, strict=False)
    np.testing.assert_allclose(_native.fit_bradley_terry(wins), wanted - wanted.mean(), atol=1e-11)


def test_two_players_have_the_logarithm_of_their_odds() -> None:
    for odds in (1.0, 3.0, 1e3, 1e-6, 1e9):
        got = _native.fit_bradley_terry(np.array([[0.0, odds], [1.0, 0.0]]))
        assert got[0] - got[1] == pytest.approx(np.log(odds), abs=1e-9)


def test_one_player_has_rating_zero() -> None:
    np.testing.assert_array_equal(_native.fit_bradley_terry(np.zeros((1, 1))), [0.0])


def test_the_diagonal_is_not_read() -> None:
    wins = _wins(5)
    other = wins.copy()
    np.fill_diagonal(other, 1e6)
    np.testing.assert_array_equal(_native.fit_bradley_terry(wins), _native.fit_bradley_terry(other))


@given(seed=st.integers(0, 2**32 - 1), players=st.integers(2, 12))
def test_wins_transposed_negate_the_ratings(seed: int, players: int) -> None:
    wins = _wins(players, seed)
    np.testing.assert_allclose(
        _native.fit_bradley_terry(wins.T.copy()), -_native.fit_bradley_terry(wins), atol=1e-10
    )


@given(seed=st.integers(0, 2**32 - 1), players=st.integers(2, 12))
def test_a_permutation_of_players_permutes_the_ratings(seed: int, players: int) -> None:
    wins = _wins(players, seed)
    order = np.random.default_rng(seed).permutation(players)
    np.testing.assert_allclose(
        _native.fit_bradley_terry(wins[np.ix_(order, order)]),
        _native.fit_bradley_terry(wins)[order],
        atol=1e-10,
    )


@given(seed=st.integers(0, 2**32 - 1), factor=st.sampled_from([1e-9, 0.5, 3.0, 1e9]))
def test_only_the_ratios_of_weights_matter(seed: int, factor: float) -> None:
    wins = _wins(6, seed)
    np.testing.assert_allclose(
        _native.fit_bradley_terry(wins * factor), _native.fit_bradley_terry(wins), atol=1e-10
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_another_win_never_lowers_a_rating(seed: int) -> None:
    wins = _wins(5, seed)
    more = wins.copy()
    more[0, 1] += 1.0
    before, after = _native.fit_bradley_terry(wins), _native.fit_bradley_terry(more)
    assert after[0] - after[1] > before[0] - before[1]


def _unconnected(case: str) -> np.ndarray:
    wins = np.zeros((5, 5))
    wins[:2, :2] = wins[2:, 2:] = 3.0
    if case == "one group only won":
        wins[:2, 2:] = 1.0
    if case == "somebody only won":
        wins[...] = 2.0
        wins[1:, 0] = 0.0
    if case == "somebody never met anybody":
        wins[...] = 2.0
        wins[4, :] = wins[:, 4] = 0.0
    return wins


@pytest.mark.parametrize(
    ("case", "groups"),
    [
        ("groups that never met", [0, 0, 1, 1, 1]),
        ("one group only won", [0, 0, 1, 1, 1]),
        ("somebody only won", [0, 1, 1, 1, 1]),
        ("somebody never met anybody", [0, 0, 0, 0, 1]),
    ],
)
def test_ratings_that_are_not_finite(case: str, groups: list[int]) -> None:
    wins = _unconnected(case)
    np.testing.assert_array_equal(_native.rating_groups(wins), groups)
    with pytest.raises(RatingError, match="no finite Bradley-Terry ratings"):
        _native.fit_bradley_terry(wins)


@given(seed=st.integers(0, 2**32 - 1), players=st.integers(2, 8), share=st.floats(0.05, 0.5))
def test_there_are_ratings_where_there_is_one_group(seed: int, players: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    wins = _wins(players, seed) * (rng.random((players, players)) < share)
    groups = _native.rating_groups(wins)
    # Mutual reachability by powers of the matrix of who beat whom.
    reach = np.linalg.matrix_power((wins > 0) + np.eye(players), players) > 0
    same = reach & reach.T
    np.testing.assert_array_equal(groups[:, None] == groups[None, :], same)
    if groups.max() == 0:
        np.testing.assert_allclose(_native.fit_bradley_terry(wins), _reference(wins), atol=1e-7)
    else:
        with pytest.raises(RatingError):
            _native.fit_bradley_terry(wins)


@pytest.mark.parametrize("call", [_native.fit_bradley_terry, _native.rating_groups])
def test_bad_input(call, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wins = _wins(4)
    bad_arrays.check_refusals(wins, "wins", call)
    bad_arrays.check_accepted(wins, call, tmp_path)
    for shape in ((0, 0), (3, 4), (4, 3)):
        with pytest.raises(InvalidInputError, match="wins must be square and not empty"):
            call(np.ones(shape))
    for value in (np.nan, np.inf):
        bad = wins.copy()
        bad[2, 1] = value
        with pytest.raises(InvalidInputError, match=r"^wins\[2, 1\] is (nan|inf)"):
            call(bad)
    bad = wins.copy()
    bad[0, 3] = -1.0
    with pytest.raises(InvalidInputError, match="wins must not be negative"):
        call(bad)
