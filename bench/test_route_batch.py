"""Many prompts in one call; the answers are those of single calls."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from contenders import MF, MF_TOLERANCE, SW, assert_mf_answers, assert_sw_answers, contenders
from data import Battles
from rivals import mf_fastroute, mf_numpy


@contenders(MF, "route_texts")
def test_texts(benchmark: Any, rival: ModuleType, many_prompts: list[str]) -> None:
    benchmark.group = f"route_batch: {len(many_prompts)} texts (mf)"
    router = rival.load()
    answers = benchmark.pedantic(rival.route_texts, (router, many_prompts), rounds=3)
    assert len(answers) == len(many_prompts)
    if rival is mf_fastroute:
        one_by_one = [rival.route_text(router, prompt) for prompt in many_prompts]
        np.testing.assert_array_equal(answers, one_by_one)
    assert_mf_answers(rival, many_prompts, answers)


@contenders(MF, "route_embeddings")
def test_embeddings_mf(benchmark: Any, rival: ModuleType, embeddings: np.ndarray) -> None:
    benchmark.group = f"route_batch: {len(embeddings)} embeddings (mf)"
    answers = benchmark(rival.route_embeddings, rival.load(), embeddings)
    wanted = mf_numpy.route_embeddings(mf_numpy.load(), embeddings)
    np.testing.assert_allclose(answers, wanted, rtol=0, atol=MF_TOLERANCE)


@pytest.mark.parametrize("num_threads", [1, 2])
def test_embeddings_mf_threads(benchmark: Any, embeddings: np.ndarray, num_threads: int) -> None:
    benchmark.group = f"route_batch: {len(embeddings)} embeddings (mf)"
    router = mf_fastroute.load()
    answers = benchmark(router.win_rates_from_embeddings, embeddings, num_threads=num_threads)
    np.testing.assert_array_equal(answers, [router.win_rate_from_embedding(x) for x in embeddings])


@contenders(SW, "route_embeddings")
def test_embeddings_sw_ranking(benchmark: Any, rival: ModuleType, battles: Battles) -> None:
    size = f"{len(battles)}x{battles.dimensions}"
    benchmark.group = f"route_batch: {len(battles.queries)} embeddings (sw_ranking, {size})"
    router = rival.fit(battles, strict=True)
    answers = benchmark.pedantic(rival.route_embeddings, (router, battles.queries), rounds=2)
    assert_sw_answers(rival, battles, router, answers)
