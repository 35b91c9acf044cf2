"""Embeddings of training prompts, with a progress bar."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastroute._progress import progress_bar
from fastroute.embedders.base import Embedder
from fastroute.types import Float32Array

# Embedded at a time: between two blocks the bar moves, and Ctrl-C is handled.
_BLOCK = 256


def embed(embedder: Embedder, prompts: Sequence[str], *, progress: bool = False) -> Float32Array:
    """Embeddings of ``prompts``, float32[n, d]; with ``progress`` a bar on a terminal."""
    X = np.empty((len(prompts), embedder.dimensions), dtype=np.float32)
    with progress_bar(len(prompts), "embed", shown=progress) as advance:
        for begin in range(0, len(prompts), _BLOCK):
            block = list(prompts[begin : begin + _BLOCK])
            X[begin : begin + len(block)] = embedder.embed_batch(block)
            advance(len(block))
    return X
