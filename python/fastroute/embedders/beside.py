"""The embedder that a saved router has in its own folder."""

from __future__ import annotations

import os
from pathlib import Path

from fastroute.artifacts import MANIFEST
from fastroute.embedders.base import Embedder

#: Where a router that was trained with another embedder than the bundled one has it, in its folder.
EMBEDDER_FOLDER = "embedder"


def has_embedder(folder: str | os.PathLike[str]) -> bool:
    """Whether a router's folder holds an embedder of its own."""
    inside = Path(folder) / EMBEDDER_FOLDER
    return (inside / MANIFEST).is_file() or (inside / "tokenizer.json").is_file()


def embedder_beside(folder: str | os.PathLike[str]) -> Embedder | None:
    """The embedder in a router's folder, static or ONNX, or None where there is none."""
    if not has_embedder(folder):
        return None
    inside = Path(folder) / EMBEDDER_FOLDER
    if (inside / MANIFEST).is_file():
        from fastroute.embedders.static import StaticEmbedder

        return StaticEmbedder.load(inside)
    from fastroute.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(inside)
