"""An inverted file that is built in shards and stays on disk: its lists are mapped, not read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._files import whole_file
from fastroute.routers.sw_ranking.battle_table import Ids
from fastroute.routers.sw_ranking.near_field import default_index
from fastroute.routers.sw_ranking.neighbors import NeighborIndex
from fastroute.routers.sw_ranking.sums import Int64Array
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


def fill_shard(empty: Path, blocks: Iterable[Float32Array], path: Path) -> Int64Array:
    """Write ``empty`` with vectors, float32[n, d] a block; their numbers, list by list."""
    import faiss

    index = faiss.read_index(str(empty))
    for rows in blocks:
        index.add(np.ascontiguousarray(rows))
    faiss.write_index(index, str(path))
    held: Any = faiss.extract_index_ivf(index).invlists
    lists = ((n, held.list_size(n)) for n in range(held.nlist))
    numbers = [faiss.rev_swig_ptr(held.get_ids(n), size) for n, size in lists if size]
    return np.concatenate(numbers).astype(np.int64)


def merge_shards(empty: Path, shards: Sequence[Path], lists: Path) -> tuple[MergedIndex, Ids]:
    """All shards in one index, whose lists are in the file ``lists``, and how many vectors of each
    shard are in each list, int32[shards, lists].

    Vectors are numbered list by list, those of a list by shard. The file has the codes and then the
    numbers of each list, as FAISS maps it. FAISS's own merge writes to standard output.
    """
    import faiss

    opened: list[Any] = [faiss.read_index(str(path), faiss.IO_FLAG_MMAP) for path in shards]
    held_by: list[Any] = [faiss.extract_index_ivf(index).invlists for index in opened]
    parts = [faiss.downcast_InvertedLists(held) for held in held_by]
    index: Any = faiss.read_index(str(empty))
    inner: Any = faiss.extract_index_ivf(index)
    size = int(inner.code_size)
    sizes = ([part.list_size(n) for n in range(inner.nlist)] for part in parts)
    lengths = np.stack([np.array(some, np.int32) for some in sizes])
    ends = lengths.sum(axis=0).cumsum()
    with whole_file(lists) as temporary, temporary.open("wb") as file:
        for number, end in enumerate(ends.tolist()):
            for part, length in zip(parts, lengths[:, number].tolist(), strict=True):
                if length:
                    file.write(faiss.rev_swig_ptr(part.get_codes(number), length * size).data)
            file.write(np.arange(ends[number - 1] if number else 0, end).data)
    held: Any = faiss.OnDiskInvertedLists(inner.nlist, size, str(lists))
    totals = lengths.sum(axis=0).astype(np.uint64)
    held.set_all_lists_sizes(faiss.swig_ptr(totals))
    held.totsize = lists.stat().st_size
    inner.replace_invlists(held, True)
    held.this.disown()
    index.ntotal = inner.ntotal = int(lengths.sum())
    return MergedIndex(index), lengths


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
