"""A canary: who is in it, when it goes on, and that it goes back by itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from canary_runs import Change, run
from fakes.journals import read_state, write_state
from fastroute.errors import InvalidInputError
from fastroute.rollout.bets import Contrast
from fastroute.rollout.canary import CANARY, CONTROL, Canary, Rules, Settled, place

QUICK = Rules(stages=(0.25, 0.5), quality_margin=0.1, errors_margin=0.1, dollars_margin=0.3,
              latency_margin=0.3, max_conversations=6000)  # fmt: skip


def settled(began: float, arm: str, share: float, **outcomes: float | None) -> Settled:
    known = {"quality": 0.5, "errors": 0.0, "latency": 1.0, "dollars": 0.001} | outcomes
    return Settled(began, arm, share, **known)  # type: ignore[arg-type]


def test_conversations_are_assigned_by_a_hash_and_stay() -> None:
    canary = Canary("salt", "new", 0.0)
    names = [f"conversation {i}" for i in range(20_000)]
    early = {name for name in names if canary.arm(name) == CANARY}
    assert len(early) / len(names) == pytest.approx(0.05, abs=0.006)
    canary.stage = 1
    later = {name for name in names if canary.arm(name) == CANARY}
    assert early < later
    assert len(later) / len(names) == pytest.approx(0.25, abs=0.012)
    again = Canary("salt", "other", 5.0)
    assert {name for name in names if again.arm(name) == CANARY} == early
    other = {name for name in names if place("pepper", name) < 0.05}
    assert len(other & early) / len(names) < 0.005


def test_evidence_against_a_true_hypothesis_stays_small() -> None:
    # The mean stake of a fair game is 1 at every moment, so 1/20 of gamblers may pass 20.
    passed = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        contrast, most = Contrast(1.0, 0.0), 0.0
        for _ in range(250):
            contrast.observe(rng.random() < 0.25, 0.25, float(rng.random() < 0.4))
            most = max(most, contrast.evidence.worse, contrast.evidence.better)
        passed += most >= math.log(40.0)
    assert passed <= 7


def test_evidence_of_a_difference_grows() -> None:
    rng = np.random.default_rng(0)
    contrast = Contrast(1.0, 0.0)
    for _ in range(2000):
        in_canary = bool(rng.random() < 0.25)
        contrast.observe(in_canary, 0.25, float(rng.random() < (0.6 if in_canary else 0.3)))
    assert contrast.evidence.worse > math.log(1000.0)
    assert contrast.evidence.better < 0.0
    assert contrast.evidence.fit < 0.0
    control, canary = contrast.means
    assert canary - control == pytest.approx(0.3, abs=0.08)


def test_what_happens_to_both_arms_is_no_evidence() -> None:
    # A provider that fails for everybody, more and more, says nothing of the new router.
    rng = np.random.default_rng(0)
    contrast = Contrast(1.0, 0.0)
    for i in range(3000):
        in_canary = bool(rng.random() < 0.05 + 0.4 * (i > 1500))
        share = 0.05 + 0.4 * (i > 1500)
        contrast.observe(in_canary, share, float(rng.random() < i / 3000))
    assert contrast.evidence.worse < math.log(40.0)


@pytest.mark.parametrize(
    "change",
    [Change("quality", quality=-0.4), Change("errors", errors=0.3), Change("latency", latency=3.0),
     Change("dollars", dollars=4.0)],
    ids=lambda change: change.name,
)  # fmt: skip
def test_a_canary_that_is_worse_is_rolled_back(change: Change) -> None:
    canary, after = run(change, 0, 4000, QUICK)
    assert canary.status == "reverted"
    assert canary.events[-1].reason == f"alarm: {change.name} worse than allowed"
    assert canary.share == 0.0
    assert canary.arm("any") == CONTROL
    assert after < 3000


def test_a_canary_that_is_better_is_promoted_and_still_watched() -> None:
    canary, _ = run(Change("cheap", dollars=0.3), 1, 6000, QUICK)
    assert canary.status == "promoted"
    assert canary.share == 0.95
    assert [e.what for e in canary.events] == ["share 50%", "share 95%"]
    assert canary.events[-1].reason == "dollars better"
    late, _ = run(Change("late", dollars=0.3, quality=-0.6, after=-1), 1, 12_000, QUICK)
    assert late.status == "reverted"
    assert "quality" in late.events[-1].reason


def test_one_that_is_neither_is_not_promoted() -> None:
    canary, _ = run(Change("none"), 3, 6001, QUICK)
    assert canary.status == "reverted"
    assert "no proof in time of better quality or dollars" in canary.events[-1].reason


def test_without_grades_nothing_is_promoted() -> None:
    canary = Canary("x", "new", 0.0, QUICK)
    rng = np.random.default_rng(0)
    for i in range(4000):
        arm = canary.arm(str(i))
        dollars = 0.001 * rng.random() * (0.2 if arm == CANARY else 1.0)
        canary.observe(settled(canary.cursor + 1, arm, canary.share, quality=None, dollars=dollars))
    assert canary.better() == ["dollars"]
    assert canary.missing() == ["quality"]
    assert canary.status == "running"


def test_conversations_of_before_a_stage_do_not_count() -> None:
    canary = Canary("x", "new", 100.0)
    canary.observe(settled(99.0, CANARY, 0.05))
    assert canary.conversations[CANARY] == 0
    canary.observe(settled(101.0, CANARY, 0.05))
    assert canary.conversations[CANARY] == 1


def test_freeze_and_revert() -> None:
    canary = Canary("x", "new", 0.0, Rules(min_conversations=1))
    canary.freeze(1.0)
    for i in range(5):
        canary.observe(settled(2.0 + i, CANARY, canary.share))
    assert (canary.status, canary.share) == ("frozen", 0.05)
    with pytest.raises(InvalidInputError, match="frozen"):
        canary.freeze(3.0)
    canary.revert(9.0)
    assert (canary.status, canary.share) == ("reverted", 0.0)
    with pytest.raises(InvalidInputError, match="already"):
        canary.revert(9.0)


def test_state_survives(tmp_path: Path) -> None:
    whole, _ = run(Change("errors", errors=0.05), 5, 700, QUICK)
    first = Canary.start("new", QUICK, 0.0)
    write_state(tmp_path, whole)
    back = read_state(tmp_path, Canary)
    assert back is not None
    assert json.dumps(back.to_dict()) == json.dumps(whole.to_dict())
    follow = settled(whole.cursor + 5000.0, CANARY, whole.share, errors=1.0)
    back.observe(follow)
    whole.observe(follow)
    assert back.to_dict() == whole.to_dict()
    assert back.summary()["outcomes"]["errors"]["canary"] > 0.0
    json.dumps(back.summary(), allow_nan=False)
    json.dumps(first.summary(), allow_nan=False)


@pytest.mark.parametrize(
    "rules",
    [{"stages": (0.5, 0.2)}, {"stages": ()}, {"stages": (1.0,)}, {"holdback": 0.0},
     {"confidence": 1.0}],
)  # fmt: skip
def test_rules_that_make_no_sense(rules: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        Rules(**rules)  # type: ignore[arg-type]
