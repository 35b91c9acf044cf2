"""The recipe of the router that ships with fastroute: a static table and an ``mf`` head."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastroute.artifacts import save_artifact
from fastroute.embedders.static import KIND as STATIC
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.data import JudgedBattle
from fastroute.training.encoder import load_encoder
from fastroute.training.heads import save_mf, train_mf
from fastroute.training.labels import LABELS
from fastroute.training.preferences import Preference
from fastroute.training.static_table import distil
from fastroute.types import Float64Array

#: What the vectors are called; a checksum follows it once they are loaded.
EMBEDDER_NAME = "static:all-MiniLM-L6-v2-256"
#: Unit of the element for the length. Small, so that cosines between embeddings, which sw_ranking
#: takes, stay those of their meaning: it adds 0.02 to the square of a vector of 100 tokens.
LENGTH_SCALE = 1.0 / 32.0


class Recipe(NamedTuple):
    """What is chosen about the head.

    Attributes:
        label: a key of ``labels.LABELS``.
        weighting: how much the prompts of a file count in sum: "rows" as many as they are,
            "files" the same for each file.
        ridge: ridge strength, or None for the best on held-out folds.
        signal_weight: weight of the prompt's length against what it means, or None to learn it.
    """

    label: str = "difficulty"
    weighting: str = "files"
    ridge: float | None = 30.0
    signal_weight: float | None = 1.0


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


def read_tokenizer(folder: str | os.PathLike[str]) -> Any:
    """The ``tokenizers.Tokenizer`` in ``folder``/tokenizer.json."""
    from tokenizers import Tokenizer

    path = Path(folder) / "tokenizer.json"
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # what tokenizers raises has no narrower type
        raise InvalidInputError(
            f"{path} can't be read as a tokenizer ({error}); give a folder that holds an encoder "
            "and its tokenizer"
        ) from error


def weights_of(rows: Sequence[Preference | JudgedBattle], weighting: str) -> Float64Array:
    """The weight of each row, float64[n], with mean 1."""
    if weighting == "rows":
        return np.ones(len(rows))
    if weighting != "files":
        raise InvalidInputError(f"weighting must be 'rows' or 'files', got {weighting!r}")
    _, index, counts = np.unique(
        [row.file for row in rows], return_inverse=True, return_counts=True
    )
    weights: Float64Array = len(rows) / (len(counts) * counts[index])
    return weights


def train_default(
    rows: Sequence[Preference], embedder: StaticEmbedder, recipe: Recipe | None = None
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
