"""``fastroute train KIND``: make a router, or a part of one, from your own data."""

from __future__ import annotations

from fastroute.cli import _kinds

__all__ = ["configure", "run"]

configure, run = _kinds.commands(
    __name__,
    {
        "mf": "Train a router on battles, graded results of any number of models, or difficulty.",
        "sw_ranking": "Fit the router that rates models on the battles nearest to a prompt.",
        "models": "Train P(success) of each of many models on graded results.",
        "add-model": "Add a model to a trained mf or models router from a few prompts.",
        "acceptance": "Learn when a cascade by evidence may send a cheap answer.",
        "bert": "Fine-tune an encoder as a router, and export it to ONNX.",
        "causal_llm": "Fine-tune a decoder with five label tokens, and export it.",
        "static": "Distil a static embedder from a sentence encoder in ONNX.",
        "signals": "Find which cheap signals are worth their cost beside the embedding.",
    },
)
