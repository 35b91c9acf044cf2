"""How a ``causal_llm`` router is made from the keys of its config."""

from __future__ import annotations

import os
from typing import Any

from fastroute.errors import InvalidInputError
from fastroute.routers.base import Router
from fastroute.routers.causal_llm.router import CausalLLMRouter
from fastroute.routers.spec import RouterSpec


def _make_causal_llm(
    checkpoint_path: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    score_threshold: int = 4,
    **options: Any,
) -> Router:
    if checkpoint_path is None:
        raise InvalidInputError(
            "causal_llm needs checkpoint_path, a folder written by `fastroute export causal_llm` "
            "or `fastroute train causal_llm`; with base_url and model, its tokenizer and template "
            "are enough"
        )
    if base_url is None:
        return CausalLLMRouter.load(checkpoint_path, score_threshold=score_threshold, **options)
    return CausalLLMRouter.at_endpoint(
        checkpoint_path, base_url=base_url, score_threshold=score_threshold, **options
    )


SPEC = RouterSpec(
    "causal_llm",
    "a language model with five label tokens: how well would the weak model do?",
    _make_causal_llm,
    accepts=(
        "fastroute.routers.causal_llm.onnx_engine:OnnxLabelEngine",
        "fastroute.routers.causal_llm.completions_engine:CompletionsLabelEngine",
    ),
)
