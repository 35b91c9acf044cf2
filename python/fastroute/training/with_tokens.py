"""Prompts that say something to an embedder: those with a token that it knows."""

from __future__ import annotations

import numpy as np

from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.types import BoolArray, Float32Array


def with_tokens(X: Float32Array, embedder: Embedder | None) -> BoolArray:
    """Which rows of the embeddings ``X``, float32[n, d], are not zero: bool[n].

    Raises InvalidInputError where there are rows and none is: nothing could be learnt from them.
    """
    said = np.asarray(X.any(axis=1), dtype=np.bool_)
    if len(X) and not said.any():
        which = "the embedder" if embedder is None else f"embedder {embedder.name!r}"
        raise InvalidInputError(
            f"none of the {len(X):,} prompts has a token that {which} knows, so there is nothing "
            "to learn from; give prompts in a language it was made for, or another embedder"
        )
    return said


def without_tokens(said: BoolArray) -> str:
    """What is to be told beside a number that is too small, where some rows are zero."""
    silent = len(said) - int(said.sum())
    if not silent:
        return ""
    return f" ({silent:,} of {len(said):,} prompts have no token that the embedder knows)"
