"""A decoder that is asked for its label: the router beside bare onnxruntime on the same tokens.

The decoder has random weights and Llama's architecture. The figures are ratios: what the router
adds to the model, and what it saves by running the template's prefix once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

PROMPTS = [f"Question {i}: what is the sum of the first {i} primes, and why?" for i in range(20)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six layers of 256 dimensions; the template takes about 300 tokens, as RouteLLM's does."""
    reason = "torch and transformers, which make the decoder, are not installed"
    pytest.importorskip("torch", reason=reason)
    pytest.importorskip("transformers", reason=reason)
    from decoders import write_decoder

    return write_decoder(tmp_path_factory.mktemp("decoder"))


@pytest.fixture(scope="module", params=["prefix once", "whole prompt"])
def router(request: pytest.FixtureRequest, folder: Path) -> Any:
    from fastroute.routers import CausalLLMRouter

    return CausalLLMRouter.load(folder, reuse_prefix=request.param == "prefix once")


def test_one(benchmark: Any, router: Any) -> None:
    benchmark.group = "route_one: text (causal_llm, 6 x 256)"
    turn = iter(PROMPTS)
    expected = router.win_rates(PROMPTS)
    rates = []
    benchmark.pedantic(
        lambda prompt: rates.append(router.win_rate(prompt)),
        setup=lambda: ((next(turn),), {}),
        rounds=len(PROMPTS),
    )
    np.testing.assert_allclose(rates, expected[: len(rates)], atol=1e-4)


def test_one_by_bare_onnxruntime(benchmark: Any, router: Any) -> None:
    """The same session, on feeds that are ready."""
    benchmark.group = "route_one: text (causal_llm, 6 x 256)"
    engine = router.engine
    shared = engine.prefix_tokens
    feeds = [engine._feeds([fitted.ids[shared:]], shared) for fitted in engine.prompt.fit(PROMPTS)]
    turn = iter(feeds)
    answers = []
    benchmark.pedantic(
        lambda feed: answers.append(engine._session.run(["label_logits"], feed)[0][0]),
        setup=lambda: ((next(turn),), {}),
        rounds=len(feeds),
    )
    expected = engine.label_logits(PROMPTS)[: len(answers)]
    np.testing.assert_allclose(np.array(answers), expected, atol=1e-4)
