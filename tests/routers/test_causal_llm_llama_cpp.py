"""``causal_llm`` behind a real llama.cpp server, on a Llama that is written here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from causal_llm_models import PROMPTS, torch_or_skip, write_llama, write_template
from fakes import llama_cpp
from fastroute.errors import ScoringError
from fastroute.routers import CausalLLMRouter
from fastroute.routers.causal_llm.engine import softmax
from fastroute.routers.causal_llm.prompt import LabelPrompt
from fastroute.routers.causal_llm.template import read_template


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    pytest.importorskip("gguf", reason="gguf, which writes the model, is not installed")
    folder = tmp_path_factory.mktemp("llama_cpp")
    model = write_llama(folder)
    write_template(folder)
    return folder, model


@pytest.fixture(scope="module")
def base_url(checkpoint: tuple[Path, Any]) -> Iterator[str]:
    from gguf_models import write_gguf

    reason = llama_cpp.why_not()
    if reason is not None:
        pytest.skip(reason)
    folder, model = checkpoint
    write_gguf(folder / "tiny.gguf", model, folder / "tokenizer.json")
    with llama_cpp.start(folder / "tiny.gguf") as url:
        yield url


def test_win_rates_are_torch_s(checkpoint: tuple[Path, Any], base_url: str) -> None:
    torch = torch_or_skip()
    folder, model = checkpoint
    # The weights are random, so the labels are anywhere: ask for all tokens.
    options = {"model": "tiny", "base_url": base_url, "top_logprobs": 1000, "timeout_s": 60.0}
    router = CausalLLMRouter.at_endpoint(folder, deadline_s=120.0, **options)
    long = " ".join(f"word {i}" for i in range(200))
    prompts = [*PROMPTS, long]
    prompt = LabelPrompt(folder, read_template(folder), max_tokens=256)
    rows = []
    with torch.no_grad():
        for fitted in prompt.fit(prompts):
            logits = model(torch.tensor([fitted.ids])).logits[0, -1, prompt.label_ids]
            rows.append(logits.double().numpy())
    expected = 1.0 - softmax(np.array(rows))[:, 3:].sum(axis=1)
    found = router.win_rates(prompts)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert router.truncated_count == 1
    assert router.unlabelled_count == 0
    assert np.ptp(expected) > 0.02
    router.close()


def test_labels_that_are_not_at_the_top_are_missing(
    checkpoint: tuple[Path, Any], base_url: str
) -> None:
    folder, model = checkpoint
    router = CausalLLMRouter.at_endpoint(
        folder, model="tiny", base_url=base_url, top_logprobs=1, timeout_s=60.0, deadline_s=120.0
    )
    # Random weights say some token or other; among 345 it is none of the five.
    assert router.win_rate("hi") == 1.0
    assert router.unlabelled_count == 1
    router.close()
    with pytest.raises(ScoringError, match="is closed"):
        router.win_rate("hi")
    assert model.config.vocab_size > 300
