"""The ``causal_llm`` router: a decoder is asked for one of five labels.

``router`` makes win rates of the labels' probabilities, which an ``engine`` gives: by onnxruntime
here (``onnx_engine``) or from a model that is served (``completions_engine``). Both ask by
``prompt``: the user's text, truncated, in the ``template`` of the model's folder, as tokens of
its ``tokenizer``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.causal_llm.completions_engine import CompletionsLabelEngine
    from fastroute.routers.causal_llm.engine import LabelEngine
    from fastroute.routers.causal_llm.onnx_engine import OnnxLabelEngine
    from fastroute.routers.causal_llm.router import CausalLLMRouter

__all__ = ["CausalLLMRouter", "CompletionsLabelEngine", "LabelEngine", "OnnxLabelEngine"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CausalLLMRouter": "fastroute.routers.causal_llm.router",
        "CompletionsLabelEngine": "fastroute.routers.causal_llm.completions_engine",
        "LabelEngine": "fastroute.routers.causal_llm.engine",
        "OnnxLabelEngine": "fastroute.routers.causal_llm.onnx_engine",
    },
)
