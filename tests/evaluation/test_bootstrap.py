"""Bootstrap against a plain loop over the drawn prompts, with the metrics of each resample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.bootstrap import (
    Estimate,
    estimate,
    interval,
    paired_p_value,
    resample_counts,
    resample_curves,
)
from fastroute.evaluation.metrics.curve import METHODS, apgr, auc, cpt, curve, dollars_saved

TARGETS = (0.2, 0.5, 0.95)
GRID = np.linspace(0.0, 1.0, 7)


def sample(seed: int, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    weak = (rng.random(n) < 0.5).astype(np.float64)
    strong = (rng.random(n) < 0.9).astype(np.float64)
    weak[0], strong[0] = 0.0, 1.0
    cost_weak = rng.random(n)
    return {
        "rates": rng.integers(0, 6, n) / 6,  # with ties
        "weak": weak,
        "strong": strong,
        "cost_weak": cost_weak,
        "cost_strong": cost_weak + rng.random(n) * 3 - 0.4,  # some strong answers are cheaper
    }


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("with_costs", [False, True], ids=["calls", "dollars"])
@pytest.mark.parametrize(("seed", "n"), [(0, 25), (1, 60), (2, 11)])
def test_each_resample_is_the_metric_of_its_prompts(
    seed: int, n: int, with_costs: bool, method: str
) -> None:
    data = sample(seed, n)
    costs = (data["cost_weak"], data["cost_strong"]) if with_costs else (None, None)
    drawn = resample_curves(
        {"mine": data["rates"]}, data["weak"], data["strong"], *costs,
        method=method, targets=TARGETS, grid=GRID, resamples=30, seed=5,
    )["mine"]  # fmt: skip
    counts = np.concatenate(list(resample_counts(n, 30, 5)))
    assert len(drawn.apgr) == 30
    seen = 0
    for b, times in enumerate(counts):
        index = [i for i in range(n) for _ in range(int(times[i]))]
        assert len(index) == n
        weak, strong = data["weak"][index], data["strong"][index]
        c = [None if column is None else column[index] for column in costs]
        if not strong.mean() > weak.mean() or (with_costs and not c[1].mean() > c[0].mean()):
            assert np.isnan(drawn.apgr[b])
            continue
        seen += 1
        points = curve(data["rates"][index], weak, strong, *c, method=method)
        assert drawn.apgr[b] == pytest.approx(apgr(points), abs=1e-9)
        assert drawn.auc[b] == pytest.approx(auc(points), abs=1e-9)
        for i, target in enumerate(TARGETS):
            assert drawn.cpt[b, i] == pytest.approx(cpt(points, target, method=method), abs=1e-9)
            if with_costs:
                assert drawn.bill is not None
                assert drawn.bill[b, i] == pytest.approx(
                    dollars_saved(points, target, method=method), abs=1e-9
                )
        if not with_costs:
            np.testing.assert_allclose(
                drawn.pgr[b], np.interp(GRID, points.share, points.pgr), atol=1e-9
            )
    assert seen > 15
    assert (drawn.bill is None) != with_costs


def test_counts_are_draws_with_replacement_and_depend_on_the_seed() -> None:
    counts = np.concatenate(list(resample_counts(40, 300, 0)))
    assert counts.shape == (300, 40)
    assert (counts.sum(axis=1) == 40).all()
    assert counts.mean() == 1.0
    assert 0.8 < counts.var() < 1.2  # binomial(n, 1/n) has variance 1 - 1/n
    assert np.array_equal(counts, np.concatenate(list(resample_counts(40, 300, 0))))
    assert not np.array_equal(counts, np.concatenate(list(resample_counts(40, 300, 1))))
    with pytest.raises(InvalidInputError, match="resamples"):
        next(resample_counts(4, 0, 0))


def test_many_prompts_go_through_several_chunks_and_report_progress() -> None:
    n = 300_000  # one resample a chunk
    rates = np.linspace(0, 1, n)
    told: list[int] = []
    drawn = resample_curves(
        {"a": rates, "b": rates}, np.zeros(n), np.ones(n), resamples=3, advance=told.append
    )
    assert told == [1, 1, 1]
    np.testing.assert_array_equal(drawn["a"].apgr, drawn["b"].apgr)


def test_interval_is_of_percentiles_and_none_where_too_much_is_undefined() -> None:
    values = np.arange(1001.0)
    assert interval(values, 0.95) == pytest.approx((25.0, 975.0))
    assert interval(values, 0.5) == pytest.approx((250.0, 750.0))
    few = values.copy()
    few[:50] = np.nan
    assert interval(few) is not None
    few[:51] = np.nan
    assert interval(few) is None
    assert estimate(0.3, few) == Estimate(0.3)
    assert estimate(0.3, None) == Estimate(0.3)
    found = estimate(0.3, values, 0.5)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 250.0, 750.0))
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(InvalidInputError, match="confidence"):
            interval(values, confidence)


def test_interval_covers_about_as_often_as_it_says() -> None:
    # APGR of a router whose scores say nothing is 0.5: an interval of 90 % should hold it.
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(150):
        weak = (rng.random(200) < 0.4).astype(np.float64)
        strong = (rng.random(200) < 0.8).astype(np.float64)
        drawn = resample_curves({"r": rng.random(200)}, weak, strong, resamples=200, seed=trial)
        ends = interval(drawn["r"].apgr, 0.9)
        assert ends is not None
        held += ends[0] <= 0.5 <= ends[1]
    assert 0.82 <= held / 150 <= 0.97


def test_paired_p_value_by_hand() -> None:
    a = np.array([1.0, 2.0, 3.0, 4.0, -1.0, 5.0, 6.0, 7.0, 8.0])
    zero = np.zeros(9)
    assert paired_p_value(a, zero) == pytest.approx(2 * (1 + 1) / (9 + 1))
    assert paired_p_value(zero, a) == paired_p_value(a, zero)
    assert paired_p_value(a, a) == 1.0
    assert paired_p_value(zero + 1, zero) == pytest.approx(0.2)  # never 0
    a[0] = np.nan  # an undefined resample says nothing
    assert paired_p_value(a, zero) == pytest.approx(2 * (1 + 1) / (8 + 1))
    with pytest.raises(InvalidInputError, match="paired"):
        paired_p_value(a, zero[:2])


@given(st.integers(0, 10_000))
def test_pairing_sees_a_small_difference_that_separate_intervals_would_miss(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 400
    weak, strong = (rng.random(n) < 0.4).astype(float), (rng.random(n) < 0.8).astype(float)
    rates = rng.random(n) * 0.5 + 0.1 * strong
    better = rates + 0.02 * (strong - weak)  # the same router, a little better everywhere
    drawn = resample_curves({"a": better, "b": rates}, weak, strong, resamples=100, seed=seed)
    assert paired_p_value(drawn["a"].apgr, drawn["b"].apgr) < 0.05
    a, b = interval(drawn["a"].apgr), interval(drawn["b"].apgr)
    assert a is not None
    assert b is not None
    assert a[0] < b[1]  # they overlap
