"""An inverted file that is built in shards and stays on disk: its lists are mapped, not read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastroute.routers.sw_ranking.near_field import default_index
from fastroute.routers.sw_ranking.neighbors import NeighborIndex
from fastroute.types import Float32Array

#: Vectors an inverted list from which its centre is learned.
TRAINED_PER_LIST = 20


def lists_of(count: int) -> int:
    """The number of inverted lists of an index of so many vectors; 0 where it has none."""
    factory, _ = default_index(count)
    return int(factory.removeprefix("IVF").partition("_")[0].partition(",")[0] or 0) * (
        factory.startswith("IVF")
    )


def train_empty(count: int, sample: Float32Array, path: Path) -> None:
    """Write an index for ``count`` vectors that has learned its lists and holds none."""
    index = NeighborIndex(sample.shape[1], *default_index(count))
    index.train(sample)
    index.save(path)


def fill_shard(empty: Path, blocks: Iterable[Float32Array], first: int, path: Path) -> None:
    """Write ``empty`` with vectors, float32[n, d] a block, numbered from ``first``."""
    import faiss

    index = faiss.read_index(str(empty))
    for rows in blocks:
        numbers = np.arange(first, first + len(rows), dtype=np.int64)
        index.add_with_ids(np.ascontiguousarray(rows), numbers)
        first += len(rows)
    faiss.write_index(index, str(path))


def merge_shards(empty: Path, shards: Sequence[Path], lists: Path) -> MergedIndex:
    """All shards in one index, whose lists are in the file ``lists``."""
    import faiss
    from faiss.contrib.ondisk import merge_ondisk

    index = faiss.read_index(str(empty))
    merge_ondisk(index, [str(shard) for shard in shards], str(lists))
    return MergedIndex(index)


class MergedIndex:
    """An index whose lists are in another file, which is to be beside it."""

    def __init__(self, index: Any) -> None:
        self._index = index

    def save(self, path: Path, lists: str) -> None:
        """Write the index; ``lists`` is the name of the file beside it."""
        import faiss

        held: Any = faiss.extract_index_ivf(self._index).invlists
        held = faiss.downcast_InvertedLists(held)
        held.filename = lists
        faiss.write_index(self._index, str(path))
