"""Makes the router that ships with fastroute: a static table and an ``mf`` head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fastroute.artifacts import save_artifact
from fastroute.data import GradedResult
from fastroute.embedders.static import KIND as STATIC
from fastroute.embedders.static import StaticEmbedder
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.heads import save_mf, train_mf
from fastroute.training.labels import LABELS
from fastroute.training.recipe import Recipe, weights_of
from fastroute.training.static.encoder import load_encoder, read_tokenizer
from fastroute.training.static.token_table import LENGTH_SCALE, distil

#: What the vectors are called; a checksum follows it once they are loaded.
EMBEDDER_NAME = "static:all-MiniLM-L6-v2-256"


def make_embedder(
    encoder: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> StaticEmbedder:
    """Distil the encoder in folder ``encoder`` into ``folder``, and load the result.

    ``encoder`` holds an ONNX model (``load_encoder``) and its tokenizer.json. Raises
    InvalidInputError for a folder that lacks either.
    """
    arrays, files = distil(load_encoder(encoder), read_tokenizer(encoder))
    config = {"name": EMBEDDER_NAME, "length_scale": LENGTH_SCALE}
    save_artifact(folder, kind=STATIC, config=config, arrays=arrays, files=files)
    return StaticEmbedder.load(folder)


def train_default(
    rows: Sequence[GradedResult], embedder: StaticEmbedder, recipe: Recipe | None = None
) -> MatrixFactorizationRouter:
    """Train the default router's head on ``rows``."""
    recipe = recipe or Recipe()
    return train_mf(
        [row.prompt for row in rows],
        LABELS[recipe.label](rows),
        embedder=embedder,
        groups=[row.group for row in rows],
        weights=weights_of(rows, recipe.weighting),
        ridge=recipe.ridge,
        signal_weight=recipe.signal_weight,
    )


def save_default(folder: str | os.PathLike[str], router: MatrixFactorizationRouter) -> None:
    """Write the head to ``folder``/mf; its embedder is in ``folder``/embedder already."""
    save_mf(Path(folder) / "mf", router)
