"""Text to float32 vectors: ``static`` (default), ``onnx``, ``openai``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.embedders.base import Embedder as Embedder
    from fastroute.embedders.cached import CachedEmbedder as CachedEmbedder
    from fastroute.embedders.onnx import OnnxEmbedder as OnnxEmbedder
    from fastroute.embedders.openai import OpenAIEmbedder as OpenAIEmbedder
    from fastroute.embedders.static import StaticEmbedder as StaticEmbedder
    from fastroute.embedders.vocabulary import Vocabulary as Vocabulary

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.embedders.base": "Embedder",
        "fastroute.embedders.cached": "CachedEmbedder",
        "fastroute.embedders.onnx": "OnnxEmbedder",
        "fastroute.embedders.openai": "OpenAIEmbedder",
        "fastroute.embedders.static": "StaticEmbedder",
        "fastroute.embedders.vocabulary": "Vocabulary",
    },
)
