"""A share that holds: the stated bound for any sequence, its bounds, its state, threads, forks."""

from __future__ import annotations

import multiprocessing
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError
from fastroute.share_control import HeldShare, ShareControl

QUANTILES = np.linspace(0.4, 0.6, 1001, dtype=np.float32)
below_one = st.floats(0.0, 1.0, exclude_max=True)


def _strong(control: ShareControl, win_rates: Any) -> np.ndarray:
    return np.array([control.decide(float(w))[1] for w in win_rates])


def _drifting(kind: str, n: int) -> np.ndarray:
    """Planted drifts of n win rates below 1."""
    rng = np.random.default_rng(5)
    t = np.arange(n) / n
    calibrated = rng.uniform(0.4, 0.6, n)
    return {
        "as calibrated": calibrated,
        "harder and harder": np.clip(calibrated + 0.3 * t, 0, 0.999),
        "a jump": np.where(t < 0.4, calibrated, calibrated + 0.35),
        "back and forth": calibrated + 0.2 * np.sin(40 * t),
        "all the same": np.full(n, 0.47),
        "two prompts": rng.choice([0.1, 0.9], n),
        "all beyond the calibration": rng.uniform(0.9, 0.99, n),
        "only 0": np.zeros(n),
        "rising": t * 0.999,
        "falling": (1 - t) * 0.999,
    }[kind]


DRIFTS = [
    "as calibrated", "harder and harder", "a jump", "back and forth", "all the same",
    "two prompts", "all beyond the calibration", "only 0", "rising", "falling",
]  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("kind", DRIFTS)
def test_the_share_holds_under_drift(kind: str, share: float) -> None:
    n, held = 20_000, HeldShare(share)
    strong = _strong(ShareControl(held, QUANTILES), _drifting(kind, n))
    off = np.abs(np.cumsum(strong) - share * np.arange(1, n + 1))
    assert off.max() <= 1 / held.step + 1e-6  # at every moment since the start
    for length in (100, 5000):  # and over any requests in a row
        sums = np.convolve(strong, np.ones(length), mode="valid")
        assert np.abs(sums - share * length).max() <= (1 + held.step) / held.step + 1e-6
    assert abs(strong.mean() - share) < 0.011  # the bound; most do better


@pytest.mark.parametrize("kind", ["as calibrated", "a jump", "all beyond the calibration"])
def test_hard_prompts_stay_strong_wherever_the_win_rates_lie(kind: str) -> None:
    rates = _drifting(kind, 20_000)
    strong = _strong(ShareControl(HeldShare(0.3), QUANTILES), rates)
    late = slice(15_000, None)
    cut = np.quantile(rates[late], 0.7)
    assert np.mean(strong[late] == (rates[late] >= cut)) > 0.93  # of chance 0.58


@given(
    st.lists(below_one, max_size=200),
    st.floats(0.0, 1.0),
    st.floats(1e-3, 1.0),
    st.integers(2, 40),
    st.lists(st.floats(0.0, 1.0, width=32), min_size=2, max_size=9).map(sorted),
)
def test_the_bound_holds_for_any_sequence(
    rates: list[float], share: float, step: float, window: int, calibration: list[float]
) -> None:
    held = HeldShare(share, step=step, window=window)
    control = ShareControl(held, np.array(calibration, dtype=np.float32))
    strong = 0
    for count, rate in enumerate(rates, 1):
        threshold, is_strong = control.decide(rate)
        assert is_strong == (rate >= threshold)
        strong += is_strong
        assert abs(strong - share * count) <= 1 / step + 1e-9 * count
    state = control.state
    assert (state.requests, state.strong, state.at_bound) == (len(rates), strong, 0)


@settings(max_examples=50)
@given(st.floats(0.01, 0.99), st.floats(0.01, 1.0), st.integers(2, 20))
def test_the_bound_holds_against_an_adversary(share: float, step: float, window: int) -> None:
    control = ShareControl(HeldShare(share, step=step, window=window), QUANTILES)
    strong = 0
    for count in range(1, 300):
        # The prompts that push away from the share, whatever the threshold is.
        wanted = strong >= share * (count - 1)
        threshold = control.threshold
        rate = min(threshold, np.nextafter(1.0, 0.0)) if wanted else np.nextafter(threshold, -1)
        strong += control.decide(max(float(rate), 0.0))[1]
        assert abs(strong - share * count) <= 1 / step + 1e-6


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans()), max_size=200),
    st.floats(0.0, 1.0),
    st.floats(1e-3, 1.0),
    st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted),
)
def test_decisions_may_be_overruled_and_the_threshold_bounded(
    calls: list[tuple[float, bool]], share: float, step: float, bounds: list[float]
) -> None:
    held = HeldShare(share, step, 10, *bounds)
    control = ShareControl(held, QUANTILES)
    counted = strong = 0
    for rate, side in calls:
        before = control.state
        control.record(rate, side)
        state = control.state
        assert bounds[0] <= state.threshold <= bounds[1]
        if state.at_bound == before.at_bound:
            counted += 1
            strong += side
        # Over those that counted, the share is within the bound all the same.
        assert abs(strong - share * counted) <= 1 / step + 1e-9 * len(calls)
    assert state.requests == len(calls) if calls else True


def test_a_bound_that_is_left_lets_the_share_recover_at_once() -> None:
    control = ShareControl(HeldShare(0.3, max_threshold=0.55), QUANTILES)
    hard = _strong(control, np.full(5000, 0.7))
    assert hard.mean() > 0.95  # the bound keeps the threshold below them
    assert control.state.at_bound > 4000
    assert control.threshold == 0.55
    usual = _strong(control, np.random.default_rng(1).uniform(0.4, 0.6, 5000))
    assert abs(usual[:2000].mean() - 0.3) < 0.06
    assert control.state.recent_share == usual[-1000:].mean()


def test_a_win_rate_of_1_is_strong_and_loses_no_balance() -> None:
    control = ShareControl(HeldShare(0.3), QUANTILES)
    assert _strong(control, np.ones(3000)).all()
    rest = _strong(control, np.random.default_rng(1).uniform(0.4, 0.6, 5000))
    assert abs(rest.mean() - 0.3) <= 1.005 / (0.005 * 5000)


def test_the_state_says_where_it_is() -> None:
    control = ShareControl(HeldShare(0.25, window=4), QUANTILES)
    state = control.state
    assert state[:1] + state[2:5] == (0.25, 0, 0, 0)
    assert np.isnan(state.recent_share)
    assert state.threshold == control.threshold == pytest.approx(0.55, abs=1e-3)
    for rate in (0.9, 0.1):
        control.decide(rate)
    assert control.state.recent_share == 0.5
    for _ in range(4):
        control.decide(0.0)
    assert control.state[2:4] == (6, 1)
    assert control.state.recent_share == 0.0


def test_threads_lose_no_decision() -> None:
    control = ShareControl(HeldShare(0.4), QUANTILES)
    counts = [0] * 4

    def work(which: int) -> None:
        rates = np.random.default_rng(which).uniform(0.4, 0.9, 5000)
        counts[which] = int(_strong(control, rates).sum())

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = control.state
    assert (state.requests, state.strong) == (20_000, sum(counts))
    assert abs(sum(counts) - 8000) <= 1 / 0.005
    assert len(control._rates) == 1000


def _child(control: ShareControl, results: Any) -> None:
    results.put(float(_strong(control, np.full(3000, 0.5)).mean()))


def test_a_child_of_a_fork_goes_on_by_itself() -> None:
    control = ShareControl(HeldShare(0.4), QUANTILES)
    control._lock._lock.acquire()  # as if another thread held it at the fork
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_child, args=(control, results))
    process.start()
    assert abs(results.get(timeout=60) - 0.4) <= 1 / (0.005 * 3000)
    process.join()
    control._lock._lock.release()
    assert control.state.requests == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"strong_share": 1.5}, "strong_share must be in 0..1"),
        ({"strong_share": float("nan")}, "strong_share"),
        ({"strong_share": "0.5"}, "strong_share"),
        ({"step": 0.0}, "step must be above 0 and at most 1"),
        ({"step": 1.1}, "step must be above 0 and at most 1"),
        ({"window": 1}, "window"),
        ({"window": 10.5}, "window"),
        ({"min_threshold": -0.1}, "min_threshold must be in 0..1"),
        ({"max_threshold": 1.1}, "max_threshold must be in 0..1"),
        ({"min_threshold": 0.6, "max_threshold": 0.5}, "the least comes first"),
    ],
)
def test_shares_that_can_not_be_held(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        HeldShare(**{"strong_share": 0.3} | arguments)


def _furthest(kind: str, every: int) -> float:
    """How far four processes together are from their share at most, if they tell each other every
    so many decisions of each."""
    controls = [ShareControl(HeldShare(0.3), QUANTILES) for _ in range(4)]
    excess = furthest = 0.0
    rows = np.sort(_drifting(kind, 20_000).reshape(-1, 4), axis=1)  # the first has the easiest
    for t, row in enumerate(rows):
        for control, rate in zip(controls, row, strict=True):
            excess += control.decide(float(rate))[1] - 0.3
        furthest = max(furthest, abs(excess))
        if t % every == 0:
            total = sum(control.own_excess for control in controls)
            assert total == pytest.approx(excess)
            for control in controls:
                control.others_excess = total - control.own_excess
    return furthest


@pytest.mark.parametrize("kind", ["a jump", "two prompts", "all beyond the calibration"])
def test_several_processes_hold_the_share_together(kind: str) -> None:
    assert _furthest(kind, 50) <= 1 / 0.005 + 50 * 4
    assert _furthest(kind, 5) <= 1 / 0.005 + 5 * 4


def test_together_they_are_nearer_to_the_share_than_each_alone() -> None:
    kind = "all beyond the calibration"
    assert _furthest(kind, 5) < 0.5 * _furthest(kind, 10**9)


def test_a_control_that_starts_late_takes_up_what_others_have_done() -> None:
    late = ShareControl(HeldShare(0.3, step=0.01), QUANTILES)
    before = late.threshold
    late.others_excess = 20.0
    assert late.threshold > before
    late.others_excess = 0.0
    assert late.threshold == pytest.approx(before)
