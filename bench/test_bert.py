"""The ``bert`` router: one prompt, and 64 at once."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bert_model
from contenders import BERT, contenders
from measures.bert import BATCH, TOLERANCE
from rivals import bert_fastroute, bert_onnxruntime, bert_torch


@pytest.fixture(scope="module", autouse=True)
def made_model() -> Iterator[None]:
    yield
    bert_model.remove()


@contenders(BERT, "route_text")
def test_text(benchmark: Any, rival: ModuleType, prompts: list[str]) -> None:
    benchmark.group = "route_one: text (bert)"
    router = rival.load()
    some = prompts[:BATCH]
    answers = [rival.route_text(router, prompt) for prompt in some]
    turn = iter(some)
    benchmark.pedantic(rival.route_text, setup=lambda: ((router, next(turn)), {}), rounds=len(some))
    by_torch = bert_torch.load()
    wanted = [bert_torch.route_text(by_torch, prompt) for prompt in some]
    np.testing.assert_allclose(answers, wanted, rtol=0, atol=TOLERANCE)


@contenders([bert_onnxruntime])
def test_token_ids(benchmark: Any, rival: ModuleType, prompts: list[str]) -> None:
    benchmark.group = "route_one: text (bert)"
    bare = rival.load()
    some = prompts[:BATCH]
    fed = [rival.feeds(bare, prompt) for prompt in some]
    turn = iter(fed)
    benchmark.pedantic(rival.run, setup=lambda: ((bare, next(turn)), {}), rounds=len(fed))
    router = bert_fastroute.load()
    for prompt, one in zip(some, fed, strict=True):
        odds = np.exp(rival.run(bare, one)[0].astype(np.float64))
        assert router.win_rate(prompt) == pytest.approx(odds[0] / odds.sum(), abs=1e-7)


@contenders(BERT, "route_texts")
def test_batch(benchmark: Any, rival: ModuleType, prompts: list[str]) -> None:
    benchmark.group = f"route_batch: {BATCH} texts (bert)"
    router = rival.load()
    answers = benchmark(rival.route_texts, router, prompts[:BATCH])
    single = [rival.route_text(router, prompt) for prompt in prompts[:BATCH]]
    np.testing.assert_array_equal(answers, single)
