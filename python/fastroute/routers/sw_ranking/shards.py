"""Battles on disk, in shards, and a router that is fitted to them without holding them.

Each shard is a folder of its own, so that processes write and fit them side by side. Embeddings are
stored as int8. ``write_shard`` is the first round over the battles, ``fit_shard`` the second, and
``assemble`` makes the artifact of ``sw_ranking.artifact`` from all of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.provenance import Provenance
from fastroute.routers.sw_ranking import artifact, far_field, near_field
from fastroute.routers.sw_ranking.battle_table import read_columns
from fastroute.routers.sw_ranking.contents import INDEX, LISTS
from fastroute.routers.sw_ranking.disk_index import (
    TRAINED_PER_LIST,
    fill_shard,
    lists_of,
    merge_shards,
    train_empty,
)
from fastroute.routers.sw_ranking.neighbors import UnitRows
from fastroute.routers.sw_ranking.sums import BattleCounts, FarFieldPlan, FarFieldSums
from fastroute.types import Float32Array

#: What a shard has for each battle, and its dtype; ``a`` and ``b`` number the shard's own models.
_FILES = {"rows": "int8", "scales": "float32", "a": "int32", "b": "int32", "outcome": "int8"}
_ROWS_AT_ONCE = 65_536
_EMPTY = "empty.faiss"

#: Embeddings float32[n, d], model_a, model_b and winner of n battles.
Block = tuple[Float32Array, Sequence[str], Sequence[str], Sequence[str]]


def write_shard(folder: Path, blocks: Iterable[Block]) -> int:
    """Write battles as a shard, and return how many; errors as ``fit``.

    An interrupted shard is written again from the start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts, total = BattleCounts("int8"), 0
    names: list[str] = []
    with ExitStack() as stack:
        files = {n: stack.enter_context((folder / f"{n}.raw").open("wb")) for n in _FILES}
        for embeddings, model_a, model_b, winner in blocks:
            if not len(embeddings):
                continue
            vectors = UnitRows.store(embeddings, "int8")
            models, a, b, outcome = read_columns(len(embeddings), model_a, model_b, winner)
            counts.add(vectors, models, a, b, outcome)
            names += [model for model in models if model not in names]
            own = np.array([names.index(model) for model in models], np.int32)
            columns = {"rows": vectors.rows, "scales": vectors.scales, "a": own[a], "b": own[b],
                       "outcome": outcome}  # fmt: skip
            for name, column in columns.items():
                files[name].write(np.ascontiguousarray(column).data)
            total += len(embeddings)
    dimensions = counts.sample.rows.shape[1]
    np.savez(folder / "counts.npz", counts=counts.counts, numbers=counts.sample.numbers)
    facts = {"battles": total, "dimensions": dimensions, "models": names,
             "counted": list(counts.models)}  # fmt: skip
    (folder / "shard.json").write_text(json.dumps(facts))
    return total


class Shard:
    """A shard that ``write_shard`` has written.

    Attributes:
        battles, dimensions: how many, of how many dimensions. models: their names.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        facts = json.loads((folder / "shard.json").read_text())
        self.battles: int = facts["battles"]
        self.dimensions: int = facts["dimensions"]
        self.models: list[str] = facts["models"]
        self._counted: list[str] = facts["counted"]

    def counts(self) -> BattleCounts:
        """The first round's, with the sample of the rows."""
        counts = BattleCounts("int8")
        with np.load(self.folder / "counts.npz") as arrays:
            counts.models, counts.counts = tuple(self._counted), arrays["counts"]
            numbers = arrays["numbers"]
        for first, rows in self.blocks():
            inside = numbers[(numbers >= first) & (numbers < first + len(rows))]
            counts.sample.add(rows[inside - first])
        return counts

    def keep(self, models: Sequence[str]) -> bool:
        """Remove the battles of other models; whether any is left."""
        known = np.array([model in models for model in self.models], np.bool_)
        kept = known[self.column("a")] & known[self.column("b")]
        if not kept.all():
            rows = np.memmap(self.folder / "rows.raw", np.int8, "r").reshape(self.battles, -1)
            for first in range(0, self.battles, _ROWS_AT_ONCE):
                some = rows[first : first + _ROWS_AT_ONCE]
                with (self.folder / "kept.raw").open("wb" if first == 0 else "ab") as file:
                    file.write(np.ascontiguousarray(some[kept[first : first + len(some)]]).data)
            (self.folder / "kept.raw").replace(self.folder / "rows.raw")
            for name in _FILES:
                if name != "rows":
                    self.column(name)[kept].tofile(self.folder / f"{name}.raw")
            self.battles = int(kept.sum())
            facts = json.loads((self.folder / "shard.json").read_text())
            facts |= {"battles": self.battles}
            (self.folder / "shard.json").write_text(json.dumps(facts))
        return self.battles > 0

    def blocks(self) -> Iterator[tuple[int, Float32Array]]:
        """(first, unit rows float32[n, d]) of all battles in order."""
        with (self.folder / "rows.raw").open("rb") as file:
            scales = self.column("scales")
            for first in range(0, self.battles, 16_384):
                count = min(16_384, self.battles - first)
                flat = np.fromfile(file, np.int8, count * self.dimensions)
                rows = UnitRows(flat.reshape(count, -1), scales[first : first + count])
                yield first, rows.take(np.arange(count))

    def column(self, name: str) -> npt.NDArray[Any]:
        """One number a battle."""
        return np.fromfile(self.folder / f"{name}.raw", _FILES[name])


def count_shards(shards: Sequence[Shard]) -> BattleCounts:
    """The first round over all shards."""
    total = BattleCounts("int8")
    for shard in shards:
        if shard.battles:
            total = total.merge(shard.counts())
    return total


def train_shard_index(shards: Sequence[Shard], plan: FarFieldPlan, folder: Path) -> None:
    """Write the index that all shards fill, into ``folder``: it learns from rows of all of them."""
    count = sum(shard.battles for shard in shards)
    stride = max(1, count // (TRAINED_PER_LIST * max(lists_of(count), 1)))
    axes = _index_axes(plan)
    some = [rows[::stride] @ axes.T for shard in shards for _, rows in shard.blocks()]
    train_empty(count, np.concatenate(some), folder / _EMPTY)


def _index_axes(plan: FarFieldPlan) -> Float32Array:
    return np.ascontiguousarray(plan.axes.axes[: far_field.INDEX_AXES])


def fit_shard(shard: Shard, plan: FarFieldPlan, first: int, folder: Path) -> None:
    """The second round over a shard, whose battles are numbered from ``first``.

    Writes the cell, the cluster and the models of each battle, the sums and the index of the shard
    into its folder. ``folder`` has what ``train_shard_index`` wrote.
    """
    known = {name: i for i, name in enumerate(plan.models)}
    numbers = np.array([known.get(name, -1) for name in shard.models], np.int32)
    a, b, outcome = numbers[shard.column("a")], numbers[shard.column("b")], shard.column("outcome")
    cells = plan.table(a, b, outcome).cells()
    sums, axes, clusters = FarFieldSums(plan), _index_axes(plan), []

    def projected() -> Iterator[Float32Array]:
        for begin, rows in shard.blocks():
            clusters.append(sums.add(rows, cells[begin : begin + len(rows)]))
            yield rows @ axes.T

    fill_shard(folder / _EMPTY, projected(), first, shard.folder / INDEX)
    arrays: dict[str, Any] = dict(sums.sums)
    np.savez(shard.folder / "sums.npz", **arrays)
    columns = {"cells": cells, "clusters": np.concatenate(clusters), "model_a": a, "model_b": b}
    for name, column in columns.items():
        column.tofile(shard.folder / f"{name}.raw")


def assemble(
    output: Path,
    shards: Sequence[Shard],
    plan: FarFieldPlan,
    folder: Path,
    *,
    options: Mapping[str, Any],
    embedder: Embedder | None,
    provenance: Provenance,
) -> None:
    """Write the artifact of a router that is fitted to all shards; they are used up.

    ``folder`` is as for ``fit_shard``, on the file system of ``output``.
    """
    sums = FarFieldSums(plan)
    for shard in shards:
        part = FarFieldSums(plan)
        with np.load(shard.folder / "sums.npz") as arrays:
            part.sums = {name: arrays[name] for name in arrays.files}
        sums = sums.merge(part)
    index = merge_shards(folder / _EMPTY, [s.folder / INDEX for s in shards], folder / LISTS)
    dtypes = _FILES | {"cells": "uint16", "clusters": "uint16", "model_a": "int32",
                       "model_b": "int32"}  # fmt: skip
    large: dict[str, Any] = {}
    for name in ("cells", "model_a", "model_b", "outcome", "clusters", "scales", "rows"):
        large[f"{name}.npy"] = _joined(shards, name, dtypes[name], folder)
    large[LISTS] = folder / LISTS
    large[INDEX] = lambda path, before: index.save(path, before[LISTS]["file"])
    none = np.zeros(0, np.int32)
    artifact.write(
        output,
        plan.table(none, none, none.astype(np.int8)),
        plan.start,
        large,
        (sums.moments(), far_field.RANK, near_field.NEIGHBORS),
        options=options,
        embedder=embedder,
        measured_error=None,
        provenance=provenance,
    )


def _joined(shards: Sequence[Shard], name: str, dtype: str, folder: Path) -> Path:
    """A ``.npy`` file with the column of all shards, a block at a time; theirs are removed."""
    count = sum(shard.battles for shard in shards)
    shape = (count, shards[0].dimensions) if name == "rows" else (count,)
    path = folder / f"{name}.npy"
    with path.open("wb") as target:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(target, header)
        for shard in shards:
            source = shard.folder / f"{name}.raw"
            with source.open("rb") as file:
                while chunk := file.read(_ROWS_AT_ONCE * 64):
                    target.write(chunk)
            source.unlink()
    return path


def check_enough(battles: int, least: int) -> None:
    """Raise InvalidInputError where a far field of so few battles would not pay."""
    if battles < least:
        raise InvalidInputError(
            f"{battles:,} battles are fitted in memory, and shards need at least {least:,}; leave "
            "the engine out (--engine)"
        )
