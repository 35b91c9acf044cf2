"""One prompt at a time: text to decision, and embedding to decision."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from contenders import MF, MF_TOLERANCE, SW, assert_mf_answers, assert_sw_answers, contenders
from data import Battles
from rivals import mf_numpy

THRESHOLD = 0.5


@contenders(MF, "route_text")
def test_text(benchmark: Any, rival: ModuleType, prompts: list[str]) -> None:
    benchmark.group = "route_one: text (mf)"
    router = rival.load()
    answers = [rival.route_text(router, prompt) for prompt in prompts]
    turn = iter(prompts)
    benchmark.pedantic(
        rival.route_text,
        setup=lambda: ((router, next(turn)), {}),
        rounds=len(prompts),
    )
    assert_mf_answers(rival, prompts, answers)


def test_text_by_the_controller(benchmark: Any, prompts: list[str]) -> None:
    from fastroute import Controller

    benchmark.group = "route_one: text (mf)"
    controller = Controller(routers=["mf"], strong_model="strong", weak_model="weak")
    turn = iter(prompts)

    def decide(prompt: str) -> Any:
        return controller.decide(prompt, router="mf", threshold=THRESHOLD)

    decisions = [decide(prompt) for prompt in prompts]
    benchmark.pedantic(decide, setup=lambda: ((next(turn),), {}), rounds=len(prompts))
    router = mf_numpy.load()
    for prompt, decision in zip(prompts, decisions, strict=True):
        assert abs(decision.win_rate - mf_numpy.route_text(router, prompt)) <= MF_TOLERANCE
        assert decision.model == ("strong" if decision.win_rate >= THRESHOLD else "weak")


@contenders(MF, "route_embedding")
def test_embedding_mf(benchmark: Any, rival: ModuleType, embeddings: np.ndarray) -> None:
    benchmark.group = "route_one: embedding (mf)"
    x = embeddings[0]
    answer = benchmark(rival.route_embedding, rival.load(), x)
    assert abs(answer - mf_numpy.route_embedding(mf_numpy.load(), x)) <= MF_TOLERANCE


@contenders(SW, "route_embedding")
def test_embedding_sw_ranking(benchmark: Any, rival: ModuleType, battles: Battles) -> None:
    benchmark.group = f"route_one: embedding (sw_ranking, {len(battles)}x{battles.dimensions})"
    router = rival.fit(battles, strict=True)
    benchmark(rival.route_embedding, router, battles.queries[0])
    answers = [rival.route_embedding(router, x) for x in battles.queries]
    assert_sw_answers(rival, battles, router, answers)
