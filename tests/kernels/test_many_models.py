"""P(success) of many models, the nearest rows and the choice among candidates, against oracles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reference
from fastroute import _native

SIZES = [1, 2, 15, 16, 17, 33, 73, 97, 257]


def _starts(rows: int, clusterings: int) -> Any:
    """Five lists, one of them empty, if there are clusters; else none."""
    bounds = [0, rows // 4, rows // 4, rows // 2, rows // 2 + 1, rows] if clusterings else []
    return np.array(bounds, np.int64)


def _parts(m: int, d: int, clusterings: int, prompts: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng([m, d, clusterings, prompts, seed])

    def unit(n: int) -> Any:
        rows = rng.normal(size=(n, d)).astype(np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    stacked = np.concatenate([0.2 * unit(m + 1), 0.5 * unit(min(3, d))]).astype(np.float32)
    centre = (0.1 * unit(1)[0]).astype(np.float32)
    graded = None
    if prompts:
        own = rng.normal(0, 0.2, size=(prompts, m)).astype(np.float32)
        own[rng.random(own.shape) < 0.3] = np.nan
        shared = rng.normal(0, 0.2, size=prompts).astype(np.float32)
        shared[0] = np.nan
        graded = {
            "rows": unit(prompts), "starts": _starts(prompts, clusterings), "centre": centre,
            "shared": shared, "own": own,
            "own_count": np.where(np.arange(m) % 3 == 1, np.inf, 10.0), "shared_count": 5.0,
            "count": min(10, prompts), "scanned": 3 if clusterings else 0,
        }  # fmt: skip
    return {
        "stacked": stacked, "at_centre": stacked.astype(np.float64) @ centre.astype(np.float64),
        "centre": centre, "clusters": unit(5 * clusterings),
        "of_clusters": rng.normal(0, 0.1, size=(5 * clusterings, m + 1)).astype(np.float32),
        "clusterings": clusterings, "nearest_clusters": 2 if clusterings else 0,
        "level": rng.uniform(0.2, 0.8, m), "slope": rng.uniform(0.5, 1.5, m),
        "offset": rng.normal(0, 0.1, m), "usual": rng.uniform(0.2, 0.8, m),
        "widening": np.where(np.arange(m) % 4 == 3, np.inf, 0.05), "widest": np.full(m, 0.04),
        "edge": 0.01, "most_spread": 1.0, "prompts": graded,
    }  # fmt: skip


def _estimator(parts: dict[str, Any]) -> _native.SuccessEstimator:
    graded = parts["prompts"]
    prompts = None if graded is None else _native.GradedPrompts(**graded)
    return _native.SuccessEstimator(**{**parts, "prompts": prompts})


@pytest.mark.parametrize("d", SIZES)
@pytest.mark.parametrize(
    ("m", "clusterings", "prompts"), [(1, 0, 0), (20, 2, 0), (7, 1, 40), (5, 0, 40)]
)
@pytest.mark.usefixtures("simd_level")
def test_an_estimate_is_the_formula(m: int, d: int, clusterings: int, prompts: int) -> None:
    parts = _parts(m, d, clusterings, prompts)
    estimator = _estimator(parts)
    X = np.random.default_rng(d).normal(size=(30, d)).astype(np.float32)
    X *= np.linspace(0.2, 1.6, 30, dtype=np.float32)[:, None] / np.linalg.norm(
        X, axis=1, keepdims=True
    )
    X[0] = 0.0
    seen = set()
    for x in X:
        wanted, abstained = reference.success_estimate(parts, x)
        got, status = estimator.estimate(x)
        # A product's rounding moves a probability by a little; near its middle the most.
        np.testing.assert_allclose(got, wanted, atol=3e-6)
        assert status == int(abstained)
        seen.add(abstained)
    assert seen == {True, False}


@pytest.mark.parametrize("n", [0, 1, 2, 63, 64, 65, 200])
@pytest.mark.usefixtures("simd_level")
def test_many_are_bitwise_as_one_for_any_number_of_threads(n: int) -> None:
    estimator = _estimator(_parts(9, 33, 2, 50))
    X = np.random.default_rng(n).normal(0, 0.15, size=(n, 33)).astype(np.float32)
    numbers, statuses = estimator.estimate_many(X, 1)
    assert numbers.shape == (3, n, 9)
    for threads in (2, 3):
        again, others = estimator.estimate_many(X, threads)
        assert (again == numbers).all()
        assert (others == statuses).all()
    for i in range(n):
        one, status = estimator.estimate(X[i])
        assert (one == numbers[:, i]).all()
        assert status == statuses[i]


def test_what_is_not_finite_is_said() -> None:
    estimator = _estimator(_parts(3, 17, 1, 20))
    for bad in (np.nan, np.inf):
        x = np.full(17, bad, np.float32)
        assert estimator.estimate(x)[1] == 2
        assert estimator.estimate_many(x[None, :], 1)[1].tolist() == [2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"centre": np.zeros(4, np.float32)}, "stacked, at_centre and centre differ"),
        ({"slope": np.zeros(2)}, "heads differ"),
        ({"nearest_clusters": 6}, "clusters have another shape"),
        ({"clusters": np.zeros((5, 2), np.float32)}, "clusters have another shape"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _estimator(_parts(3, 5, 1, 20) | change)
    with pytest.raises(ValueError, match="another dimension"):
        _estimator(_parts(3, 5, 1, 20)).estimate(np.zeros(6, np.float32))


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 300])
@pytest.mark.parametrize("count", [0, 1, 10])
@pytest.mark.usefixtures("simd_level")
def test_the_nearest_rows_are_those_of_greatest_product(rows: int, count: int) -> None:
    rng = np.random.default_rng(rows)
    # Small whole numbers: products are exact, and many are equal.
    among = rng.integers(-2, 3, size=(rows, 5)).astype(np.float32)
    X = rng.integers(-2, 3, size=(40, 5)).astype(np.float32)
    count = min(count, rows)
    everything = np.empty(0, np.int64), np.empty((40, 0), np.int32)
    found, products = _native.nearest_rows(among, everything[0], X, everything[1], count, 1)
    assert found.shape == (40, count)
    for i, x in enumerate(X):
        assert found[i].tolist() == reference.nearest(among, x, count)
        assert (products[i] == among[found[i]] @ x).all()
    again, _ = _native.nearest_rows(among, everything[0], X, everything[1], count, 3)
    assert (again == found).all()


def test_the_rows_of_some_lists_alone_are_scanned() -> None:
    rng = np.random.default_rng(0)
    among = rng.normal(size=(30, 4)).astype(np.float32)
    X = rng.normal(size=(25, 4)).astype(np.float32)
    starts = np.array([0, 10, 10, 13, 30], np.int64)
    lists = rng.permuted(np.tile(np.arange(4, dtype=np.int32), (25, 1)), axis=1)[:, :2].copy()
    found, products = _native.nearest_rows(among, starts, X, lists, 6, 2)
    for i, x in enumerate(X):
        rows = [r for one in lists[i] for r in range(starts[one], starts[one + 1])]
        wanted = [rows[j] for j in reference.nearest(among[rows], x, 6)]
        assert found[i].tolist() == wanted + [-1] * (6 - len(wanted))
        assert (products[i, len(wanted) :] == 0).all()
    for wrong in ([[4]], [[-1]]):
        with pytest.raises(ValueError, match="no such list"):
            _native.nearest_rows(among, starts, X[:1], np.array(wrong, np.int32), 6, 1)
    with pytest.raises(ValueError, match="does not rise"):
        _native.nearest_rows(among, starts[:-1], X, lists, 6, 1)


numbers = st.integers(0, 6).map(lambda i: i / 6)
candidates = st.lists(st.tuples(numbers, numbers), min_size=1, max_size=9)


def _cheapest(found: list[tuple[float, float]], share: float) -> int:
    most = max(q for q, _ in found)
    return min((u, -q, i) for i, (q, u) in enumerate(found) if q >= share * most)[2]


@given(
    candidates,
    st.sampled_from([0.0, 0.5, 1.0, 10.0]),
    st.sampled_from([-1.0, 0.5, math.inf]),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_the_choice_by_value_is_the_best_that_is_affordable(
    found: list[tuple[float, float]], price: float, most: float, reserved: float
) -> None:
    quality, usd = (np.array(column) for column in zip(*found, strict=True))
    cheapest = usd.min()
    within = max(most - reserved * cheapest, cheapest) if cheapest <= most else most
    keys = [(-(q - price * u), u, i) for i, (q, u) in enumerate(found) if u <= within]
    wanted = min(keys)[2] if keys else _cheapest(found, 0.0)
    assert _native.choose(quality, usd, False, price, most, reserved, -1.0) == wanted


@given(candidates, numbers)
def test_the_choice_by_a_share_is_the_cheapest_of_enough_quality(
    found: list[tuple[float, float]], share: float
) -> None:
    quality, usd = (np.array(column) for column in zip(*found, strict=True))
    assert _native.choose(quality, usd, False, 0.0, math.inf, 0.0, share) == _cheapest(found, share)
    best = min((-q, u, i) for i, (q, u) in enumerate(found))[2]
    assert _native.choose(quality, usd, True, 0.0, math.inf, 0.0, share) == best


@given(candidates, numbers, st.sampled_from([0.0, 0.5, math.inf]))
def test_expected_dollars(found: list[tuple[float, float]], tokens: float, most: float) -> None:
    a, b = (np.array(column) for column in zip(*found, strict=True))
    got = _native.TokenPrices(a, b, a + b).dollars(tokens, most)
    np.testing.assert_allclose(got, tokens * a + np.minimum(a + b, most) * b)
    with pytest.raises(ValueError, match="prices differ in length"):
        _native.TokenPrices(a, b, np.zeros(len(a) + 1))
