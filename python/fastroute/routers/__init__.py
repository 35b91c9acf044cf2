"""Prompts in, win rates out: the routers, by the names that configs have (``registry``).

A router is one file here, or a package of its name with the class in ``router``: ``sw_ranking``,
``causal_llm``, ``cascade``, and ``many_models`` for ``models``. ``mf`` is ``matrix_factorization``,
which reads RouteLLM's checkpoint by ``routellm_checkpoint``. Each is a ``Router`` of ``base``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.base import EmbeddingRouter, Router
    from fastroute.routers.bert import BertRouter
    from fastroute.routers.cascade import (
        Band,
        CascadeExplanation,
        CascadeRouter,
        CascadeStatistics,
        load_cascade,
        save_cascade,
    )
    from fastroute.routers.causal_llm import (
        CausalLLMRouter,
        CompletionsLabelEngine,
        OnnxLabelEngine,
    )
    from fastroute.routers.length import LengthRouter
    from fastroute.routers.many_models import Estimates, ModelsRouter, SuccessEstimator
    from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
    from fastroute.routers.random import RandomRouter
    from fastroute.routers.registry import ROUTER_NAMES, create_router
    from fastroute.routers.sw_ranking import SimilarityWeightedRouter

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
    "Estimates",
    "LengthRouter",
    "MatrixFactorizationRouter",
    "ModelsRouter",
    "OnnxLabelEngine",
    "RandomRouter",
    "Router",
    "SimilarityWeightedRouter",
    "SuccessEstimator",
    "create_router",
    "load_cascade",
    "save_cascade",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ROUTER_NAMES": "fastroute.routers.registry",
        "Band": "fastroute.routers.cascade",
        "BertRouter": "fastroute.routers.bert",
        "CascadeExplanation": "fastroute.routers.cascade",
        "CascadeRouter": "fastroute.routers.cascade",
        "CascadeStatistics": "fastroute.routers.cascade",
        "CausalLLMRouter": "fastroute.routers.causal_llm",
        "CompletionsLabelEngine": "fastroute.routers.causal_llm",
        "EmbeddingRouter": "fastroute.routers.base",
        "Estimates": "fastroute.routers.many_models",
        "LengthRouter": "fastroute.routers.length",
        "MatrixFactorizationRouter": "fastroute.routers.matrix_factorization",
        "ModelsRouter": "fastroute.routers.many_models",
        "OnnxLabelEngine": "fastroute.routers.causal_llm",
        "RandomRouter": "fastroute.routers.random",
        "Router": "fastroute.routers.base",
        "SimilarityWeightedRouter": "fastroute.routers.sw_ranking",
        "SuccessEstimator": "fastroute.routers.many_models",
        "create_router": "fastroute.routers.registry",
        "load_cascade": "fastroute.routers.cascade",
        "save_cascade": "fastroute.routers.cascade",
    },
)
