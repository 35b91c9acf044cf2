"""The conclusion of a report, and the thresholds that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from fastroute.evaluation import Benchmark, Report, evaluate
from fastroute.evaluation.report.conclusion import conclusion
from fastroute.evaluation.thresholds.measured import SHARES, goal_of, measured_thresholds
from fastroute.routers import LengthRouter
from fastroute.routers.base import Router
from fastroute.types import ModelPair

from .toy_routers import Numbered, toy_benchmark


class Reversed(Numbered):
    """The opposite of what is known."""

    name = "reversed"

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return 1.0 - super().win_rates(prompts)


class Noise(Router):
    """Numbers that have nothing to do with the prompt."""

    name = "noise"

    def win_rate(self, prompt: str) -> float:
        return float(self.win_rates([prompt])[0])

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.random.default_rng(5).random(len(prompts))


def by_length(n: int = 400) -> Benchmark:
    """The longer a prompt, the more the strong model is needed; numbers say nothing."""
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, 60, n)
    return Benchmark(
        name="by length",
        prompts=tuple(f"{rng.random():.3f} {i:03d}{'.' * k}" for i, k in enumerate(lengths)),
        weak=(rng.random(n) > lengths / 60).astype(np.float64),
        strong=np.ones(n),
        pair=ModelPair(strong="big", weak="small"),
        ids=tuple(map(str, range(n))),
    )


def said(report: Report) -> str:
    (result,) = report.results
    return conclusion(report, result)


def test_a_router_that_wins() -> None:
    report = evaluate({"mine": Numbered()}, [toy_benchmark(600)], resamples=200)
    (result,) = report.results
    point = next(p for p in result.row("mine").thresholds if p.reaches_goal)
    goal = goal_of(result.benchmark)
    assert said(report).startswith(
        "mine beats random routing and the length of the prompt: for 95% of big's quality it needs "
        f"{point.share:.0%} strong calls, random routing {goal.pgr:.0%} and length "
    )
    assert point.share < goal.pgr - 0.1


@pytest.mark.parametrize("resamples", [0, 200])
def test_a_router_that_loses_is_said_to_lose(resamples: int) -> None:
    report = evaluate({"mine": Reversed()}, [toy_benchmark(600)], resamples=resamples)
    assert said(report).startswith(
        "mine loses to random routing and the length of the prompt: for 95% of big's quality it "
    )


def test_a_router_that_is_no_better_is_said_to_be_none() -> None:
    report = evaluate({"mine": Noise()}, [toy_benchmark(600)], resamples=200)
    assert said(report).startswith("mine is no better than random routing and the length of the ")
    report = evaluate({"mine": Noise()}, [by_length()], resamples=200)
    assert said(report).startswith(
        "mine is no better than random routing and loses to the length of the prompt: "
    )


def test_the_best_of_several_is_concluded_on_and_length_without_any() -> None:
    routers = {"bad": Reversed(), "good": Numbered()}
    report = evaluate(routers, [toy_benchmark(600)], resamples=200)
    assert said(report).startswith("good, the best of 2 routers, beats random routing and the ")
    report = evaluate({"length": LengthRouter()}, [by_length()], resamples=200)
    assert said(report).startswith("length beats random routing: for 95% of big's quality it needs")
    assert said(report).count("length") == 1


def test_dollars_are_concluded_on_where_they_are_the_axis() -> None:
    toy = toy_benchmark(600, costs=True)
    report = evaluate({"mine": Numbered()}, [toy], axis="cost", resamples=0)
    assert toy.cost_weak is not None
    assert toy.cost_strong is not None
    weak, strong = toy.cost_weak.mean(), toy.cost_strong.mean()
    line = 1000 * (weak + goal_of(toy).pgr * (strong - weak))
    assert f"random routing {line:.4g} dollars per 1,000 prompts" in said(report)
    assert "strong calls" not in said(report)


def test_the_goal_is_not_one_that_the_weak_model_reaches() -> None:
    toy = toy_benchmark(400)
    near = replace(toy, strong=np.ones(400), weak=np.where(np.arange(400) % 33 == 0, 0.0, 1.0))
    assert goal_of(near).text == "99% of big's quality"
    assert 0.2 < goal_of(near).pgr < 1.0
    negative = replace(toy, strong=-toy.weak, weak=-toy.strong)
    assert goal_of(negative) == (0.8, pytest.approx(
        negative.weak_quality + 0.8 * (negative.strong_quality - negative.weak_quality)
    ), "80% of the gap to big's quality")  # fmt: skip


@pytest.mark.parametrize("costs", [False, True])
def test_thresholds_do_what_they_say(costs: bool) -> None:
    toy = toy_benchmark(500, costs=costs)
    rates = Numbered().win_rates(toy.prompts)
    points = measured_thresholds(rates, toy, by_cost=costs)
    assert len(points) in (len(SHARES), len(SHARES) + 1)
    assert [p.share for p in points] == sorted(p.share for p in points)
    weak, strong = toy.weak_quality, toy.strong_quality
    for point in points:
        routed = rates >= point.threshold
        assert routed.mean() == pytest.approx(point.share)
        quality = 100 * np.where(routed, toy.strong, toy.weak).mean()
        assert point.quality == pytest.approx(quality)
        assert point.pgr == pytest.approx((quality - weak) / (strong - weak))
        if toy.cost_weak is None or toy.cost_strong is None:
            assert point.cost is None
        else:
            spent = np.where(routed, toy.cost_strong, toy.cost_weak).mean()
            assert point.cost == pytest.approx(spent)
    (goal,) = (p for p in points if p.reaches_goal)
    spent_by = [
        np.where(rates >= t, toy.cost_strong, toy.cost_weak).mean()
        if toy.cost_weak is not None and toy.cost_strong is not None
        else (rates >= t).mean()
        for t in np.unique(rates)
        if np.where(rates >= t, toy.strong, toy.weak).mean() * 100 >= goal_of(toy).quality - 1e-9
    ]
    assert (goal.cost if costs else goal.share) == pytest.approx(min(spent_by))
