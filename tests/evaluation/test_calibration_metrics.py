"""Brier score, calibration error and reliability bins, worked by hand and by a plain loop."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError
from fastroute.evaluation.metrics.calibration_metrics import (
    brier_score,
    expected_calibration_error,
    outcomes,
    reliability_bins,
    reliability_groups,
)


def test_by_hand() -> None:
    weak, strong = np.array([0.0, 1.0, 1.0, 0.0]), np.array([1.0, 1.0, 0.0, 1.0])
    outcome = outcomes(weak, strong)
    assert outcome.tolist() == [1.0, 0.5, 0.0, 1.0]
    rates = np.array([0.92, 0.55, 0.51, 1.0])
    assert brier_score(rates, outcome) == pytest.approx((0.0064 + 0.0025 + 0.2601 + 0.0) / 4)
    low, high = reliability_bins(rates, outcome)
    assert (low.low, low.high, low.prompts) == (0.5, 0.6, 2)
    assert (low.win_rate, low.outcome) == (pytest.approx(0.53), 0.25)
    assert low.standard_error == pytest.approx(math.sqrt(0.125 / 2))
    assert (high.low, high.high, high.prompts) == (0.9, 1.0, 2)  # 1 is in the last bin
    assert (high.win_rate, high.outcome, high.standard_error) == (pytest.approx(0.96), 1.0, 0.0)
    assert expected_calibration_error(rates, outcome) == pytest.approx(0.5 * 0.28 + 0.5 * 0.04)


@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 13))
def test_against_a_plain_loop(seed: int, n: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    rates, outcome = rng.random(n), rng.integers(0, 3, n) / 2
    assert brier_score(rates, outcome) == pytest.approx(
        sum((r - o) ** 2 for r, o in zip(rates, outcome, strict=True)) / n
    )
    error = 0.0
    for i in range(bins):
        inside = [k for k in range(n) if min(math.floor(rates[k] * bins), bins - 1) == i]
        if inside:
            gap = sum(rates[k] for k in inside) - sum(outcome[k] for k in inside)
            error += abs(gap) / n
    assert expected_calibration_error(rates, outcome, bins=bins) == pytest.approx(error)
    assert sum(part.prompts for part in reliability_bins(rates, outcome, bins=bins)) == n


def test_a_calibrated_router_has_a_small_error_and_an_overconfident_one_has_not() -> None:
    rng = np.random.default_rng(0)
    rates = rng.random(20_000)
    outcome = (rng.random(20_000) < rates).astype(np.float64)
    assert expected_calibration_error(rates, outcome) < 0.02
    assert expected_calibration_error((rates > 0.5) * 1.0, outcome) > 0.2
    assert math.isnan(reliability_bins(rates[:1], outcome[:1])[0].standard_error)


def test_bad_input() -> None:
    with pytest.raises(InvalidInputError, match=r"win_rates\[1\] is 1.5"):
        brier_score(np.array([0.5, 1.5]), np.zeros(2))
    with pytest.raises(InvalidInputError, match=r"win_rates\[0\] is nan"):
        brier_score(np.array([np.nan]), np.zeros(1))
    with pytest.raises(InvalidInputError, match="must be"):
        brier_score(np.zeros(2), np.zeros(3))
    with pytest.raises(InvalidInputError, match="bins"):
        reliability_bins(np.zeros(2), np.zeros(2), bins=0)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=200), st.integers(1, 30))
def test_groups_are_of_equal_size_and_keep_ties_together(steps: list[int], least: int) -> None:
    rates = 0.5 + np.array(steps) / 1000  # all in one bin of equal width
    outcome = np.array([i % 2 for i in range(len(steps))], dtype=np.float64)
    groups = reliability_groups(rates, outcome, least_prompts=least)
    assert sum(group.prompts for group in groups) == len(rates)
    assert len(groups) <= 10
    assert len(groups) == 1 or min(group.prompts for group in groups) >= least
    for below, above in itertools.pairwise(groups):
        assert below.high < above.low
    for group in groups:
        inside = (rates >= group.low) & (rates <= group.high)
        assert inside.sum() == group.prompts
        assert group.outcome == pytest.approx(outcome[inside].mean())


def test_groups_show_a_slope_within_one_bin_of_equal_width() -> None:
    rng = np.random.default_rng(0)
    rates = 0.5 + 0.08 * rng.random(400)
    outcome = (rng.random(400) < (rates - 0.5) / 0.08).astype(np.float64)
    assert len(reliability_bins(rates, outcome)) == 1
    groups = reliability_groups(rates, outcome)
    assert len(groups) == 10
    assert {group.prompts for group in groups} == {40}
    assert groups[-1].outcome > groups[0].outcome + 0.5
