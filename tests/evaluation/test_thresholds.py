"""Thresholds for a share and for a quality, by brute force; calibration never on training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import ContaminationError, InvalidInputError
from fastroute.evaluation.benchmarks.protocols import folds
from fastroute.evaluation.metrics.bootstrap import resample_counts
from fastroute.evaluation.thresholds.calibration import calibrate_quality, calibrate_share
from fastroute.evaluation.thresholds.choice import (
    shortest_between,
    threshold_for_share,
)
from fastroute.evaluation.thresholds.quality import SPLITS, WIDE, threshold_for_quality
from fastroute.routers import LengthRouter, RandomRouter

from .toy_routers import Numbered, toy_benchmark


@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.floats(0, 1))
def test_share_is_the_nearest_that_any_threshold_has(steps: list[int], share: float) -> None:
    rates = np.array(steps) / 20
    found = threshold_for_share(rates, share, resamples=0)
    assert 0.0 <= found.threshold.value <= 1.0
    assert found.share.value == pytest.approx((rates >= found.threshold.value).mean())
    candidates = [*np.unique(rates), *([np.nextafter(rates.max(), 2)] if rates.max() < 1 else [])]
    best = min(abs((rates >= t).mean() - share) for t in candidates)
    assert abs(found.share.value - share) == pytest.approx(best)
    assert found.threshold.low is None


def test_share_interval_narrows_with_prompts_and_holds_the_truth() -> None:
    widths = []
    for n in (200, 5_000):
        rates = np.random.default_rng(n).random(n)
        found = threshold_for_share(rates, 0.3, resamples=300)
        low, high = found.threshold.low, found.threshold.high
        assert low is not None
        assert high is not None
        assert low <= found.threshold.value <= high
        assert low < 0.7 < high  # uniform win rates: 30 % are above 0.7
        assert found.share.low is not None
        widths.append(high - low)
    assert widths[1] < widths[0] / 3


def test_extreme_shares_hold_for_prompts_to_come() -> None:
    rates = np.array([0.4, 0.5, 0.6])
    assert threshold_for_share(rates, 1.0, resamples=0).threshold.value == 0.0
    none = threshold_for_share(rates, 0.0, resamples=0).threshold.value
    assert 0.6 < none <= 1.0


@pytest.mark.parametrize(
    ("low", "high", "short"),
    [(0.1, 0.9, 0.9), (0.123, 0.1299, 0.129), (0.5, 0.5000001, 0.5000001), (-1.0, 0.0, 0.0)],
)
def test_short_thresholds_decide_the_same(low: float, high: float, short: float) -> None:
    assert shortest_between(low, high) == pytest.approx(short, abs=1e-12)
    assert low < shortest_between(low, high) <= high


@pytest.mark.parametrize("measure", ["quality", "pgr"])
@pytest.mark.parametrize("costs", [False, True])
@pytest.mark.parametrize("target", [0.5, 0.9, 0.97, 1.0])
def test_quality_threshold_is_the_cheapest_on_its_half(
    measure: str, costs: bool, target: float
) -> None:
    toy = toy_benchmark(300, costs=costs)
    rates = Numbered().win_rates(toy.prompts)
    found = threshold_for_quality(rates, toy, target, measure=measure, resamples=50)
    first = folds(toy.prompts, 2, 0) == 0
    assert (found.chosen_on.prompts, found.held_out.prompts) == (first.sum(), (~first).sum())
    half, r = toy.select(first), rates[first]
    best = np.inf
    for threshold in [*np.unique(r), 1.0]:
        strong = r >= threshold
        quality = np.where(strong, half.strong, half.weak).mean()
        weak, top = half.weak.mean(), half.strong.mean()
        reached = quality / top if measure == "quality" else (quality - weak) / (top - weak)
        if reached >= target - 1e-12:
            spent = strong.mean()
            if costs:
                assert half.cost_weak is not None
                assert half.cost_strong is not None
                spent = np.where(strong, half.cost_strong, half.cost_weak).mean()
            best = min(best, spent)
    chosen = found.chosen_on.cost if costs else found.chosen_on.share
    assert chosen is not None
    assert chosen.value == pytest.approx(best)
    assert found.chosen_on.reached.value >= target - 1e-12
    # The other half is measured, not chosen on.
    other, q = toy.select(~first), rates[~first]
    routed = np.where(q >= found.threshold.value, other.strong, other.weak).mean()
    assert found.held_out.quality.value == pytest.approx(100 * routed)
    assert found.held_out.share.value == pytest.approx((q >= found.threshold.value).mean())
    low, high = found.held_out.reached.low, found.held_out.reached.high
    assert low is not None
    assert high is not None
    assert low <= found.held_out.reached.value <= high


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"target": 0.0}, "target"),
        ({}, {"target": 1.1}, "target"),
        ({}, {"measure": "score"}, "measure"),
        ({"weak": np.ones(40), "strong": np.ones(40)}, {}, "without a gap"),
        ({"prompts": ("same",) * 40}, {}, "can't be split"),
    ],
)
def test_quality_needs_something_to_choose(
    change: dict[str, object], options: dict[str, object], message: str
) -> None:
    toy = replace(toy_benchmark(40), **change)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match=message):
        threshold_for_quality(np.linspace(0, 1, 40), toy, **({"target": 0.9} | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("costs", [False, True])
@pytest.mark.parametrize("measure", ["quality", "pgr"])
def test_the_interval_of_a_threshold_is_that_of_the_choice_on_resamples(
    measure: str, costs: bool
) -> None:
    toy = toy_benchmark(200, costs=costs)
    rates = Numbered().win_rates(toy.prompts)
    found = threshold_for_quality(rates, toy, 0.9, measure=measure, resamples=200)  # type: ignore[arg-type]
    first = folds(toy.prompts, 2, 0) == 0
    half, r = toy.select(first), rates[first]
    chosen = []
    for counts in np.concatenate(list(resample_counts(len(half), 200, 0))):
        best = (np.inf, np.inf)
        for threshold in [*np.unique(r), 1.0]:
            strong = r >= threshold
            mean = [
                np.average(values, weights=counts)
                for values in (np.where(strong, half.strong, half.weak), half.weak, half.strong)
            ]
            goal = 0.9 * mean[2] if measure == "quality" else mean[1] + 0.9 * (mean[2] - mean[1])
            spent = np.average(strong, weights=counts)
            if half.cost_weak is not None and half.cost_strong is not None:
                spent = np.average(
                    np.where(strong, half.cost_strong, half.cost_weak), weights=counts
                )
            if mean[0] >= goal - 1e-12:
                best = min(best, (spent, -threshold))
        chosen.append(-best[1])
    low, high = np.quantile(chosen, [0.025, 0.975])
    assert found.threshold.low is not None
    assert found.threshold.high is not None
    assert found.threshold.low == pytest.approx(low, abs=0.011)  # thresholds have few digits
    assert found.threshold.high == pytest.approx(high, abs=0.011)
    assert found.threshold.low <= found.threshold.value <= found.threshold.high
    assert found.share.value == (rates >= found.threshold.value).mean()
    assert found.share.low == (rates >= found.threshold.high).mean()
    assert found.share.high == (rates >= found.threshold.low).mean()


def test_other_splits_are_chosen_on_as_the_own_one_is() -> None:
    toy = toy_benchmark(300)
    rates = Numbered().win_rates(toy.prompts)
    each = [
        threshold_for_quality(rates, toy, 0.9, seed=seed, resamples=0) for seed in range(SPLITS + 1)
    ]
    thresholds = [found.threshold.value for found in each[1:]]
    assert each[0].splits == (min(thresholds), max(thresholds))
    assert min(thresholds) < max(thresholds)


def test_rows_that_are_needed_are_about_enough() -> None:
    few = toy_benchmark(200)
    rates = Numbered().win_rates(few.prompts)
    found = threshold_for_quality(rates, few, 0.9, resamples=300)
    assert found.prompts_needed is not None
    assert found.prompts_needed > 200
    assert any("the threshold is uncertain" in line for line in found.warnings())
    many = toy_benchmark(4 * found.prompts_needed, seed=1)
    enough = threshold_for_quality(Numbered().win_rates(many.prompts), many, 0.9, resamples=300)
    assert enough.prompts_needed is None
    assert enough.share.high is not None
    assert enough.share.low is not None
    assert enough.share.high - enough.share.low < WIDE
    assert not any("uncertain" in line for line in enough.warnings())


def test_a_router_that_loses_is_told_from_one_that_does_not() -> None:
    toy = toy_benchmark(400)
    rates = Numbered().win_rates(toy.prompts)
    assert threshold_for_quality(rates, toy, 0.9, resamples=0).losses() == []
    lost = threshold_for_quality(1.0 - rates, toy, 0.9, resamples=0)
    assert [line.split("that of ")[1] for line in lost.losses()] == [
        "random routing", "the length of the prompt"
    ]  # fmt: skip
    own = threshold_for_quality(LengthRouter().win_rates(toy.prompts), toy, 0.9, resamples=0)
    assert own.length_apgr is None  # it is not compared with itself


def test_bad_win_rates() -> None:
    for rates in (np.array([1.5]), np.array([np.nan]), np.empty(0)):
        with pytest.raises(InvalidInputError, match="win_rates"):
            threshold_for_share(rates, 0.5)
    with pytest.raises(InvalidInputError, match="share"):
        threshold_for_share(np.ones(2), 1.5)
    with pytest.raises(InvalidInputError, match="2 win rates for 40"):
        threshold_for_quality(np.ones(2), toy_benchmark(40), 0.9)


def test_calibration_by_quantiles_or_prompts() -> None:
    found = calibrate_share(RandomRouter(0), 0.25, resamples=0)
    assert found.threshold.value == pytest.approx(0.75, abs=0.002)
    assert found.prompts == 1001
    toy = toy_benchmark(100)
    found = calibrate_share(Numbered(), 0.25, prompts=toy.prompts, resamples=0)
    assert found.prompts == 100
    assert found.share.value == pytest.approx(0.25, abs=0.01)
    with pytest.raises(InvalidInputError, match="--prompts FILE"):
        calibrate_share(LengthRouter(), 0.25)
    with pytest.raises(InvalidInputError, match="prompts is empty"):
        calibrate_share(Numbered(), 0.25, prompts=[])


def test_training_prompts_are_never_calibrated_on() -> None:
    toy = toy_benchmark(100)
    router = Numbered(trained_on=toy.prompts[:40])
    with pytest.raises(ContaminationError, match="40 of the 100"):
        calibrate_share(router, 0.3, prompts=toy.prompts)
    with pytest.raises(ContaminationError, match="40 of the 100"):
        calibrate_quality(router, toy, 0.9)
    assert router.asked == []
    assert calibrate_share(router, 0.3, prompts=toy.prompts, drop_trained=True).prompts == 60
    found = calibrate_quality(router, toy, 0.9, drop_trained=True, resamples=0)
    assert found.chosen_on.prompts + found.held_out.prompts == 60
    assert not set(router.asked) & set(toy.prompts[:40])
    with pytest.raises(InvalidInputError, match="no prompts are left"):
        calibrate_share(router, 0.3, prompts=toy.prompts[:40], drop_trained=True)
