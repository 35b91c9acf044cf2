"""Prompts in, win rates out: the routers, by the names that configs have (``registry``).

A router is one file here, or a package of its name with the class in ``router``: ``sw_ranking``,
``causal_llm``, ``cascade``, and ``many_models`` for ``models``. ``mf`` is ``matrix_factorization``,
which reads RouteLLM's checkpoint by ``routellm_checkpoint``. Each is a ``Router`` of ``base``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.routers.base import EmbeddingRouter as EmbeddingRouter
    from fastroute.routers.base import Router as Router
    from fastroute.routers.bert import BertRouter as BertRouter
    from fastroute.routers.cascade.artifact import load_cascade as load_cascade
    from fastroute.routers.cascade.artifact import save_cascade as save_cascade
    from fastroute.routers.cascade.band import Band as Band
    from fastroute.routers.cascade.router import CascadeExplanation as CascadeExplanation
    from fastroute.routers.cascade.router import CascadeRouter as CascadeRouter
    from fastroute.routers.cascade.router import CascadeStatistics as CascadeStatistics
    from fastroute.routers.causal_llm.completions_engine import (
        CompletionsLabelEngine as CompletionsLabelEngine,
    )
    from fastroute.routers.causal_llm.onnx_engine import OnnxLabelEngine as OnnxLabelEngine
    from fastroute.routers.causal_llm.router import CausalLLMRouter as CausalLLMRouter
    from fastroute.routers.length import LengthRouter as LengthRouter
    from fastroute.routers.many_models.estimator import Estimates as Estimates
    from fastroute.routers.many_models.estimator import SuccessEstimator as SuccessEstimator
    from fastroute.routers.many_models.router import ModelsRouter as ModelsRouter
    from fastroute.routers.matrix_factorization import (
        MatrixFactorizationRouter as MatrixFactorizationRouter,
    )
    from fastroute.routers.random import RandomRouter as RandomRouter
    from fastroute.routers.registry import ROUTER_NAMES as ROUTER_NAMES
    from fastroute.routers.registry import create_router as create_router
    from fastroute.routers.sw_ranking import SimilarityWeightedRouter as SimilarityWeightedRouter

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.routers.base": "EmbeddingRouter Router",
        "fastroute.routers.bert": "BertRouter",
        "fastroute.routers.cascade.artifact": "load_cascade save_cascade",
        "fastroute.routers.cascade.band": "Band",
        "fastroute.routers.cascade.router": "CascadeExplanation CascadeRouter CascadeStatistics",
        "fastroute.routers.causal_llm.completions_engine": "CompletionsLabelEngine",
        "fastroute.routers.causal_llm.onnx_engine": "OnnxLabelEngine",
        "fastroute.routers.causal_llm.router": "CausalLLMRouter",
        "fastroute.routers.length": "LengthRouter",
        "fastroute.routers.many_models.estimator": "Estimates SuccessEstimator",
        "fastroute.routers.many_models.router": "ModelsRouter",
        "fastroute.routers.matrix_factorization": "MatrixFactorizationRouter",
        "fastroute.routers.random": "RandomRouter",
        "fastroute.routers.registry": "ROUTER_NAMES create_router",
        "fastroute.routers.sw_ranking": "SimilarityWeightedRouter",
    },
)
