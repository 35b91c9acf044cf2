"""Random samples of requests, each with its probability, so that what is learned can be weighted.

A sample may prefer requests whose score is near the threshold. Every request keeps at least half
of the probability that a uniform sample would give it, so that no weight exceeds 2 / share.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fastroute.gateway.config.journal import ExploreConfig, Preference
from fastroute.types import Decision, ModelPair

#: Distance of a score from the threshold at which closeness falls to 1 / e.
_SCALE = 0.1
#: Weight of the newest request in the running mean of closeness.
_STEP = 0.01


class Chances(NamedTuple):
    """How a model was chosen: the probability of each, and whether at random."""

    probabilities: Mapping[str, float]
    explored: bool


class Sampler:
    """Samples ``share`` of the requests."""

    def __init__(self, share: float, prefer: Preference, seed: int | None = None) -> None:
        self._share = share
        self._prefer = prefer
        self._mean = 0.5
        self._random = random.Random(seed)

    def probability(self, distance: float | None) -> float:
        """That of a request whose score is ``distance`` from the threshold; None where there is no
        score. It depends on this request and those before it only."""
        if self._prefer == "none" or distance is None:
            return self._share
        closeness = math.exp(-distance / _SCALE)
        probability = min(1.0, self._share * 0.5 * (1 + closeness / self._mean))
        self._mean += _STEP * (closeness - self._mean)
        return probability

    def sample(self, distance: float | None) -> float | None:
        """The probability with which the request was sampled; None if it was not."""
        probability = self.probability(distance)
        return probability if self._random.random() < probability else None


class Explorer:
    """Routes a share of the requests to a model at random, all equally likely."""

    def __init__(self, config: ExploreConfig, seed: int | None = None) -> None:
        self._sampler = Sampler(config.share, config.prefer)
        self._random = random.Random(seed)

    def choose(self, decision: Decision, pair: ModelPair) -> tuple[Decision, Chances]:
        """``decision``, or one at random in its place."""
        distance = abs(decision.win_rate - decision.threshold)
        model, chances = self.draw(pair, decision.model, distance)
        return decision._replace(model=model, strong=model == pair.strong), chances

    def draw(
        self, models: Sequence[str], chosen: str, distance: float | None
    ) -> tuple[str, Chances]:
        """``chosen``, or one of ``models`` at random; ``distance`` as for ``Sampler``."""
        share = self._sampler.probability(distance)
        chances = {m: share / len(models) + (1 - share) * (m == chosen) for m in models}
        explored = self._random.random() < share
        return self._random.choice(models) if explored else chosen, Chances(chances, explored)
