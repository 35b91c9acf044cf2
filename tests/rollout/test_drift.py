"""Drift: noticed when something changes, seldom when nothing does."""

from __future__ import annotations

import json

import numpy as np

from drift_runs import run
from fastroute.rollout.drift import Drift, Stream


def test_no_alarm_without_a_change() -> None:
    false = sum(run("none", seed, 1000, 0)[0] > 0 for seed in range(4))
    assert false <= 1


def test_a_new_kind_of_prompt_is_noticed_soon() -> None:
    early, delay = run("100 % new prompts", 1, 1500, 1500)
    assert (early, delay < 100) == (0, True)
    _, delay = run("30 % new prompts", 1, 1500, 1500)
    assert 0 < delay < 500


def test_ranks_are_uniform_for_values_that_tie() -> None:
    # All values are equal: chance alone decides, so there is nothing to win.
    rng = np.random.default_rng(0)
    stream = Stream()
    most = max(stream.observe(7, float(rng.random())) for _ in range(2000))
    assert most < 3.0


def test_a_stream_learns_afresh_after_an_alarm() -> None:
    rng = np.random.default_rng(0)
    drift = Drift()
    for i in range(3000):
        drift.observe("win_rate", rng.beta(2, 4) if i < 1000 else rng.beta(6, 3), i)
    assert len(drift.alarms) == 1
    [alarm] = drift.alarms
    assert alarm.stream == "win_rate"
    assert 1000 <= alarm.time < 1100
    assert "unlike the" in alarm.reason


def test_prices_and_routers() -> None:
    drift = Drift()
    drift.observe_price("weak", [0.15, 0.075, 0.6], 1.0)
    drift.observe_price("weak", [0.15, 0.075, 0.6], 2.0)
    assert not drift.alarms
    drift.observe_price("weak", [0.3, 0.15, 1.2], 3.0)
    [alarm] = drift.alarms
    assert alarm.stream == "price of weak"
    assert "0.15/0.075/0.6 to 0.3/0.15/1.2" in alarm.reason
    drift.observe("win_rate", 0.5, 4.0)
    drift.observe_router("another")  # whose win rates are on another scale
    assert "win_rate" not in drift.streams


def test_state_goes_on_as_it_was() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(1500)
    whole, first = Drift(), Drift()
    for i, value in enumerate(values):
        whole.observe("win_rate", value, i)
        if i < 800:
            first.observe("win_rate", value, i)
    second = Drift(json.loads(json.dumps(first.to_dict())))
    for i, value in enumerate(values[800:], 800):
        second.observe("win_rate", value, i)
    assert second.to_dict() == whole.to_dict()
    assert 0.0 <= whole.summary()["streams"][0]["evidence"] <= 1.0
