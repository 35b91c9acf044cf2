"""Text by a vocabulary that the core reads, beside ``tokenizers`` alone with the same one."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from contenders import TEXT, contenders
from rivals import mf_tokenizers, text_python

TOLERANCE = 1e-5


@contenders(TEXT, "route_text")
def test_text(benchmark: Any, rival: ModuleType, prompts: list[str]) -> None:
    benchmark.group = "route_one: text by a vocabulary (mf)"
    router = rival.load()
    answers = [rival.route_text(router, prompt) for prompt in prompts]
    turn = iter(prompts)
    benchmark.pedantic(
        rival.route_text, setup=lambda: ((router, next(turn)), {}), rounds=len(prompts)
    )
    if rival is mf_tokenizers:
        assert min(answers) > 0
        return
    wanted = text_python.load()
    for prompt, answer in zip(prompts, answers, strict=True):
        rate = wanted.win_rate(prompt)
        assert answer == ("strong" if rate >= 0.5 else "weak") or abs(rate - 0.5) < TOLERANCE


@contenders(TEXT, "route_texts")
def test_texts(benchmark: Any, rival: ModuleType, many_prompts: list[str]) -> None:
    benchmark.group = f"route_batch: {len(many_prompts)} texts by a vocabulary (mf)"
    router = rival.load()
    answers = benchmark.pedantic(rival.route_texts, (router, many_prompts), rounds=3)
    some = many_prompts[:200]
    if rival is mf_tokenizers:
        assert list(answers[:200]) == [rival.route_text(router, prompt) for prompt in some]
        return
    wanted = text_python.route_texts(text_python.load(), some)
    np.testing.assert_allclose(answers[:200], wanted, rtol=0, atol=TOLERANCE)
