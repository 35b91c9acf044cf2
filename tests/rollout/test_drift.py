"""Drift: noticed when something changes, seldom when nothing does."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from drift_runs import run
from fastroute.rollout.drift import Drift, Stream
from fastroute.rollout.quality import QualityStream


def test_no_alarm_without_a_change() -> None:
    false = sum(run("none", seed, 1000, 0)[0] > 0 for seed in range(4))
    assert false <= 1


def test_a_new_kind_of_prompt_is_noticed_soon() -> None:
    early, delay = run("100 % new prompts", 1, 1500, 1500)
    assert (early, delay < 100) == (0, True)
    _, delay = run("30 % new prompts", 1, 1500, 1500)
    assert 0 < delay < 500


@pytest.mark.parametrize("change", ["quality -0.15", "quality +0.15"])
def test_a_weak_model_that_gets_worse_or_better_is_noticed(change: str) -> None:
    noticed = sum(run(change, seed, 1500, 2500, shadows=0.1)[1] > 0 for seed in range(4))
    assert noticed >= 3


def grades(seed: int, count: int, quality: Callable[[float], float]) -> QualityStream:
    """Of prompts whose scores move from low to high."""
    rng, stream = np.random.default_rng(seed), QualityStream()
    for i in range(count):
        score = rng.beta(2 + 4 * i / count, 4)
        stream.observe("user", score, float(rng.random() < quality(score)))
    return stream


def test_other_prompts_are_no_change_of_quality() -> None:
    evidence = [grades(seed, 1500, lambda score: 0.95 - 0.8 * score).evidence for seed in range(5)]
    assert max(evidence) < np.log(120)


@pytest.mark.parametrize("quality", [0.02, 0.5, 0.98])
def test_stakes_on_grades_seldom_grow(quality: float) -> None:
    evidence = [grades(seed, 1000, lambda _: quality).evidence for seed in range(8)]
    assert np.mean(np.exp(evidence)) < 2.0  # its expectation is below 1


def test_grades_of_each_kind_are_compared_with_their_like() -> None:
    rng, drift = np.random.default_rng(0), Drift()
    for i in range(1500):
        drift.observe_grade("weak", "user", 0.3, float(rng.random() < 0.9), i)
        if i > 700:  # a judge who finds fewer answers good
            drift.observe_grade("weak", "judge", None, float(rng.random() < 0.3), i)
    assert not drift.alarms
    for i in range(300):
        drift.observe_grade("weak", "judge", None, float(rng.random() < 0.05), 2000 + i)
    [alarm] = drift.alarms
    assert alarm.stream == "quality of weak"
    assert alarm.is_of_traffic
    assert alarm.reason.startswith("lower than before, by ")
    assert drift.streams["quality of weak"].seen < 300  # it learns afresh


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
    drift.observe_grade("weak", "user", 0.5, 1.0, 4.0)
    drift.observe_router("another")  # whose win rates are on another scale
    assert not drift.streams


def test_one_of_several_routers_is_watched() -> None:
    drift = Drift()
    for i in range(200):
        for name, value in (("one", 0.2), ("other", 0.8)):
            if drift.observe_router(name):
                drift.observe("win_rate", value, i)
    assert drift.streams["win_rate"].seen == 200
    for _ in range(28):  # one more was above
        assert not drift.observe_router("other")
    assert drift.observe_router("other")  # the one is no longer in use
    assert not drift.streams


def test_state_goes_on_as_it_was() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(1500)
    whole, first = Drift(), Drift()
    for i, value in enumerate(values):
        for drift in (whole, first) if i < 800 else (whole,):
            drift.observe("win_rate", value, i)
            drift.observe_grade("weak", "user", value, float(value < 0.5), i)
    second = Drift(json.loads(json.dumps(first.to_dict())))
    for i, value in enumerate(values[800:], 800):
        second.observe("win_rate", value, i)
        second.observe_grade("weak", "user", value, float(value < 0.5), i)
    assert second.to_dict() == whole.to_dict()
    assert 0.0 <= whole.summary()["streams"][0]["evidence"] <= 1.0
