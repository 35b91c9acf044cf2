"""The embedder of a router that is trained: the bundled one, or a folder's, kept with the router.

``default`` is the static embedder that ships with fastroute. ``static:DIR`` and ``onnx:DIR`` are
copied to OUTPUT/embedder-HASH, where a router that is loaded from OUTPUT finds them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastroute._files import scratch_folder, sync_files, sync_folder
from fastroute.artifacts import MANIFEST
from fastroute.embedders.base import Embedder
from fastroute.embedders.beside import EMBEDDER_FOLDER, folder_name, holds_embedder
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.training.checkpoint_file import JOURNAL, PARTS

KINDS = ("static", "onnx")


def choose_embedder(choice: str, output: str | os.PathLike[str]) -> tuple[Embedder, Path | None]:
    """The embedder that ``choice`` names, and its folder; None for the bundled one.

    Raises InvalidInputError for another choice, where ``output`` has an embedder that no training
    wrote, and as the embedders do for a folder that holds none.
    """
    _check_others(Path(output))
    return open_choice(choice)


def open_choice(choice: str) -> tuple[Embedder, Path | None]:
    """``choose_embedder`` where nothing is written."""
    if choice == "default":
        return StaticEmbedder.load_default(), None
    kind, _, folder = choice.partition(":")
    if kind not in KINDS or not folder:
        raise InvalidInputError(
            f"--embedder {choice!r} is not one of default, static:FOLDER and onnx:FOLDER"
        )
    if not Path(folder).is_dir():
        raise InvalidInputError(f"--embedder {choice!r}: {folder} is not a folder")
    if kind == "static":
        return StaticEmbedder.load(folder), Path(folder)
    from fastroute.embedders.onnx import OnnxEmbedder

    return OnnxEmbedder(folder, label=EMBEDDER_FOLDER), Path(folder)


@contextmanager
def embedder_kept(
    embedder: Embedder, source: Path | None, output: str | os.PathLike[str]
) -> Iterator[None]:
    """Copy the embedder in ``source`` to ``output`` before the router is saved there within this.

    Embedders of earlier trainings are deleted afterwards. Interrupted at any moment, the old router
    or the new one has its embedder.
    """
    folder = Path(output)
    _check_others(folder)
    kept = None if source is None else folder_name(embedder.name)
    if source is not None and kept is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with scratch_folder(folder) as scratch:
                if not (folder / kept).exists():
                    copy = scratch / kept
                    shutil.copytree(source, copy)
                    sync_files(copy)
                    copy.rename(folder / kept)
            sync_folder(folder)
        except (OSError, shutil.Error) as error:
            raise ArtifactError(f"{source} can't be copied to {folder / kept}: {error}") from error
    yield
    for other in _embedders(folder):
        if other.name != kept:
            shutil.rmtree(other, ignore_errors=True)


def _embedders(folder: Path) -> list[Path]:
    """Embedders in a router's folder; those with a hash even if half deleted."""
    ours = re.compile(rf"{EMBEDDER_FOLDER}-[0-9a-f]{{12}}")
    there = folder.iterdir() if folder.is_dir() else ()
    return [
        path
        for path in there
        if ours.fullmatch(path.name) or (path.name == EMBEDDER_FOLDER and holds_embedder(path))
    ]


def _check_others(folder: Path) -> None:
    """Raise InvalidInputError where there is no sign that a training put an embedder there.

    That is where beside it lies something, but neither a router nor the journal of one.
    """
    others = _embedders(folder)
    if not others:
        return
    beside = {entry.name for entry in folder.iterdir()} - {path.name for path in others}
    if beside and not beside & {MANIFEST, JOURNAL, PARTS}:
        raise InvalidInputError(
            f"{others[0]} holds an embedder that was not written by a training and would be "
            "deleted; name another output folder, or move it away"
        )
