"""Samples: their shares, and the probabilities that they are recorded with."""

from __future__ import annotations

import random

import pytest

from fastroute.gateway.config.journal import ExploreConfig
from fastroute.gateway.request.sampling import Explorer, Sampler
from fastroute.types import Decision, ModelPair

PAIR = ModelPair("s", "w")


def decision(win_rate: float) -> Decision:
    return Decision("s" if win_rate >= 0.5 else "w", "r", win_rate, 0.5, win_rate >= 0.5, 1.0)


@pytest.mark.parametrize("prefer", ["none", "uncertain"])
def test_a_weighted_sample_has_no_bias(prefer: str) -> None:
    numbers = random.Random(1)
    sampler = Sampler(0.1, prefer, seed=2)  # type: ignore[arg-type]
    distances = [numbers.betavariate(1, 3) * 0.5 for _ in range(40_000)]
    probabilities = [sampler.sample(distance) for distance in distances]
    taken = [(d, p) for d, p in zip(distances, probabilities, strict=True) if p is not None]
    assert len(taken) == pytest.approx(4000, rel=0.06)
    assert all(0.05 <= p <= 1 for _, p in taken)
    # Horvitz and Thompson's estimate of a total, which a plain mean of the sample would miss.
    assert sum(d / p for d, p in taken) == pytest.approx(sum(distances), rel=0.06)
    mean = sum(d for d, _ in taken) / len(taken)
    if prefer == "uncertain":
        assert mean < 0.8 * sum(distances) / len(distances)


def test_exploration_has_the_probabilities_that_it_says() -> None:
    explorer = Explorer(ExploreConfig(share=0.3, prefer="none"), seed=1)
    drawn = [explorer.choose(decision(0.9), PAIR) for _ in range(20_000)]
    for found, chances in drawn:
        assert dict(chances.probabilities) == pytest.approx({"s": 0.85, "w": 0.15})
        assert found.strong == (found.model == "s")
    assert sum(found.model == "w" for found, _ in drawn) == pytest.approx(3000, rel=0.08)
    assert sum(chances.explored for _, chances in drawn) == pytest.approx(6000, rel=0.06)
    assert all(chances.explored for found, chances in drawn if found.model == "w")
