"""The embedder that a saved router was made with: in the router's folder, or the bundled one.

A router that was trained with another embedder than the bundled one has it in a folder whose name
ends with the hash in the embedder's name, ``embedder-0123456789ab``. So a training over an older
router never changes an embedder that the older manifest names.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from fastroute.artifacts import MANIFEST, load_artifact
from fastroute.embedders.base import Embedder
from fastroute.embedders.static import StaticEmbedder

#: The folder's name without the hash, as older versions wrote it.
EMBEDDER_FOLDER = "embedder"


def folder_name(embedder_name: str) -> str:
    """Name of the folder for an embedder: ``embedder-`` and the hash in its name, if it has one."""
    found = re.search(":([0-9a-f]{12})$", embedder_name)
    return EMBEDDER_FOLDER + (f"-{found[1]}" if found else "")


def embedder_folder(folder: str | os.PathLike[str]) -> Path | None:
    """The folder of the router's embedder within a router's folder; None if there is none.

    Raises as ``load_artifact`` for a router's artifact that can't be read.
    """
    path = Path(folder)
    name = None
    if (path / MANIFEST).is_file():  # a checkpoint of RouteLLM has none
        name = load_artifact(path, only=()).config.get("embedder")
    if isinstance(name, str) and holds_embedder(path / folder_name(name)):
        return path / folder_name(name)
    old = path / EMBEDDER_FOLDER
    # A training with the bundled embedder that was killed leaves the one before it.
    return old if holds_embedder(old) and name != StaticEmbedder.load_default().name else None


def holds_embedder(folder: Path) -> bool:
    """Whether a folder holds an embedder, static or ONNX."""
    return (folder / MANIFEST).is_file() or (folder / "tokenizer.json").is_file()


def embedder_beside(folder: str | os.PathLike[str]) -> Embedder | None:
    """The embedder in a router's folder, static or ONNX; None if there is none."""
    inside = embedder_folder(folder)
    return None if inside is None else open_embedder(inside)


def open_embedder(folder: Path) -> Embedder:
    """Load the static or ONNX embedder in ``folder``; its name does not depend on the folder's."""
    if (folder / MANIFEST).is_file():
        return StaticEmbedder.load(folder)
    from fastroute.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(folder, label=EMBEDDER_FOLDER)
