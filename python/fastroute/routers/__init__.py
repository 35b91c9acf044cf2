"""Prompts in, win rates out: the routers, by the names that configs have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.band import Band
    from fastroute.routers.base import EmbeddingRouter, Router
    from fastroute.routers.bert import BertRouter
    from fastroute.routers.cascade import (
        CascadeExplanation,
        CascadeRouter,
        CascadeStatistics,
    )
    from fastroute.routers.cascade_artifact import load_cascade, save_cascade
    from fastroute.routers.causal_llm import CausalLLMRouter
    from fastroute.routers.label_completions import CompletionsLabelEngine
    from fastroute.routers.label_onnx import OnnxLabelEngine
    from fastroute.routers.length import LengthRouter
    from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
    from fastroute.routers.random import RandomRouter
    from fastroute.routers.registry import ROUTER_NAMES, create_router
    from fastroute.routers.similarity_weighted import SimilarityWeightedRouter

__all__ = [
    "ROUTER_NAMES",
    "Band",
    "BertRouter",
    "CascadeExplanation",
    "CascadeRouter",
    "CascadeStatistics",
    "CausalLLMRouter",
    "CompletionsLabelEngine",
    "EmbeddingRouter",
    "LengthRouter",
    "MatrixFactorizationRouter",
    "OnnxLabelEngine",
    "RandomRouter",
    "Router",
    "SimilarityWeightedRouter",
    "create_router",
    "load_cascade",
    "save_cascade",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ROUTER_NAMES": "fastroute.routers.registry",
        "Band": "fastroute.routers.band",
        "BertRouter": "fastroute.routers.bert",
        "CascadeExplanation": "fastroute.routers.cascade",
        "CascadeRouter": "fastroute.routers.cascade",
        "CascadeStatistics": "fastroute.routers.cascade",
        "CausalLLMRouter": "fastroute.routers.causal_llm",
        "CompletionsLabelEngine": "fastroute.routers.label_completions",
        "EmbeddingRouter": "fastroute.routers.base",
        "LengthRouter": "fastroute.routers.length",
        "MatrixFactorizationRouter": "fastroute.routers.matrix_factorization",
        "OnnxLabelEngine": "fastroute.routers.label_onnx",
        "RandomRouter": "fastroute.routers.random",
        "Router": "fastroute.routers.base",
        "SimilarityWeightedRouter": "fastroute.routers.similarity_weighted",
        "create_router": "fastroute.routers.registry",
        "load_cascade": "fastroute.routers.cascade_artifact",
        "save_cascade": "fastroute.routers.cascade_artifact",
    },
)
