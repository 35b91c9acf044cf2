"""Metrics against oracles written from the formulas, prompt by prompt, in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.metrics.curve import (
    METHODS,
    apgr,
    auc,
    cost_saved,
    cpt,
    curve,
    dollars_saved,
    oracle_win_rates,
    random_curve,
)

quiet = settings(deadline=None, derandomize=True, max_examples=60)


# The published algorithm, from the design's formula: decile thresholds, >=, > for the last.


def published(win_rates: list[float], weak: list[float], strong: list[float]) -> dict[str, float]:
    n = len(win_rates)
    ranked = sorted(win_rates)
    points = []
    for bin_edge in range(11):
        position = (n - 1) * bin_edge / 10
        low = math.floor(position)
        high = min(low + 1, n - 1)
        edge = ranked[low] + (ranked[high] - ranked[low]) * (position - low)
        routed = [w >= edge if bin_edge < 10 else w > edge for w in win_rates]
        quality = sum(s if r else k for r, s, k in zip(routed, strong, weak, strict=True)) / n
        points.append((sum(routed) / n, quality))
    points.sort(key=lambda point: point[0])
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(points))
    all_weak, all_strong = sum(weak) / n, sum(strong) / n
    result = {"auc": area, "apgr": (area - all_weak) / (all_strong - all_weak)}
    for target in (0.2, 0.5, 0.8):
        goal = target * (all_strong - all_weak) + all_weak
        result[f"cpt{target}"] = float(
            np.interp(goal, [q for _, q in points], [s for s, _ in points])
        )
    return result


def sample(rng: np.random.Generator, n: int, ties: bool) -> tuple[np.ndarray, ...]:
    win_rates = rng.integers(0, 7, n) / 8.0 if ties else rng.random(n)
    weak = (rng.random(n) < 0.5).astype(np.float64)
    strong = (rng.random(n) < 0.5 + 0.4 * win_rates).astype(np.float64)
    weak[0], strong[0] = 0.0, 1.0
    return win_rates, weak, strong


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "tied"])
@pytest.mark.parametrize("n", [11, 37, 100, 1009])
@pytest.mark.parametrize("seed", range(4))
def test_routellm_method_is_the_published_algorithm(n: int, seed: int, ties: bool) -> None:
    win_rates, weak, strong = sample(np.random.default_rng(seed), n, ties)
    if strong.mean() <= weak.mean():
        strong[:] = 1.0
    expected = published(win_rates.tolist(), weak.tolist(), strong.tolist())
    points = curve(win_rates, weak, strong, method="routellm")
    assert auc(points) == pytest.approx(expected["auc"], abs=1e-9)
    assert apgr(points) == pytest.approx(expected["apgr"], abs=1e-9)
    for target in (0.2, 0.5, 0.8):
        assert cpt(points, target, method="routellm") == pytest.approx(
            expected[f"cpt{target}"], abs=1e-9
        )


def test_routellm_method_with_equal_decile_edges_gives_the_formula_s_value() -> None:
    # pandas.qcut raises here, so RouteLLM prints nothing; the formula still has a value.
    win_rates = np.array([0.5] * 90 + [0.9] * 10)
    weak, strong = np.zeros(100), np.ones(100)
    strong[:50] = 0.0
    points = curve(win_rates, weak, strong, method="routellm")
    assert sorted(set(points.share.tolist())) == [0.0, 0.1, 1.0]
    assert apgr(points) == pytest.approx(
        published(win_rates.tolist(), weak.tolist(), strong.tolist())["apgr"], abs=1e-12
    )


# The exact method, by brute force over orders of tied prompts.


def brute_force_curve(win_rates: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> np.ndarray:
    """Mean quality after 0..n strong calls, over every order that respects the win rates."""
    n = len(win_rates)
    total, orders = np.zeros(n + 1), 0
    for order in itertools.permutations(range(n)):
        falling = win_rates[list(order)]
        if (falling[1:] > falling[:-1]).any():
            continue
        orders += 1
        for calls in range(n + 1):
            chosen = set(order[:calls])
            total[calls] += np.mean([strong[i] if i in chosen else weak[i] for i in range(n)])
    return total / orders


@quiet
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.integers(0, 10_000),
)
def test_exact_curve_is_the_mean_over_orders_of_ties(ranks: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    win_rates = np.array(ranks, dtype=np.float64) / 4
    n = len(ranks)
    weak, strong = rng.integers(0, 3, n).astype(float), rng.integers(1, 6, n).astype(float)
    points = curve(win_rates, weak, strong)
    expected = brute_force_curve(win_rates, weak, strong)
    np.testing.assert_allclose(points.quality_at(np.arange(n + 1) / n), expected, atol=1e-12)


def test_hand_worked_example() -> None:
    win_rates = np.array([0.9, 0.7, 0.7, 0.1])
    weak = np.array([0.0, 0.0, 1.0, 1.0])
    strong = np.array([1.0, 1.0, 1.0, 0.5])
    points = curve(win_rates, weak, strong)
    assert points.share.tolist() == [0.0, 0.25, 0.75, 1.0]
    np.testing.assert_allclose(points.quality, [0.5, 0.75, 1.0, 0.875])
    assert points.threshold.tolist() == [np.inf, 0.9, 0.7, 0.1]
    area = 0.25 * 0.625 + 0.5 * 0.875 + 0.25 * 0.9375
    assert auc(points) == pytest.approx(area)
    assert apgr(points) == pytest.approx((area - 0.5) / 0.375)
    # PGR 1 is reached at quality 0.875, half way over the tied prompts.
    assert cpt(points, 1.0) == pytest.approx(0.5)
    assert cpt(points, 0.0) == 0.0
    assert cost_saved(points, 1.0) == pytest.approx(0.5)


@quiet
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_random_is_a_half_and_the_oracle_is_best(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    win_rates, weak = rng.integers(0, 5, n) / 5, rng.integers(0, 4, n) / 2
    strong = weak + rng.integers(-1, 3, n)
    strong[0] += n  # so that the gap is positive
    line, router = random_curve(weak, strong), curve(win_rates, weak, strong)
    best = curve(oracle_win_rates(weak, strong), weak, strong)
    assert apgr(line) == pytest.approx(0.5, abs=1e-12)
    assert cpt(line, 0.3) == pytest.approx(0.3, abs=1e-12)
    assert cost_saved(line, 0.8) == pytest.approx(0.0, abs=1e-12)
    grid = np.linspace(0, 1, 23)
    assert (best.quality_at(grid) >= router.quality_at(grid) - 1e-9).all()
    assert apgr(best) >= apgr(router) - 1e-12
    for target in (0.2, 0.5, 0.95):
        assert cpt(best, target) <= cpt(router, target) + 1e-12
        assert 0.0 <= cpt(router, target) <= 1.0


@quiet
@given(st.integers(0, 10_000))
def test_only_the_order_of_win_rates_matters(seed: int) -> None:
    win_rates, weak, strong = sample(np.random.default_rng(seed), 30, ties=True)
    strong[:] = np.maximum(strong, weak)
    squashed = win_rates**3 - 5.0
    shuffle = np.random.default_rng(seed + 1).permutation(30)
    for changed in (
        curve(squashed, weak, strong),
        curve(win_rates[shuffle], weak[shuffle], strong[shuffle]),
    ):
        assert apgr(changed) == pytest.approx(apgr(curve(win_rates, weak, strong)), abs=1e-12)


@quiet
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.5, 0.95, 1.0]))
def test_cpt_is_the_least_share_that_reaches(seed: int, target: float) -> None:
    win_rates, weak, strong = sample(np.random.default_rng(seed), 25, ties=False)
    strong[:2], weak[:2] = 1.0, 0.0
    if strong.mean() <= weak.mean():
        strong[:] = 1.0
    points = curve(win_rates, weak, strong)
    share = cpt(points, target)
    goal = weak.mean() + target * (strong.mean() - weak.mean())
    fine = np.linspace(0, 1, 20_001)
    reached = fine[points.quality_at(fine) >= goal - 1e-9]
    assert share == pytest.approx(reached[0], abs=1e-4)


def test_dollars_on_the_axis() -> None:
    win_rates = np.array([0.9, 0.5, 0.1])
    weak, strong = np.zeros(3), np.array([1.0, 1.0, 0.0])
    cost_weak, cost_strong = np.full(3, 1.0), np.array([11.0, 2.0, 5.0])
    points = curve(win_rates, weak, strong, cost_weak, cost_strong)
    assert points.cost is not None
    np.testing.assert_allclose(points.cost, [1.0, 13 / 3, 14 / 3, 6.0])
    np.testing.assert_allclose(points.share, [0.0, 10 / 15, 11 / 15, 1.0])
    assert cpt(points, 0.5) == pytest.approx(10 / 15)
    assert dollars_saved(points, 1.0) == pytest.approx(1 - (14 / 3) / 6.0)
    best = curve(
        oracle_win_rates(weak, strong, cost_weak, cost_strong),
        weak, strong, cost_weak, cost_strong,
    )  # fmt: skip
    assert cpt(best, 0.5) == pytest.approx(1 / 15)  # the cheap gain first
    assert apgr(random_curve(weak, strong, cost_weak, cost_strong)) == pytest.approx(0.5)


def test_cpt_by_dollars_where_the_curve_steps_back() -> None:
    # The second strong answer is cheaper than the weak one: spending falls while quality rises.
    win_rates = np.array([0.9, 0.8, 0.7])
    weak, strong = np.zeros(3), np.ones(3)
    points = curve(win_rates, weak, strong, np.array([1.0, 6.0, 1.0]), np.array([7.0, 1.0, 9.0]))
    np.testing.assert_allclose(points.share, [0.0, 6 / 9, 1 / 9, 1.0])
    assert cpt(points, 2 / 3) == pytest.approx(1 / 9)
    assert cpt(points, 1 / 2) == pytest.approx(1 / 9)  # more quality for less than its crossing
    assert cpt(points, 1 / 6) == pytest.approx(1 / 9)


@pytest.mark.parametrize("method", METHODS)
def test_curve_runs_from_weak_to_strong(method: str) -> None:
    win_rates, weak, strong = sample(np.random.default_rng(5), 200, ties=True)
    points = curve(win_rates, weak, strong, method=method)  # type: ignore[arg-type]
    assert (points.share[0], points.share[-1]) == (0.0, 1.0)
    assert points.quality[0] == pytest.approx(weak.mean(), abs=1e-15)
    assert points.quality[-1] == pytest.approx(strong.mean(), abs=1e-15)
    assert (np.diff(points.share) >= 0).all()
    assert points.pgr[-1] == pytest.approx(1.0)
    for share, threshold in zip(points.share[1:], points.threshold[1:], strict=True):
        if method == "exact":
            assert (win_rates >= threshold).mean() == pytest.approx(share)


ONE = np.ones(3)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (([0.1], ONE, ONE), InvalidTypeError, "win_rates must be a float64 array, got list"),
        ((ONE.astype(np.float32), ONE, ONE), InvalidTypeError, "got float32"),
        ((ONE, ONE[:2], ONE), InvalidInputError, r"weak has shape \(2,\)"),
        ((ONE[:0], ONE[:0], ONE[:0]), InvalidInputError, "at least 1"),
        ((ONE * np.nan, ONE, ONE), InvalidInputError, r"win_rates\[0\] is nan"),
        ((ONE, ONE, ONE, ONE), InvalidInputError, "both of cost_weak and cost_strong"),
        ((ONE, ONE, ONE, ONE, ONE), InvalidInputError, "swap the pair"),
    ],
)
def test_bad_columns(arguments: tuple[object, ...], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        curve(*arguments)  # type: ignore[arg-type]


def test_no_gap_no_method_and_no_target() -> None:
    flat = curve(np.arange(3.0), ONE, ONE)
    for metric in (apgr, lambda c: cpt(c, 0.5), lambda c: c.pgr):
        with pytest.raises(InvalidInputError, match="without a gap"):
            metric(flat)
    good = curve(np.arange(3.0), ONE * 0, ONE)
    with pytest.raises(InvalidInputError, match="target"):
        cpt(good, 1.5)
    with pytest.raises(InvalidInputError, match="target"):
        cost_saved(good, 0.0)
    with pytest.raises(InvalidInputError, match="method"):
        curve(np.arange(3.0), ONE * 0, ONE, method="decile")  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="cost_weak"):
        dollars_saved(good, 0.5)
