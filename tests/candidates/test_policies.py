"""Policies: what they choose, that money never costs quality, and that ceilings hold."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.candidates import (
    BestValue,
    ChoicePolicy,
    MaxQuality,
    QualityAtLeast,
    SpendAtMost,
    SpendPerDay,
    parse_policy,
)
from fastroute.candidates.policies import DayAccount
from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array

QUALITY = np.array([0.5, 0.7, 0.8, 0.8])
DOLLARS = np.array([0.001, 0.002, 0.02, 0.01])


@st.composite
def offers(draw: st.DrawFn) -> tuple[Float64Array, Float64Array]:
    """Quality and dollars of a few candidates, with ties."""
    count = draw(st.integers(1, 8))
    numbers = st.integers(0, 20).map(lambda n: n / 20)
    column = st.lists(numbers, min_size=count, max_size=count)
    return np.array(draw(column)), np.array(draw(column))


def test_each_chooses_what_it_says() -> None:
    assert MaxQuality().choose(QUALITY, DOLLARS) == 3  # of equals the cheaper
    assert QualityAtLeast(0.85).choose(QUALITY, DOLLARS) == 1
    assert QualityAtLeast(1.0).choose(QUALITY, DOLLARS) == 3
    assert QualityAtLeast(0.0).choose(QUALITY, DOLLARS) == 0
    assert BestValue(0.0).choose(QUALITY, DOLLARS) == 3
    assert BestValue(50.0).choose(QUALITY, DOLLARS) == 1
    assert BestValue(1e6).choose(QUALITY, DOLLARS) == 0


def test_the_safe_choice_of_a_quality_is_the_best_model() -> None:
    assert QualityAtLeast(0.5).choose(QUALITY, DOLLARS) == 0
    assert QualityAtLeast(0.5).choose_safely(QUALITY, DOLLARS) == 3
    assert BestValue(50.0).choose_safely(QUALITY, DOLLARS) == 1


@given(offers(), st.floats(0, 100), st.floats(0, 100))
def test_a_cheaper_dollar_never_gives_less_quality(
    offer: tuple[Float64Array, Float64Array], a: float, b: float
) -> None:
    quality, dollars = offer
    low, high = sorted((a, b))
    rich, poor = (BestValue(x).choose(quality, dollars) for x in (low, high))
    assert quality[rich] >= quality[poor] - 1e-9
    assert dollars[rich] >= dollars[poor] - 1e-9


@given(offers(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_share_never_gives_less_quality(
    offer: tuple[Float64Array, Float64Array], a: float, b: float
) -> None:
    quality, dollars = offer
    low, high = sorted((a, b))
    less, more = (QualityAtLeast(x).choose(quality, dollars) for x in (low, high))
    assert quality[more] >= quality[less]
    assert quality[more] >= high * quality.max()


@given(offers(), st.permutations(range(8)))
def test_the_order_of_the_candidates_does_not_matter(
    offer: tuple[Float64Array, Float64Array], permutation: list[int]
) -> None:
    quality, dollars = offer
    order = np.array([i for i in permutation if i < len(quality)])
    for policy in (MaxQuality(), QualityAtLeast(0.8), BestValue(0.7)):
        first = policy.choose(quality, dollars)
        second = order[policy.choose(quality[order], dollars[order])]
        assert (quality[first], dollars[first]) == (quality[second], dollars[second])


@given(st.lists(offers(), min_size=1, max_size=60), st.floats(0.01, 2.0))
def test_spending_is_never_above_the_ceiling(
    stream: list[tuple[Float64Array, Float64Array]], allowance: float
) -> None:
    policy = SpendAtMost(1000 * allowance)
    spent, affordable = 0.0, True
    for n, (quality, dollars) in enumerate(stream, 1):
        spent += dollars[policy.choose(quality, dollars)]
        affordable &= bool(dollars.min() <= allowance)
        if affordable:
            assert spent <= n * allowance * (1 + 1e-9)
    state = policy.state
    assert state.requests == len(stream)
    assert state.spent_usd == pytest.approx(spent)
    if affordable:
        assert state.overdrafts == 0


def drifting_stream(
    count: int, seed: int, dearer_from: int | None = None
) -> list[tuple[Float64Array, Float64Array]]:
    """Requests whose difficulty drifts and whose length varies, for five models."""
    random = np.random.default_rng(seed)
    level = np.array([-0.6, 0.0, 0.7, 1.2, 1.9])
    prices = np.array([0.1, 0.3, 1.0, 5.0, 30.0]) * 1e-4
    found = []
    for t in range(count):
        difficulty = random.normal(0.5 * np.sin(2 * np.pi * t / 1500), 1.0)
        quality = 1 / (1 + np.exp(difficulty - level + random.normal(0, 0.3, 5)))
        factor = np.array([1, 1, 2, 4, 4]) if dearer_from is not None and t >= dearer_from else 1.0
        found.append((quality, prices * factor * random.lognormal(0, 0.5)))
    return found


def best_affordable(stream: list[tuple[Float64Array, Float64Array]], allowance: float) -> float:
    """Mean quality of the best choice that knows the whole stream: the Lagrangian's optimum."""
    quality, dollars = (np.array(column) for column in zip(*stream, strict=True))
    rows = np.arange(len(stream))
    low, high = 0.0, 1e7
    for _ in range(60):
        price = (low + high) / 2
        chosen = (quality - price * dollars).argmax(axis=1)
        low, high = (price, high) if dollars[rows, chosen].mean() > allowance else (low, price)
    return float(quality[rows, (quality - high * dollars).argmax(axis=1)].mean())


LEVELS = (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)


def test_seven_ceilings_hold_on_a_drifting_stream_near_the_best_possible() -> None:
    stream = drifting_stream(3000, seed=1)
    qualities = []
    for level in LEVELS:
        allowance = 1.2e-5 * 250.0**level
        policy = SpendAtMost(1000 * allowance)
        chosen = [policy.choose(q, d) for q, d in stream]
        spent = sum(d[i] for (_, d), i in zip(stream, chosen, strict=True))
        assert 0.95 < spent / (allowance * len(stream)) <= 1.004
        quality = float(np.mean([q[i] for (q, _), i in zip(stream, chosen, strict=True)]))
        assert quality > best_affordable(stream, allowance) - 0.01
        qualities.append(quality)
    assert qualities == sorted(qualities)  # more money, more quality


@pytest.mark.parametrize("level", [0.3, 0.5, 0.7])
def test_a_price_change_is_followed_within_150_requests(level: float) -> None:
    stream = drifting_stream(3000, seed=2, dearer_from=1500)
    allowance = 1.2e-5 * 250.0**level
    policy = SpendAtMost(1000 * allowance)
    costs = np.array([d[policy.choose(q, d)] for q, d in stream]) / allowance
    assert costs.sum() <= len(stream) * 1.004
    assert costs[1650:1950].mean() == pytest.approx(1.0, abs=0.15)


def test_actual_costs_correct_the_account() -> None:
    policy = SpendAtMost(10.0)  # a cent a request
    assert policy.choose(QUALITY, DOLLARS) == 1
    policy.correct(0.002, 0.03)
    assert policy.state.spent_usd == pytest.approx(0.03)
    assert policy.state.balance_usd == pytest.approx(-0.02)
    assert policy.choose(QUALITY, DOLLARS) == 0  # nothing is affordable: the cheapest
    assert policy.state.overdrafts == 1
    assert policy.state.quality_per_usd > 0


def test_threads_lose_no_request() -> None:
    policy = SpendAtMost(1.0)
    threads = [
        threading.Thread(target=lambda: [policy.choose(QUALITY, DOLLARS) for _ in range(500)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert policy.state.requests == 2000


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("max_quality", MaxQuality),
        ("quality_at_least=0.95", QualityAtLeast),
        ("spend_at_most=1.2", SpendAtMost),
        ("best_value=2", BestValue),
    ],
)
def test_a_policy_is_read_and_written(text: str, kind: type[ChoicePolicy]) -> None:
    assert type(parse_policy(text)) is kind
    assert repr(parse_policy(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "max", "max_quality=1", "best_value", "best_value=", "best_value=x", "best_value=-1",
     "quality_at_least=1.1", "spend_at_most=0", "spend_at_most=inf", "spend_at_most=nan"],
)  # fmt: skip
def test_a_wrong_policy_is_named(text: str) -> None:
    with pytest.raises(InvalidInputError, match="policy"):
        parse_policy(text)


@pytest.mark.parametrize("policy", [SpendAtMost(1.0), SpendPerDay(5.0), MaxQuality(),
                                    QualityAtLeast(0.85), BestValue(50.0)])  # fmt: skip
def test_a_preview_chooses_the_same_and_counts_nothing(policy: ChoicePolicy) -> None:
    before = getattr(policy, "state", None)
    previews = [policy.preview(QUALITY, DOLLARS) for _ in range(50)]
    after = getattr(policy, "state", None)
    assert (after and after.requests, after and after.spent_usd) == (
        before and before.requests, before and before.spent_usd,
    )  # fmt: skip
    assert previews == [policy.choose(QUALITY, DOLLARS)] * 50
    assert QualityAtLeast(0.5).preview(QUALITY, DOLLARS, safely=True) == 3


DAY_S = 86_400.0


def spend_days(per_hour: list[float], days: int, begin_s: float = 0.0, usd_per_day: float = 2.0,
               seed: int = 0) -> tuple[list[float], list[float], SpendPerDay]:  # fmt: skip
    """Dollars and mean quality of each day, of requests at ``per_hour[hour of the day]``."""
    random = np.random.default_rng(seed)
    now = [begin_s]
    policy = SpendPerDay(usd_per_day, clock=lambda: now[0])
    spent, quality, counts = [0.0] * days, [0.0] * days, [0] * days
    while now[0] < days * DAY_S:
        rate = per_hour[int(now[0] % DAY_S // 3600)]
        now[0] += random.exponential(3600.0 / rate)
        day = int(now[0] // DAY_S)
        if day >= days:
            break
        dollars = np.array([0.0002, 0.002, 0.02]) * random.uniform(0.5, 2.0)
        offered = np.array([0.5, 0.7, 0.8]) + random.uniform(-0.2, 0.2, 3)
        chosen = policy.choose(offered, dollars)
        spent[day] += dollars[chosen]
        quality[day] += offered[chosen]
        counts[day] += 1
    return spent, [q / max(n, 1) for q, n in zip(quality, counts, strict=True)], policy


@pytest.mark.parametrize("usd_per_day", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("shape", ["even", "office hours"])
def test_a_days_dollars_stay_below_the_ceiling_and_are_used(shape: str, usd_per_day: float) -> None:
    per_hour = [40.0] * 24 if shape == "even" else [4.0] * 8 + [100.0] * 10 + [4.0] * 6
    spent, _, policy = spend_days(per_hour, 4, usd_per_day=usd_per_day)
    assert max(spent) <= usd_per_day * (1 + 1e-9)
    # After a busy morning it saves for an afternoon that may be as busy.
    assert min(spent[1:]) > (0.9 if shape == "even" else 0.7) * usd_per_day
    # At 0.5 dollars a day even the cheapest answers are dear in office hours.
    assert policy.state.overdrafts == 0 or usd_per_day == 0.5


def test_a_day_that_has_begun_has_only_its_rest() -> None:
    spent, _, _ = spend_days([200.0] * 24, 1, begin_s=0.75 * DAY_S)
    assert 0.4 < spent[0] <= 0.5 + 1e-9


@pytest.mark.parametrize("cut_hours", [(), range(9, 12)])
def test_processes_that_hear_of_each_other_hold_a_days_dollars_together(
    cut_hours: Sequence[int],
) -> None:
    """One has most of the traffic, one begins at six, and at some hours none hears of another."""
    random, now, usd = np.random.default_rng(0), [0.0], 2.0
    policies = [SpendPerDay(usd, clock=lambda: now[0]) for _ in range(2)]
    spent, quality, shares, heard_s = 0.0, [], [0.8, 0.2], 0.0
    while (now[0] + (step := random.exponential(18.0))) < DAY_S:
        now[0] += step
        if now[0] > DAY_S / 4 and len(policies) == 2:
            policies.append(SpendPerDay(usd, clock=lambda: now[0]))
            shares = [0.7, 0.2, 0.1]
        if now[0] - heard_s > 10.0 and int(now[0] // 3600) not in cut_hours:
            heard_s = now[0]
            accounts = [policy.account for policy in policies]
            for policy in policies:
                others = [a for p, a in zip(policies, accounts, strict=True) if p is not policy]
                sums = np.sum(others, axis=0)
                policy.hear(DayAccount(min(a.since_s for a in accounts), *sums[1:].tolist()))
        dollars = np.array([0.0002, 0.002, 0.02]) * random.uniform(0.5, 2.0)
        chosen = policies[random.choice(len(shares), p=shares)].choose(
            offered := np.array([0.5, 0.7, 0.8]) + random.uniform(-0.2, 0.2, 3), dollars
        )
        spent += dollars[chosen]
        quality.append(offered[chosen])
    assert 0.9 * usd < spent < 1.01 * usd
    alone, means, _ = spend_days([200.0] * 24, 1, usd_per_day=usd)
    assert np.mean(quality) > means[0] - 0.03
    assert alone[0] < usd


def test_what_a_day_cost_in_truth_counts() -> None:
    now = [0.0]
    policy = SpendPerDay(24.0, clock=lambda: now[0])
    usd = np.array([0.5])
    policy.choose(np.array([0.9]), usd)
    assert policy.state.balance_usd == pytest.approx(0.5)  # of the first hour's dollar
    policy.correct(0.5, 0.9)
    assert policy.state.spent_usd == pytest.approx(0.9)
    policy.choose(np.array([0.9]), usd)
    assert policy.state.overdrafts == 1
    now[0] = DAY_S + 1.0
    assert policy.state.spent_usd == 0.0
    assert policy.state.requests == 2


def test_several_processes_share_a_day() -> None:
    shared = SpendPerDay(24.0).for_each_of(4)
    assert repr(shared) == "spend_per_day=6"
    assert repr(SpendAtMost(2.0).for_each_of(4)) == "spend_at_most=2"
    assert isinstance(parse_policy("spend_per_day=3"), SpendPerDay)
    with pytest.raises(InvalidInputError, match="usd_per_day must be above 0"):
        SpendPerDay(0.0)
