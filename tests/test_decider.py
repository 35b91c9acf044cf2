"""The decider: routers and a threshold give a decision, and nothing is checked twice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute import Controller
from fastroute.decider import Decider
from fastroute.embedders.base import Embedder
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError, UnknownRouterError
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.routers import (
    BertRouter,
    CascadeRouter,
    LengthRouter,
    MatrixFactorizationRouter,
    RandomRouter,
    Router,
    SimilarityWeightedRouter,
)

OLD = Path(__file__).parent / "old_artifacts"


class Counted(str):
    """A prompt that counts how often it is looked at by a check."""

    checks = 0

    def isascii(self) -> bool:
        self.checks += 1
        return super().isascii()


class CountedRate(float):
    """A win rate that counts how often it is checked."""

    checks = 0

    def __float__(self) -> float:
        type(self).checks += 1
        return 0.6


class FixedRouter(Router):
    """The same win rate for every prompt."""

    name = "fixed"

    def __init__(self, rate: float, operating_point: float | None = None) -> None:
        self.rate = rate
        point = None if operating_point is None else OperatingPoint(operating_point)
        self._provenance = Provenance(operating_point=point)

    def win_rate(self, prompt: str) -> float:  # noqa: ARG002
        return self.rate

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        return np.full(len(prompts), self.rate)


class Folded(Embedder):
    """Eight dimensions of the vectors that ship with fastroute."""

    name = "folded"
    dimensions = 8

    def __init__(self) -> None:
        self.inner = StaticEmbedder.load_default()

    def embed(self, prompt: str) -> Any:
        return np.ascontiguousarray(self.inner.embed(prompt)[:8])

    def embed_batch(self, prompts: Sequence[str]) -> Any:
        return np.ascontiguousarray(self.inner.embed_batch(prompts)[:, :8])


ROUTERS: dict[str, Any] = {
    "length": LengthRouter,
    "random": RandomRouter,
    "mf": MatrixFactorizationRouter.load_default,
    "sw_ranking": lambda: SimilarityWeightedRouter.load(OLD / "sw_ranking_exact"),
    "bert": lambda: BertRouter(OLD / "bert"),
    "cascade": lambda: CascadeRouter(LengthRouter(), RandomRouter(), band=(0.99, 1.0)),
}


@pytest.mark.parametrize("name", ROUTERS)
def test_a_prompt_is_checked_once(name: str) -> None:
    router = ROUTERS[name]()
    if name == "sw_ranking":
        router.embedder = Folded()
    decider = Decider([router], "big", "small")
    prompt = Counted("what is the capital of France?")
    decider.decide(prompt, name, 0.5)
    assert prompt.checks <= 1  # none where the core checks
    batch = [Counted("what is this?"), Counted("and that?")]
    decider.decide_batch(batch, name, 0.5)
    assert max(prompt.checks for prompt in batch) <= 1
    for wrong in ("\ud800", 3):
        with pytest.raises(InvalidInputError):
            decider.decide(wrong, name, 0.5)  # type: ignore[arg-type]
        with pytest.raises(InvalidInputError):
            decider.decide_batch([wrong], name, 0.5)  # type: ignore[list-item]
    for lone in ("one string", b"bytes"):
        with pytest.raises(InvalidInputError):
            decider.decide_batch(lone, name, 0.5)  # type: ignore[arg-type]


def test_a_win_rate_is_checked_once() -> None:
    decider = Decider([FixedRouter(CountedRate())], "big", "small")
    decision = decider.decide("x", "fixed", 0.5)
    assert (decision.win_rate, decision.strong) == (0.6, True)
    assert CountedRate.checks == 1


def test_the_controller_decides_as_the_decider_does() -> None:
    arguments = (["length"], "big", "small")
    decider, controller = Decider(*arguments), Controller(*arguments)
    prompts = ["x" * n for n in range(0, 900, 50)]
    for prompt in prompts:
        assert (
            decider.decide(prompt, "length", 0.5)[:5]
            == controller.decide(prompt, "length", 0.5)[:5]
        )
    assert (
        decider.decide_batch(prompts, "length", 0.5).models
        == controller.decide_batch(prompts, "length", 0.5).models
    )


def test_default_thresholds() -> None:
    decider = Decider([FixedRouter(0.3, operating_point=0.25), "length", "random"], "b", "s")
    assert decider.default_threshold("fixed") == 0.25
    assert decider.default_threshold("length") == 0.5
    assert decider.threshold_for_strong_share("random", 0.25) == pytest.approx(0.75)
    with pytest.raises(InvalidInputError, match="'length' is not calibrated"):
        decider.threshold_for_strong_share("length", 0.25)
    with pytest.raises(InvalidInputError, match="share must be a number from 0 to 1"):
        decider.threshold_for_strong_share("random", 25)
    with pytest.raises(UnknownRouterError, match="loaded routers: fixed, length, random"):
        decider.default_threshold("mf")
