"""The embedder of a router that is trained: the bundled one, or a folder's, kept with the router.

``default`` is the static embedder that ships with fastroute. ``static:DIR`` and ``onnx:DIR`` are
copied to OUTPUT/embedder, where a router that is loaded from OUTPUT finds them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fastroute.artifacts import MANIFEST
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import EMBEDDER_FOLDER, has_embedder
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.training.checkpoint_file import JOURNAL

KINDS = ("static", "onnx")


def choose_embedder(choice: str, output: str | os.PathLike[str]) -> Embedder:
    """The embedder that ``choice`` names, after copying it to ``output`` unless it is the default.

    Raises InvalidInputError for another choice, and as the embedders do for a folder that holds
    none.
    """
    target = Path(output) / EMBEDDER_FOLDER
    if choice == "default":
        from fastroute.embedders.static import StaticEmbedder

        remove_embedder(output)
        return StaticEmbedder.load_default()
    kind, _, folder = choice.partition(":")
    if kind not in KINDS or not folder:
        raise InvalidInputError(
            f"--embedder {choice!r} is not one of default, static:FOLDER and onnx:FOLDER"
        )
    if not Path(folder).is_dir():
        raise InvalidInputError(f"--embedder {choice!r}: {folder} is not a folder")
    _open(kind, folder)  # an invalid embedder is refused before anything is copied
    copy_embedder(folder, output)
    return _open(kind, target)


def copy_embedder(folder: str | os.PathLike[str], output: str | os.PathLike[str]) -> None:
    """Copy the files of an embedder to ``output``, in place of what is there."""
    target = Path(output) / EMBEDDER_FOLDER
    if Path(folder).resolve() == target.resolve():
        return
    try:
        remove_embedder(output)
        shutil.copytree(folder, target)
    except (OSError, shutil.Error) as error:
        raise ArtifactError(f"{folder} can't be copied to {target}: {error}") from error


def remove_embedder(output: str | os.PathLike[str]) -> None:
    """Delete the embedder of an earlier training, which the new router does not use.

    Raises InvalidInputError where there is no sign that a training put it there: beside it lies
    something, but neither a router nor the journal of one.
    """
    folder = Path(output)
    if not has_embedder(folder):
        return
    others = {entry.name for entry in folder.iterdir()} - {EMBEDDER_FOLDER}
    if others and not others & {MANIFEST, JOURNAL}:
        raise InvalidInputError(
            f"{folder / EMBEDDER_FOLDER} holds an embedder that was not written by a training and "
            "would be deleted; name another output folder, or move it away"
        )
    shutil.rmtree(folder / EMBEDDER_FOLDER)


def _open(kind: str, folder: str | os.PathLike[str]) -> Embedder:
    if kind == "static":
        from fastroute.embedders.static import StaticEmbedder

        return StaticEmbedder.load(folder)
    from fastroute.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(folder)
