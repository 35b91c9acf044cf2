"""Matrix factorization: one pair folded into a vector, N models, batches, at every SIMD level."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bad_arrays
import reference
from fastroute import _native
from fastroute.errors import InvalidInputError

SIZES = [1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 97, 255, 256, 257, 1536]


class Factors(NamedTuple):
    P: np.ndarray
    W: np.ndarray
    c: np.ndarray


def _factors(models: int, k: int, d: int, seed: int = 0) -> Factors:
    rng = np.random.default_rng(seed + 1000 * k + d)
    return Factors(
        rng.normal(size=(models, k)).astype(np.float32),
        (rng.normal(size=(k, d)) / np.sqrt(d)).astype(np.float32),
        rng.normal(size=k).astype(np.float32),
    )


def _prompts(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def _pair(factors: Factors, strong: int = 0, weak: int = 1) -> np.ndarray:
    folded = _native.fold_models(*factors)
    return (folded[strong] - folded[weak]).astype(np.float32)


def _delta_bound(vector: np.ndarray, X: np.ndarray) -> np.ndarray:
    # The folded vector is rounded once to float32, then the bound of a dot product.
    d = X.shape[-1]
    return 2.0**-24 * (d / 16 + 26) * (np.abs(X.astype(np.float64)) @ np.abs(vector))


@pytest.mark.parametrize(("models", "k"), [(1, 1), (2, 3), (5, 17), (64, 128)])
@pytest.mark.parametrize("d", [1, 7, 64, 97])
def test_folding(models: int, k: int, d: int) -> None:
    factors = _factors(models, k, d)
    folded = _native.fold_models(*factors)
    assert folded.dtype == np.float64
    np.testing.assert_allclose(folded, reference.mf_folded(*factors), rtol=1e-12, atol=1e-14)


def test_folding_a_model_of_zeros_gives_zeros() -> None:
    P, W, c = _factors(3, 4, 5)
    P[1] = 0.0
    folded = _native.fold_models(P, W, c)
    assert not folded[1].any()
    assert folded[0].any()


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.usefixtures("simd_level")
def test_a_folded_pair_is_the_formula(d: int) -> None:
    factors, X = _factors(3, 9, d), _prompts(4, d)
    pair = _pair(factors)
    for x, bound in zip(X, _delta_bound(pair, X), strict=True):
        wanted = reference.mf_win_rate(*factors, 0, 1, x)
        # The slope of the sigmoid is at most a quarter.
        assert abs(_native.pair_win_rate(pair, x) - wanted) <= bound / 4 + 1e-15


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 255, 256, 257, 2047, 2048, 2049])
@pytest.mark.usefixtures("simd_level")
def test_a_batch_is_bitwise_its_prompts_for_any_number_of_threads(n: int) -> None:
    pair, X = _pair(_factors(2, 8, 33)), _prompts(n, 33)
    rates = _native.pair_win_rates(pair, X)
    assert rates.dtype == np.float64
    assert rates.shape == (n,)
    for num_threads in (2, 3, 8):
        np.testing.assert_array_equal(_native.pair_win_rates(pair, X, num_threads), rates)
    for i in range(0, n, max(1, n // 50)):
        assert _native.pair_win_rate(pair, X[i]) == rates[i]


@pytest.mark.parametrize("models", [1, 2, 3, 4, 5, 64, 65])
@pytest.mark.parametrize("d", [1, 17, 64, 257])
@pytest.mark.usefixtures("simd_level")
def test_many_models(models: int, d: int) -> None:
    factors, X = _factors(models, 7, d), _prompts(9, d)
    folded = _native.fold_models(*factors).astype(np.float32)
    deltas = _native.model_deltas(folded, X)
    assert deltas.dtype == np.float32
    assert deltas.shape == (9, models)
    for i, x in enumerate(X):
        for m in range(models):
            error = abs(deltas[i, m] - reference.mf_delta(*factors, m, x))
            assert error <= _delta_bound(folded[m], x) + 1e-12
    for num_threads in (2, 4):
        np.testing.assert_array_equal(_native.model_deltas(folded, X, num_threads), deltas)
    for i in range(len(X)):
        np.testing.assert_array_equal(_native.model_deltas(folded, X[i : i + 1]), deltas[i : i + 1])


@pytest.mark.usefixtures("simd_level")
def test_a_large_batch_over_many_models_for_any_number_of_threads() -> None:
    folded, X = _prompts(5, 31, seed=1), _prompts(1025, 31)
    deltas = _native.model_deltas(folded, X)
    for num_threads in (2, 3):
        np.testing.assert_array_equal(_native.model_deltas(folded, X, num_threads), deltas)
    np.testing.assert_allclose(deltas, X.astype(np.float64) @ folded.T, atol=1e-4)


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 20), d=st.integers(1, 70))
def test_a_permutation_of_prompts_permutes_the_win_rates(seed: int, n: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    pair, X = rng.normal(size=d).astype(np.float32), _prompts(n, d, seed)
    order = rng.permutation(n)
    np.testing.assert_array_equal(
        _native.pair_win_rates(pair, X[order]), _native.pair_win_rates(pair, X)[order]
    )


@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 70))
def test_swapping_the_models_gives_the_other_share(seed: int, d: int) -> None:
    factors, x = _factors(2, 5, d, seed % 1000), _prompts(1, d, seed)[0]
    there = _native.pair_win_rate(_pair(factors, 0, 1), x)
    back = _native.pair_win_rate(_pair(factors, 1, 0), x)
    assert abs(there + back - 1.0) <= 2.0**-52
    assert 0.0 <= there <= 1.0


@pytest.mark.usefixtures("simd_level")
def test_extreme_products() -> None:
    ones = np.ones(4, dtype=np.float32)
    assert _native.pair_win_rate(ones, ones * np.float32(1e4)) == 1.0
    assert 0.0 <= _native.pair_win_rate(ones, ones * np.float32(-1e4)) < 1e-300
    # Overflows in float32, not in the answer.
    large = ones * np.float32(1e30)
    assert _native.pair_win_rate(large, large) == 1.0
    assert _native.pair_win_rate(large, -large) < 1e-300
    mixed = np.array([3e38, 3e38, -3e38, -3e38], dtype=np.float32)
    assert _native.pair_win_rate(ones * np.float32(2), mixed) == 0.5
    # Orthogonal, which a zero vector would look like.
    x = np.array([1, -1, 1, -1], dtype=np.float32)
    assert _native.pair_win_rate(ones, x) == 0.5
    X = np.stack([x, ones, mixed, large])
    np.testing.assert_array_equal(
        _native.pair_win_rates(ones, X), [_native.pair_win_rate(ones, row) for row in X]
    )
    # A pair of one model with itself.
    assert _native.pair_win_rate(ones * 0, ones) == 0.5


def test_bad_arrays(tmp_path: Path) -> None:
    P, W, c = _factors(3, 4, 6)
    pair, X = _pair(Factors(P, W, c)), _prompts(5, 6)
    folded = _native.fold_models(P, W, c).astype(np.float32)
    fold, one, many, deltas = (
        _native.fold_models,
        _native.pair_win_rate,
        _native.pair_win_rates,
        _native.model_deltas,
    )
    bad_arrays.check_refusals(P, "models", lambda P: fold(P, W, c))
    bad_arrays.check_refusals(W, "projection", lambda W: fold(P, W, c))
    bad_arrays.check_refusals(c, "weights", lambda c: fold(P, W, c))
    bad_arrays.check_refusals(pair, "pair", lambda pair: one(pair, X[0]))
    bad_arrays.check_refusals(X[0], "x", lambda x: one(pair, x))
    bad_arrays.check_refusals(pair, "pair", lambda pair: many(pair, X))
    bad_arrays.check_refusals(X, "X", lambda X: many(pair, X))
    bad_arrays.check_refusals(folded, "folded", lambda folded: deltas(folded, X))
    bad_arrays.check_refusals(X, "X", lambda X: deltas(folded, X))
    bad_arrays.check_accepted(P, lambda P: fold(P, W, c), tmp_path)
    bad_arrays.check_accepted(X, lambda X: many(pair, X), tmp_path)
    bad_arrays.check_accepted(X[1], lambda x: one(pair, x), tmp_path)
    bad_arrays.check_accepted(X, lambda X: deltas(folded, X), tmp_path)


def test_wrong_dimensions() -> None:
    P, W, c = _factors(3, 4, 6)
    pair = _pair(Factors(P, W, c))
    with pytest.raises(InvalidInputError, match=r"must be \[m, k\], \[k, d\] and \[k\] with one k"):
        _native.fold_models(P[:, :3].copy(), W, c)
    with pytest.raises(InvalidInputError, match=r"must be \[m, k\], \[k, d\] and \[k\] with one k"):
        _native.fold_models(P, W, c[:3].copy())
    with pytest.raises(InvalidInputError, match="x has length 5 where the router has 6"):
        _native.pair_win_rate(pair, np.ones(5, np.float32))
    with pytest.raises(InvalidInputError, match="X has 5 columns where the router has 6"):
        _native.pair_win_rates(pair, np.ones((3, 5), np.float32))
    with pytest.raises(InvalidInputError, match="X has 5 columns where the router has 6"):
        _native.model_deltas(pair[None], np.ones((3, 5), np.float32))
    with pytest.raises(InvalidInputError, match="x has length 0 where the router has 6"):
        _native.pair_win_rate(pair, np.empty(0, np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.usefixtures("simd_level")
def test_values_that_are_not_finite(value: float) -> None:
    P, W, c = _factors(3, 4, 33)
    pair, X = _pair(Factors(P, W, c)), _prompts(300, 33)
    X[290, 32] = value
    with pytest.raises(InvalidInputError, match=r"^X\[290\]\[32\] is -?(nan|inf)"):
        _native.pair_win_rates(pair, X, 2)
    with pytest.raises(InvalidInputError, match=r"^x\[32\] is -?(nan|inf)"):
        _native.pair_win_rate(pair, X[290])
    with pytest.raises(InvalidInputError, match=r"^X\[290, 32\] is -?(nan|inf)"):
        _native.model_deltas(pair[None], X)
    pair[0] = value
    with pytest.raises(InvalidInputError, match=r"^pair\[0\] is -?(nan|inf)"):
        _native.pair_win_rate(pair, X[0])
    for position, name in enumerate(("models", "projection", "weights")):
        arrays = [P.copy(), W.copy(), c.copy()]
        arrays[position].flat[0] = value
        with pytest.raises(InvalidInputError, match=rf"^{name}\[0.*\] is -?(nan|inf)"):
            _native.fold_models(*arrays)


@pytest.mark.usefixtures("simd_level")
def test_zero_vectors() -> None:
    pair, X = np.ones(33, np.float32), _prompts(300, 33)
    X[270] = 0.0
    with pytest.raises(InvalidInputError, match=r"^X\[270\] is the zero vector"):
        _native.pair_win_rates(pair, X, 2)
    with pytest.raises(InvalidInputError, match=r"^x is the zero vector"):
        _native.pair_win_rate(pair, X[270])


@pytest.mark.parametrize("num_threads", [0, -1, 1.0, True, None, "2", 10**30])
def test_num_threads_must_be_a_sane_count(num_threads: object) -> None:
    pair, X = np.ones(3, np.float32), np.ones((2, 3), np.float32)
    for call in (
        lambda: _native.pair_win_rates(pair, X, num_threads),  # type: ignore[arg-type]
        lambda: _native.model_deltas(pair[None], X, num_threads),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInputError, match="num_threads must be an int from 1 to 1024"):
            call()
