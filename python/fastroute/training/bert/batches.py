"""Batches of token ids: prompts of similar length together, so that little is padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.random import default_rng

from fastroute.types import Int64Array

# Batches are sorted by length within so many; more would leave less to chance.
_POOL = 50


def epoch_batches(
    lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int
) -> list[Int64Array]:
    """Every position once, in batches in random order, decided by ``seed`` and ``epoch``."""
    random = default_rng([seed, epoch])
    order = random.permutation(len(lengths)).astype(np.int64)
    size = np.asarray(lengths)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = order[start : start + batch_size * _POOL]
        pool = pool[np.argsort(size[pool], kind="stable")]
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    return [batches[i] for i in random.permutation(len(batches))]


def sorted_batches(lengths: Sequence[int], batch_size: int) -> list[Int64Array]:
    """Every position once, shortest first."""
    order = np.argsort(np.asarray(lengths), kind="stable").astype(np.int64)
    return [order[at : at + batch_size] for at in range(0, len(order), batch_size)]


def padded(ids: Sequence[Sequence[int]], pad_id: int) -> tuple[Any, Any]:
    """Token ids and their mask as torch tensors, int64[n, longest]."""
    import torch

    width = max(len(row) for row in ids)
    tokens = np.full((len(ids), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), width), dtype=np.int64)
    for i, row in enumerate(ids):
        tokens[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)
