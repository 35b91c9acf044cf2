"""Risk control: p-values that are valid, thresholds that keep what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fastroute.errors import InvalidInputError
from fastroute.learning import Goal
from fastroute.learning.tune.guarantee import Graded, betting_p_values, certify, rows_needed

_QUALITY = Goal("quality", 0.95, 0.95)


def _graded(n: int, rng: np.random.Generator, gap: float = 0.3) -> tuple[Graded, np.ndarray]:
    """Prompts whose win rate is the chance that only the strong model is right."""
    rates = rng.random(n)
    strong = (rng.random(n) < 0.9).astype(np.float64)
    weak = np.where(rng.random(n) < 2 * gap * rates, 0.0, strong)
    return Graded(weak, strong, np.full(n, 1e-4), np.full(n, 2e-3), np.arange(n), 1e-2), rates


def _graded_of(everyone: Graded, rows: slice) -> Graded:
    return Graded(everyone.weak[rows], everyone.strong[rows], None, None, everyone.units[rows])


def test_the_promise_is_kept_on_five_times_as_many_further_requests() -> None:
    kept = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        graded, rates = _graded(600, rng)
        found = certify(_QUALITY, np.linspace(0.01, 1.0, 100), rates, graded)
        assert found.threshold is not None
        later, rates = _graded(3000, rng)
        chosen = np.where(rates >= found.threshold, later.strong, later.weak)
        kept.append(chosen.mean() >= 0.95 * later.strong.mean())
    assert np.mean(kept) >= 0.95


@pytest.mark.parametrize("mean", [0.0, 0.02])
@pytest.mark.parametrize("n", [30, 300])
def test_p_values_are_valid_where_the_loss_is_not_below_0(mean: float, n: int) -> None:
    rng = np.random.default_rng(n)
    losses = np.where(rng.random((4000, n)) < (0.05 + mean) / 1.0, 0.95, -0.05)
    assert losses.mean() >= mean - 1e-3
    for level in (0.05, 0.2):
        rejected = (betting_p_values(losses, -1.0, 0.95, level) <= level).mean()
        assert rejected <= level + 3 * math.sqrt(level / 4000)


def test_p_values_find_what_is_far_below_0() -> None:
    rng = np.random.default_rng(0)
    losses = np.where(rng.random((200, 400)) < 0.01, 0.95, -0.05)
    assert (betting_p_values(losses, -1.0, 0.95, 0.05) <= 0.05).mean() > 0.9


def test_stakes_do_not_look_ahead() -> None:
    """The capital after k prompts is the same whatever comes after them."""
    rng = np.random.default_rng(1)
    start = np.where(rng.random((1, 100)) < 0.01, 0.95, -0.05)
    ends = [np.full((1, 100), value) for value in (0.9, 0.5)]  # the greatest was before them
    worst = [betting_p_values(np.hstack([start, end]), -1.0, 0.95, 0.05)[0] for end in ends]
    assert worst[0] == worst[1]


def test_the_promise_is_kept_in_95_of_100_draws() -> None:
    kept, shares, best = [], [], []
    everything, rates = _graded(200_000, np.random.default_rng(100))
    thresholds = np.linspace(0.01, 1.0, 100)
    true = np.array([
        np.where(rates >= t, everything.strong, everything.weak).mean() for t in thresholds
    ]) / everything.strong.mean()  # fmt: skip
    for seed in range(400):
        graded, drawn = _graded(800, np.random.default_rng(seed))
        found = certify(_QUALITY, thresholds, drawn, graded)
        assert found.threshold is not None
        i = int(np.argmin(np.abs(thresholds - found.threshold)))
        kept.append(true[i] >= 0.95)
        shares.append((rates >= found.threshold).mean())
        best.append((rates >= thresholds[np.flatnonzero(true >= 0.95)[-1]]).mean())
    assert np.mean(kept) >= 0.95
    # And it is no guarantee by sending nearly everything to the strong model.
    assert np.mean(shares) < 1.25 * np.mean(best)


def test_the_weak_model_alone_is_certified_on_all_prompts_where_a_sequence_has_too_few() -> None:
    thresholds, found = np.linspace(0.01, 1.0, 100), []
    for seed in range(50):
        everyone, rates = _graded(600, np.random.default_rng(seed), gap=0.02)
        half = _graded_of(everyone, slice(300))
        found.append(
            [
                certify(_QUALITY, thresholds, rates[:300], half, more).threshold == 1.0
                for more in (None, everyone)
            ]
        )
    without, alone = np.mean(found, axis=0)
    assert alone > without + 0.1


def test_the_weak_model_alone_is_seldom_certified_where_it_misses_the_promise() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):  # the weak model is just at the target, and no prompt tells
        strong = np.ones(300)
        weak = (rng.random(300) < 0.9499).astype(np.float64)
        everyone = Graded(weak, strong, None, None, np.arange(300))
        found = certify(
            _QUALITY, np.array([0.5, 1.0]), rng.random(180), _graded_of(everyone, slice(180)),
            everyone,
        )  # fmt: skip
        wrong += found.threshold == 1.0
    assert wrong <= 0.05 * 400


def test_nothing_is_certified_where_the_weak_model_is_bad_everywhere() -> None:
    rng = np.random.default_rng(0)
    n = 2000
    graded = Graded(np.zeros(n), np.ones(n), None, None, np.arange(n))
    found = certify(_QUALITY, np.linspace(0.1, 1.0, 10), rng.random(n), graded)
    assert found.threshold is None
    assert found.tested == 1


def test_testing_stops_at_the_first_threshold_that_fails() -> None:
    n = 1000
    weak = np.ones(n)
    weak[:100] = 0.0  # those at win rate 0.2
    rates = np.full(n, 0.6)
    rates[:100] = 0.2
    graded = Graded(weak, np.ones(n), None, None, np.arange(n))
    found = certify(_QUALITY, np.array([0.1, 0.3, 0.7]), rates, graded)
    assert (found.threshold, found.tested) == (0.1, 2)


def test_a_sorted_export_does_not_certify_what_its_whole_misses() -> None:
    rng = np.random.default_rng(8)
    n = 4000
    strong = np.ones(n)
    weak = np.where(np.arange(n) < n // 2, 1.0, rng.random(n) < 0.75)  # easy prompts first
    graded = Graded(weak.astype(np.float64), strong, None, None, np.arange(n))
    found = certify(_QUALITY, np.array([1.0]), np.full(n, 0.5), graded)  # all to the weak model
    assert weak.mean() < 0.9
    assert found.threshold is None


def test_a_group_counts_as_one_prompt() -> None:
    graded, rates = _graded(40, np.random.default_rng(3), gap=0.0)
    repeated = Graded(
        *(np.tile(values, 20) for values in (graded.weak, graded.strong)),
        None, None, np.tile(graded.units, 20),
    )  # fmt: skip
    thresholds = np.array([0.01, 0.5])
    once = certify(_QUALITY, thresholds, rates, graded)
    again = certify(_QUALITY, thresholds, np.tile(rates, 20), repeated)
    assert once == again
    assert once.prompts == 40


def test_groups_are_averaged() -> None:
    graded = Graded(np.zeros(4), np.zeros(4), None, None, np.array([7, 2, 7, 2]))
    assert graded.by_unit(np.array([1.0, 2.0, 3.0, 6.0])).tolist() == [2.0, 4.0]


def test_a_share_and_a_spend_are_promised_from_the_weak_end() -> None:
    graded, rates = _graded(2000, np.random.default_rng(5))
    thresholds = np.linspace(0.99, 0.01, 99)
    share = certify(Goal("share", 0.3, 0.95), thresholds, rates, graded)
    assert share.threshold is not None
    assert 0.2 < (rates >= share.threshold).mean() < 0.3
    spend = certify(Goal("spend", 1.0, 0.95), thresholds, rates, graded)  # 0.1 to 2 a thousand
    assert spend.threshold is not None
    assert 0.5 < 0.1 + 1.9 * (rates >= spend.threshold).mean() <= 1.0


def test_a_spend_needs_costs() -> None:
    graded = Graded(np.zeros(3), np.ones(3), None, None, np.arange(3))
    with pytest.raises(InvalidInputError, match="--price"):
        certify(Goal("spend", 1.0, 0.95), np.array([0.5]), np.zeros(3), graded)


@pytest.mark.parametrize(
    ("kind", "target", "confidence"),
    [
        ("quality", 0.0, 0.95),
        ("quality", 1.0, 0.95),
        ("share", 1.5, 0.95),
        ("spend", -1.0, 0.95),
        ("spend", math.inf, 0.95),
        ("quality", math.nan, 0.95),
        ("quality", 0.9, 1.0),
        ("quality", 0.9, 0.4),
        ("quality", 0.9, math.nan),
    ],
)
def test_goals_that_are_none_are_refused(kind: str, target: float, confidence: float) -> None:
    with pytest.raises(InvalidInputError, match=r"target|confidence"):
        Goal(kind, target, confidence)  # type: ignore[arg-type]


def test_rows_needed_are_about_those_that_do() -> None:
    rng = np.random.default_rng(6)
    population = np.where(rng.random(100_000) < 0.03, 0.95, -0.05)
    needed = rows_needed(_QUALITY, population, 0.95)
    level = _QUALITY.level
    for share, least, most in ((1.0, 0.5, 0.95), (3.0, 0.97, 1.0), (0.25, 0.0, 0.4)):
        drawn = rng.choice(population, (300, round(share * needed)))
        certified = (betting_p_values(drawn, -1.0, 0.95, level) <= level).mean()
        assert least <= certified <= most
    assert math.isinf(rows_needed(_QUALITY, -population, 0.95))
