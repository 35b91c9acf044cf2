"""The simulation against closed forms, and those against the papers' special cases."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastroute.errors import InvalidInputError
from fastroute.resilience.simulation import (
    Bill,
    Exponential,
    Pareto,
    Policy,
    Recorded,
    expected,
    simulate,
)

RECORDED = Recorded(np.random.default_rng(3).lognormal(0.0, 1.0, 400))
LATENCIES = [Exponential(2.0), Pareto(1.0, 3.5), RECORDED]
POLICIES = [
    Policy(),
    Policy("replicate", 0.0, 1),
    Policy("replicate", 0.0, 3),
    Policy("delayed", 1.5, 1),
    Policy("delayed", 0.4, 2),
    Policy("relaunch", 1.5, 0),
    Policy("relaunch", 2.5, 1),
]


@pytest.mark.parametrize(
    ("policy", "requests", "completions"),
    [
        (Policy(), 1.0, 1.0),
        (Policy("replicate", 0.0, 1), 2.0, 5 / 3),
        (Policy("delayed", 2.0, 1), 1.5, 4 / 3),
        (Policy("relaunch", 2.0, 0), 1.5, 4 / 3),
    ],
)
def test_what_is_billed_by_hand(policy: Policy, requests: float, completions: float) -> None:
    # Times of 1 and 3: a copy that is cancelled has generated the part of its time that it ran.
    latency = Recorded(np.array([1.0, 3.0]))
    found = simulate(latency, policy, runs=40_000, bill=Bill(10.0, 100.0))
    assert found.requests == pytest.approx(requests, abs=0.02)
    assert found.completions == pytest.approx(completions, abs=0.02)
    assert found.billed == pytest.approx(10 * found.requests + 100 * found.completions)
    zero = simulate(Recorded(np.zeros(3)), policy, runs=100, bill=Bill(10.0, 100.0))
    assert zero.completions == zero.requests


@pytest.mark.parametrize(("latency", "policy", "tasks"), [*product(LATENCIES, POLICIES, [1, 5])])
def test_the_simulation_agrees_within_its_error(latency: Any, policy: Policy, tasks: int) -> None:
    exact = expected(latency, policy, tasks=tasks)
    found = simulate(latency, policy, tasks=tasks, runs=40_000, seed=1)
    assert abs(found.latency_s - exact.latency_s) < 4.5 * found.latency_error_s
    assert abs(found.cost_s - exact.cost_s) < 4.5 * found.cost_error_s


def test_exponential_redundancy_costs_nothing() -> None:
    # 1710.00748: with cancellation, the cost is k / mu whatever is sent beside and when.
    for policy in POLICIES:
        assert expected(Exponential(2.0), policy, tasks=4).cost_s == pytest.approx(8.0)
    # Replication at once: H_k / ((c + 1) mu).
    found = expected(Exponential(2.0), Policy("replicate", 0.0, 1), tasks=3)
    assert found.latency_s == pytest.approx((1 + 1 / 2 + 1 / 3) * 2.0 / 2)


def test_relaunch_of_pareto_times() -> None:
    # For one task, from the definition: E[X; X <= d] + P(X > d) (d + E[X]).
    least, a, d = 1.0, 2.5, 3.0
    mean = a * least / (a - 1)
    late = (least / d) ** a
    by_hand = mean * (1 - (least / d) ** (a - 1)) + late * (d + mean)
    found = expected(Pareto(least, a), Policy("relaunch", d, 0))
    assert found.latency_s == pytest.approx(by_hand, rel=1e-5)
    assert found.cost_s == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.parametrize(("shape", "helps"), [(1.2, True), (1.5, True), (6.0, False)])
def test_relaunch_helps_where_the_tail_is_heavy(shape: float, helps: bool) -> None:
    # 1906.10664: for a heavy tail relaunching lowers latency and cost at once.
    latency = Pareto(1.0, shape)
    best_delay = shape**2 / (shape - 1)  # where the derivative of the formula above is 0
    without = expected(latency, Policy())
    with_it = expected(latency, Policy("relaunch", best_delay, 0))
    assert (with_it.latency_s < without.latency_s * 0.99) == helps
    for other in (0.8, 1.25):
        moved = expected(latency, Policy("relaunch", best_delay * other, 0))
        assert moved.latency_s >= with_it.latency_s


def test_redundancy_of_heavy_tails_can_lower_cost() -> None:
    # 1710.00748: replicas at once cost less than none if the tail is heavy enough.
    heavy, light = Pareto(1.0, 1.2), Pareto(1.0, 4.0)
    twice = Policy("replicate", 0.0, 1)
    assert expected(heavy, twice).cost_s < expected(heavy, Policy()).cost_s
    assert expected(light, twice).cost_s > expected(light, Policy()).cost_s


@given(st.floats(0.01, 5), st.integers(1, 3), st.integers(1, 6))
def test_waiting_longer_never_makes_it_faster(delay: float, copies: int, tasks: int) -> None:
    for latency in (Exponential(1.0), RECORDED):
        sooner = expected(latency, Policy("delayed", delay, copies), tasks=tasks)
        later = expected(latency, Policy("delayed", delay * 1.5, copies), tasks=tasks)
        never = expected(latency, Policy(), tasks=tasks)
        assert sooner.latency_s <= later.latency_s + 1e-9
        assert later.latency_s <= never.latency_s + 1e-9


def test_no_delay_is_replication_at_once() -> None:
    for latency in (Exponential(1.3), Pareto(0.5, 2.5)):
        delayed = expected(latency, Policy("delayed", 0.0, 2), tasks=3)
        at_once = expected(latency, Policy("replicate", 0.0, 2), tasks=3)
        assert delayed.latency_s == pytest.approx(at_once.latency_s, rel=1e-4)
        assert delayed.cost_s == pytest.approx(at_once.cost_s, rel=1e-4)


def test_requests_are_counted() -> None:
    found = simulate(Exponential(1.0), Policy("delayed", math.log(4), 1), runs=50_000)
    assert found.requests == pytest.approx(1.25, abs=0.02)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Pareto(1.0, 1.0), "shape"),
        (lambda: Exponential(0.0), "mean_s"),
        (lambda: Recorded(np.array([])), "recorded"),
        (lambda: Recorded(np.array([1.0, np.nan])), "recorded"),
        (lambda: simulate(Exponential(1), Policy("never")), "mode"),
        (lambda: simulate(Exponential(1), Policy("delayed", -1.0)), "delay_s"),
        (lambda: simulate(Exponential(1), Policy("replicate", 1.0)), "at once"),
        (lambda: simulate(Exponential(1), Policy(), tasks=0), "tasks"),
    ],
)
def test_bad_input(make: Any, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        make()
