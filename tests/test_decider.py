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
from fastroute.errors import InvalidInputError, ThresholdWarning, UnknownRouterError
from fastroute.http import MockTransport
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

    def __init__(
        self, rate: float, operating_point: float | None = None, calibration: Any = None
    ) -> None:
        self.rate = rate
        point = None if operating_point is None else OperatingPoint(operating_point)
        self._provenance = Provenance(operating_point=point, calibration=calibration)

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


QUANTILES = np.linspace(0.4, 0.6, 1001, dtype=np.float32)


def test_a_prompt_alone_is_enough() -> None:
    decider = Decider([FixedRouter(0.45, 0.44, QUANTILES), "length"], "big", "small")
    decision = decider.decide("x")
    assert decision[:5] == ("big", "fixed", 0.45, 0.44, True)
    assert decision.difficulty == pytest.approx(0.25)
    assert decider.route("x") == "big"
    batch = decider.decide_batch(["x", "y"])
    assert [d[:5] for d in batch] == [decision[:5]] * 2
    assert [d.difficulty for d in batch] == [decision.difficulty] * 2
    assert decider.decide("x", strong_share=0.5).threshold == pytest.approx(0.5)
    assert decider.route("x", strong_share=0.5) == "small"
    assert decider.decide_batch(["x"], strong_share=0.5).models == ["small"]
    assert decider.decide("x", "length").threshold == 0.5
    assert decider.decide("x", "length").difficulty is None
    assert decider.decide_batch(["x"], "length").difficulties is None
    assert decider.decide_batch(["x"], "length")[0].difficulty is None


@pytest.mark.parametrize(
    ("threshold", "said"), [(0.116, "the strong model"), (0.61, "the weak model")]
)
@pytest.mark.parametrize("call", ["decide", "route", "decide_batch"])
def test_a_threshold_that_no_prompt_crosses_gives_one_warning(
    threshold: float, said: str, call: str, recwarn: pytest.WarningsRecorder
) -> None:
    decider = Decider([FixedRouter(0.45, 0.44, QUANTILES), "length", "random"], "big", "small")
    prompt: Any = ["x"] if call == "decide_batch" else "x"
    for known in (0.0, 1.0, 0.4, 0.5, 0.6):  # one model alone, and the calibrated range
        getattr(decider, call)(prompt, "fixed", known)
    for other in ("length", "random"):
        getattr(decider, call)(prompt, other, threshold)
    assert not recwarn.list
    with pytest.warns(ThresholdWarning, match=f"{said}.*'fixed'.* 0.4000 to 0.6000") as caught:
        getattr(decider, call)(prompt, "fixed", threshold)
    assert caught[0].filename == __file__
    for again in (threshold, threshold / 2):
        getattr(decider, call)(prompt, "fixed", again)
    assert not recwarn.list


def test_a_call_by_a_models_name_warns_of_its_threshold_too() -> None:
    client = Controller([FixedRouter(0.45, 0.44, QUANTILES)], "b", "s", transport=MockTransport())
    with pytest.warns(ThresholdWarning, match="0.4000 to 0.6000"):
        client.completion(model="router-fixed-0.116", messages=[{"role": "user", "content": "x"}])


def test_a_router_that_is_measured_anew_has_new_difficulties() -> None:
    router = FixedRouter(0.45, 0.44, QUANTILES)
    decider = Decider([router], "big", "small")
    assert decider.decide("x").difficulty == pytest.approx(0.25)
    router._provenance = Provenance(calibration=QUANTILES / 2)
    assert decider.decide("x").difficulty == 1.0
    assert decider.decide("x").threshold == 0.5
    router._provenance = Provenance()
    assert decider.decide("x").difficulty is None


def test_a_held_share_moves_the_threshold_of_default_decisions_alone() -> None:
    router = FixedRouter(0.45, 0.44, QUANTILES)
    decider = Decider([router, "random"], "big", "small", held_share=0.3)
    assert decider.share_control is not None
    for call in (
        lambda: decider.decide("x", threshold=0.5),
        lambda: decider.decide("x", strong_share=0.5),
        lambda: decider.decide("x", "random"),
        lambda: decider.decide_batch(["x"] * 100),
    ):
        call()
    assert decider.share_control.state.requests == 0
    first = decider.decide("x")
    assert first.threshold == pytest.approx(0.54, abs=1e-3)
    strong = [decider.decide("x").strong for _ in range(2000)]
    strong += [decider.route("x", "fixed") == "big" for _ in range(2000)]
    assert abs(np.mean(strong) - 0.3) <= 1 / (0.005 * 4000)
    state = decider.share_control.state
    assert (state.requests, state.strong) == (4001, sum(strong))
    assert decider.decide_batch(["x"]).threshold == state.threshold
    assert decider.default_threshold("fixed") == state.threshold
    assert decider.default_threshold("random") == 0.5
    for held in (1.5, True, "0.3"):
        with pytest.raises(InvalidInputError, match="strong_share"):
            Decider([router], "big", "small", held_share=held)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="'length' is not calibrated"):
        Decider(["length", router], "big", "small", held_share=0.3)


def test_a_decision_at_another_threshold() -> None:
    decider = Decider([FixedRouter(0.45, 0.44, QUANTILES)], "big", "small")
    decision = decider.decide("x")
    other = decider.at_threshold(decision, 0.46)
    assert other == decision._replace(model="small", threshold=0.46, strong=False)
    assert decider.at_threshold(other, 0.45).model == "big"
