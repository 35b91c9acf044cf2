"""Weights of battles by similarity, and ratings of tiers from them, at every SIMD level."""

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

SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 255, 256, 257]


class Case:
    """n battles between tiers over unit embeddings of one half-space, so that some are similar."""

    def __init__(self, n: int, d: int, tiers: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed + 1000 * n + d)
        E = rng.normal(size=(n, d)) + 0.5
        self.embeddings = (E / np.linalg.norm(E, axis=1, keepdims=True)).astype(np.float32)
        self.tier_a = rng.integers(0, tiers, n).astype(np.int32)
        self.tier_b = rng.integers(0, tiers, n).astype(np.int32)
        self.outcome = rng.integers(-1, 2, n).astype(np.int8)
        self.tiers = tiers
        self.x = (self.embeddings[0] + 0.1 * rng.normal(size=d)).astype(np.float32)

    def cells(self) -> np.ndarray:
        return _native.battle_cells(self.tier_a, self.tier_b, self.outcome, self.tiers)

    def battles(self, *, strict: bool = False) -> _native.TieredBattles:
        return _native.TieredBattles(self.embeddings, self.cells(), self.tiers, strict)

    def wanted_sums(self) -> np.ndarray:
        """Sums of weights by the kind of battle, a battle at a time."""
        sums = np.zeros(2 * self.tiers**2 + self.tiers)
        weights = reference.battle_weights(reference.similarities(self.embeddings, self.x))
        for a, b, outcome, w in zip(self.tier_a, self.tier_b, self.outcome, weights, strict=True):
            if outcome == 0:
                kind = self.tiers**2 + min(a, b) * self.tiers + max(a, b)
            elif outcome > 0:
                kind = a * self.tiers + b
            elif a != b:
                kind = b * self.tiers + a
            else:
                kind = 2 * self.tiers**2 + a
            sums[kind] += w
        return sums


def _largest_relative_error(got: np.ndarray, wanted: np.ndarray) -> float:
    np.testing.assert_array_equal(got == 0, wanted == 0)
    return float(np.abs(got - wanted).max() / wanted.max())


# A similarity is a float32 dot product of unit vectors, off by at most a few 2^-24 of the sum of
# magnitudes (< 1); w = 10 * 10^(s / max s) multiplies its relative error by ln 10 * |s / max s|,
# and s here is at least 0.3 at its largest: 2.3 / 0.3 * 2 * 24 * 2^-24 = 2.2e-5 at the very worst.
WEIGHT_TOLERANCE = 2.2e-5


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.usefixtures("simd_level")
def test_every_dimension(d: int) -> None:
    case = Case(70, d, 3)
    error = _largest_relative_error(case.battles().weights_by_cell(case.x), case.wanted_sums())
    assert error < WEIGHT_TOLERANCE


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 255, 256, 257, 2047, 2048, 2049, 6145])
@pytest.mark.usefixtures("simd_level")
def test_every_number_of_battles_for_any_number_of_threads(n: int) -> None:
    case = Case(n, 17, 4)
    battles = case.battles()
    sums = battles.weights_by_cell(case.x)
    assert sums.dtype == np.float64
    assert _largest_relative_error(sums, case.wanted_sums()) < WEIGHT_TOLERANCE
    for num_threads in (2, 3, 8):
        np.testing.assert_array_equal(battles.weights_by_cell(case.x, num_threads), sums)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("n", [300, 2049, 5000])
@pytest.mark.usefixtures("simd_level")
def test_ratings_are_the_optimum(n: int, strict: bool) -> None:
    case = Case(n, 33, 4)
    battles = case.battles(strict=strict)
    ratings, status = battles.rate(case.x, np.zeros(4))
    assert status == "converged"
    weights = reference.battle_weights(reference.similarities(case.embeddings, case.x))
    wanted = reference.battle_ratings(
        case.tier_a, case.tier_b, case.outcome, weights, 4, strict=strict
    )
    if not strict:  # free up to a constant
        wanted, ratings = wanted - wanted.mean(), ratings - ratings.mean()
    # From float32 similarities; with exact weights the next test asks for 1e-10.
    np.testing.assert_allclose(ratings, wanted, atol=1e-6)
    for num_threads in (2, 3):
        again, _ = battles.rate(case.x, np.zeros(4), num_threads)
        np.testing.assert_array_equal(again, battles.rate(case.x, np.zeros(4))[0])


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("tiers", [2, 3, 10])
def test_ratings_from_exact_sums_are_the_optimum_from_any_start(tiers: int, strict: bool) -> None:
    case = Case(3000, 5, tiers)
    weights = reference.battle_weights(reference.similarities(case.embeddings, case.x))
    wanted = reference.battle_ratings(
        case.tier_a, case.tier_b, case.outcome, weights, tiers, strict=strict
    )
    for start in (np.zeros(tiers), np.linspace(-3.0, 3.0, tiers), wanted + 0.1):
        got = _native.rate_cells(case.wanted_sums(), tiers, strict, start)
        if not strict:
            got, wanted = got - got.mean(), wanted - wanted.mean()
        np.testing.assert_allclose(got, wanted, atol=1e-10)


def test_strict_without_a_battle_within_a_tier_is_the_formula() -> None:
    sums = np.zeros(2 * 3**2 + 3)
    sums[[1, 2, 3, 5, 6, 7]] = [5.0, 4.0, 2.0, 6.0, 1.0, 3.0]
    strict, repaired = (
        _native.rate_cells(sums, 3, strict, np.zeros(3)) for strict in (True, False)
    )
    np.testing.assert_allclose(strict, repaired, atol=1e-12)


@pytest.mark.parametrize("side", [slice(0, 9, 4), slice(18, 21)])
def test_strict_with_battles_within_tiers_that_all_pull_one_way(side: slice) -> None:
    # The likelihood then rises for ever as all ratings fall (or rise) together; their differences
    # tend to those of the formula.
    sums = np.zeros(2 * 3**2 + 3)
    sums[[1, 2, 3, 5, 6, 7]] = [5.0, 4.0, 2.0, 6.0, 1.0, 3.0]
    repaired = _native.rate_cells(sums, 3, False, np.zeros(3))
    sums[side] = 7.0
    strict = _native.rate_cells(sums, 3, True, np.zeros(3))
    np.testing.assert_allclose(np.diff(strict), np.diff(repaired), atol=1e-12)


@pytest.mark.parametrize("strict", [False, True])
def test_tiers_that_never_met(strict: bool) -> None:
    sums = np.zeros(2 * 4**2 + 4)
    sums[[1, 4, 11, 14]] = [3.0, 2.0, 1.0, 5.0]  # 0 with 1, 2 with 3
    with pytest.raises(RatingError, match="use fewer tiers"):
        _native.rate_cells(sums, 4, strict, np.zeros(4))


def test_one_tier_says_nothing() -> None:
    case = Case(10, 5, 1)
    ratings, status = case.battles().rate(case.x, np.zeros(1))
    assert (ratings.tolist(), status) == ([0.0], "converged")


@pytest.mark.parametrize("length", [1e-18, 1e-6, 1e6, 1e18])
@pytest.mark.usefixtures("simd_level")
def test_the_length_of_the_prompt_does_not_matter(length: float) -> None:
    case = Case(500, 33, 3)
    scaled = (case.x.astype(np.float64) * length).astype(np.float32)
    battles = case.battles()
    np.testing.assert_allclose(
        battles.weights_by_cell(scaled), battles.weights_by_cell(case.x), rtol=1e-5
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_a_permutation_of_the_battles_changes_only_rounding(seed: int) -> None:
    case = Case(300, 9, 3, seed % 10_000)
    order = np.random.default_rng(seed).permutation(300)
    permuted = _native.TieredBattles(case.embeddings[order], case.cells()[order], 3, False)
    np.testing.assert_allclose(
        permuted.weights_by_cell(case.x), case.battles().weights_by_cell(case.x), rtol=1e-12
    )


@given(seed=st.integers(0, 2**32 - 1))
def test_naming_the_two_models_the_other_way_round_changes_nothing(seed: int) -> None:
    case = Case(300, 9, 3, seed % 10_000)
    sums = case.battles().weights_by_cell(case.x)
    case.tier_a, case.tier_b, case.outcome = case.tier_b, case.tier_a, -case.outcome
    swapped = case.battles().weights_by_cell(case.x)
    within = [0, 4, 8, *range(18, 21)]  # a tier's wins over itself count by who was named first
    between = np.delete(np.arange(21), within)
    np.testing.assert_array_equal(swapped[between], sums[between])
    np.testing.assert_array_equal(swapped[[0, 4, 8]], sums[18:])


@pytest.mark.usefixtures("simd_level")
def test_nothing_similar() -> None:
    case = Case(500, 7, 3)
    battles = _native.TieredBattles(np.abs(case.embeddings), case.cells(), 3, False)
    down = -np.ones(7, np.float32)
    assert battles.rate(down, np.zeros(3))[1] == "nothing_similar"
    with pytest.raises(RatingError, match="no battle has a positive similarity"):
        battles.weights_by_cell(down)


def test_a_prompt_that_float32_cannot_square_after_a_router_with_more_tiers() -> None:
    # A thread's scratch keeps the sums of its last query, which may be longer than these.
    large = Case(200, 6, 30)
    large.battles().weights_by_cell(large.x)
    small = Case(20, 6, 1)
    for factor in (1e-30, 1e30):
        x = np.full(6, factor, dtype=np.float32)
        for call in (
            small.battles().weights_by_cell,
            lambda x: small.battles().rate(x, np.zeros(1)),
        ):
            with pytest.raises(InvalidInputError, match="too small or too large for float32"):
                call(x)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("simd_level")
def test_prompts_that_are_not_finite(value: float) -> None:
    case = Case(20, 33, 3)
    case.x[32] = value
    for call in (case.battles().weights_by_cell, lambda x: case.battles().rate(x, np.zeros(3))):
        with pytest.raises(InvalidInputError, match=r"^x\[32\] is -?(nan|inf)"):
            call(case.x)


def test_bad_input(tmp_path: Path) -> None:
    case = Case(20, 6, 3)
    battles, cells, start = case.battles(), case.cells(), np.zeros(3)
    make, rate, weigh = _native.TieredBattles, battles.rate, battles.weights_by_cell
    bad_arrays.check_refusals(case.embeddings, "embeddings", lambda E: make(E, cells, 3, False))
    bad_arrays.check_refusals(case.x, "x", lambda x: rate(x, start))
    bad_arrays.check_refusals(case.x, "x", weigh)
    bad_arrays.check_refusals(start, "start", lambda start: rate(case.x, start))
    bad_arrays.check_accepted(case.x, lambda x: rate(x, start)[0], tmp_path)
    bad_arrays.check_accepted(case.x, weigh, tmp_path)
    for call in (lambda x: rate(x, start), weigh):
        with pytest.raises(InvalidInputError, match="x has length 5 where the router has 6"):
            call(np.ones(5, np.float32))
        with pytest.raises(InvalidInputError, match="x is the zero vector"):
            call(np.zeros(6, np.float32))
    with pytest.raises(InvalidInputError, match="start has length 2"):
        rate(case.x, np.zeros(2))
    with pytest.raises(InvalidInputError, match="cells must have dtype uint16"):
        make(case.embeddings, cells.astype(np.int64), 3, False)
    with pytest.raises(InvalidInputError, match="embeddings and cells differ in length"):
        make(case.embeddings, cells[:19].copy(), 3, False)
    with pytest.raises(InvalidInputError, match="there are no battles"):
        make(case.embeddings[:0], cells[:0], 3, False)
    with pytest.raises(InvalidInputError, match="a cell is out of range"):
        make(case.embeddings, np.full(20, 21, np.uint16), 3, False)
    for num_tiers in (0, -1, 181, 3.0, None, True):
        with pytest.raises(InvalidInputError, match="num_tiers must be an int from 1 to 180"):
            make(case.embeddings, cells, num_tiers, False)  # type: ignore[arg-type]
    for num_threads in (0, -1, 1.5, None, True, 10**30):
        for call in (
            lambda n: rate(case.x, start, n),  # type: ignore[arg-type, misc]
            lambda n: weigh(case.x, n),  # type: ignore[arg-type, misc]
        ):
            with pytest.raises(InvalidInputError, match="num_threads must be an int from 1 to"):
                call(num_threads)


def test_bad_sums() -> None:
    sums, start = Case(200, 5, 3).wanted_sums(), np.zeros(3)
    bad_arrays.check_refusals(
        sums, "cell_sums", lambda sums: _native.rate_cells(sums, 3, False, start)
    )
    with pytest.raises(InvalidInputError, match="cell_sums must hold 10 weights for 2 tiers"):
        _native.rate_cells(sums, 2, False, start)
    with pytest.raises(InvalidInputError, match=r"cell_sums must hold .*none negative"):
        _native.rate_cells(-sums, 3, False, start)
    with pytest.raises(InvalidInputError, match=r"^cell_sums\[0\] is nan"):
        _native.rate_cells(sums * np.nan, 3, False, start)
    with pytest.raises(RatingError, match="use fewer tiers"):
        _native.rate_cells(np.zeros(21), 3, False, start)
