"""Text to float32 vectors: ``static`` (default), ``onnx``, ``openai``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports
from fastroute.embedders.base import Embedder

if TYPE_CHECKING:
    from fastroute.embedders.cached import CachedEmbedder
    from fastroute.embedders.onnx import OnnxEmbedder
    from fastroute.embedders.openai import OpenAIEmbedder
    from fastroute.embedders.static import StaticEmbedder
    from fastroute.embedders.vocabulary import Vocabulary

__all__ = [
    "CachedEmbedder",
    "Embedder",
    "OnnxEmbedder",
    "OpenAIEmbedder",
    "StaticEmbedder",
    "Vocabulary",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "CachedEmbedder": "fastroute.embedders.cached",
        "OnnxEmbedder": "fastroute.embedders.onnx",
        "OpenAIEmbedder": "fastroute.embedders.openai",
        "StaticEmbedder": "fastroute.embedders.static",
        "Vocabulary": "fastroute.embedders.vocabulary",
    },
)
