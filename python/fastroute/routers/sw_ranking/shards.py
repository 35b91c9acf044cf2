"""Battles on disk, in shards, and a router that is fitted to them without holding them.

Each shard is a folder of its own, so that processes write and fit them side by side. Embeddings are
stored as int8. ``write_shard`` is the first round over the battles, ``fit_shard`` the second, and
``assemble`` makes the artifact of ``sw_ranking.artifact`` from all of them. Each step can be called
again in the folder of a process that was killed, and gives the same bytes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute._files import sync_files, whole_file
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.provenance import Provenance
from fastroute.routers.sw_ranking import artifact, far_field, near_field
from fastroute.routers.sw_ranking.battle_table import Ids, read_columns
from fastroute.routers.sw_ranking.contents import INDEX, LISTS
from fastroute.routers.sw_ranking.disk_index import (
    TRAINED_PER_LIST,
    fill_shard,
    lists_of,
    merge_shards,
    train_empty,
)
from fastroute.routers.sw_ranking.neighbors import UnitRows
from fastroute.routers.sw_ranking.sums import (
    BattleCounts,
    FarFieldPlan,
    FarFieldSums,
    Int64Array,
)
from fastroute.types import Float32Array

#: What a shard has for each battle, and its dtype; ``a`` and ``b`` number the shard's own models.
_FILES = {"rows": "int8", "scales": "float32", "a": "int32", "b": "int32", "outcome": "int8"}
#: The same of what ``fit_shard`` writes, in the order of the index's lists. It numbers the models
#: of the plan, and ``order`` the battles as they came.
_FITTED = {"cells": "uint16", "clusters": "uint16", "model_a": "int32", "model_b": "int32",
           "outcome": "int8", "order": "int64", "scales": "float32", "rows": "int8"}  # fmt: skip
_ROWS_AT_ONCE = 16_384
_MERGED_AT_ONCE = 1 << 25  # bytes of a column
_EMPTY, _COUNTS, _SUMS = "empty.faiss", "counts.npz", "sums.npz"

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
    np.savez(folder / _COUNTS, counts=counts.counts, numbers=counts.sample.numbers)
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
        self._stored = self.battles
        self._kept: npt.NDArray[np.bool_] | None = None

    def counts(self) -> BattleCounts:
        """The first round's, with the sample of the rows."""
        counts = BattleCounts("int8")
        with np.load(self.folder / _COUNTS) as arrays:
            counts.models, counts.counts = tuple(self._counted), arrays["counts"]
            numbers = arrays["numbers"]
        for first, rows in self.blocks():
            inside = numbers[(numbers >= first) & (numbers < first + len(rows))]
            counts.sample.add(rows[inside - first])
        return counts

    def of(self, models: Sequence[str]) -> Shard:
        """The battles between some of the models only."""
        some, known = Shard(self.folder), np.array([m in models for m in self.models], np.bool_)
        kept = known[some.column("a")] & known[some.column("b")]
        if not kept.all():
            some._kept, some.battles = kept, int(kept.sum())
        return some

    @property
    def is_fitted(self) -> bool:
        """Whether ``fit_shard`` has finished."""
        return (self.folder / _SUMS).exists()

    def blocks(self) -> Iterator[tuple[int, Float32Array]]:
        """(first, unit rows float32[n, d]) of all battles in order."""
        first = 0
        for flat, scales in zip(self._some("rows"), self._some("scales"), strict=True):
            rows = UnitRows(flat.reshape(len(scales), -1), scales).take(np.arange(len(scales)))
            yield first, rows
            first += len(rows)

    def column(self, name: str) -> npt.NDArray[Any]:
        """One number a battle."""
        return np.concatenate([np.zeros(0, _dtype(name)), *self._some(name)])

    def write_listed(self, columns: Mapping[str, npt.NDArray[Any]], order: Int64Array) -> None:
        """Write the columns and the rows with the battles in this ``order``."""
        for name, column in columns.items():
            column[order].tofile(self.folder / f"{name}.listed")
        stored = order if self._kept is None else np.flatnonzero(self._kept)[order]
        shape = (self._stored, self.dimensions)
        rows = np.memmap(self.folder / "rows.raw", _dtype("rows"), "r", shape=shape)
        with (self.folder / "rows.listed").open("wb") as file:
            for first in range(0, len(stored), _ROWS_AT_ONCE):
                file.write(rows[stored[first : first + _ROWS_AT_ONCE]].data)

    def listed(self, name: str, first: int, count: int) -> npt.NDArray[Any]:
        """So many battles of what ``write_listed`` wrote; of the rows [count, d]."""
        width = self.dimensions if name == "rows" else 1
        item = width * _dtype(name).itemsize
        path = self.folder / f"{name}.listed"
        some = np.fromfile(path, _dtype(name), count * width, offset=first * item)
        return some.reshape(count, width) if name == "rows" else some

    def _some(self, name: str) -> Iterator[npt.NDArray[Any]]:
        """A column, a block at a time."""
        width = self.dimensions if name == "rows" else 1
        with (self.folder / f"{name}.raw").open("rb") as file:
            for first in range(0, self._stored, _ROWS_AT_ONCE):
                count = min(_ROWS_AT_ONCE, self._stored - first)
                some = np.fromfile(file, _dtype(name), count * width)
                if self._kept is not None:
                    kept = self._kept[first : first + count]
                    some = some.reshape(count, -1)[kept].reshape(-1)
                yield some


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype((_FILES | _FITTED)[name])


def count_shards(shards: Sequence[Shard], folder: Path) -> BattleCounts:
    """The first round over all shards; it is kept in ``folder``."""
    total, path = BattleCounts("int8"), folder / _COUNTS
    if not path.exists():
        for shard in shards:
            if shard.battles:
                total = total.merge(shard.counts())
        arrays = {"models": np.array(total.models), "counts": total.counts}
        _save_arrays(path, arrays | {"rows": total.sample.rows})
    with np.load(path) as found:
        total.models, total.counts = tuple(found["models"].tolist()), found["counts"]
        total.sample.rows = found["rows"]
    return total


def _save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)


def train_shard_index(shards: Sequence[Shard], plan: FarFieldPlan, folder: Path) -> None:
    """Write the index that all shards fill, into ``folder``: it learns from rows of all of them."""
    if (folder / _EMPTY).exists():
        return
    count = sum(shard.battles for shard in shards)
    stride = max(1, count // (TRAINED_PER_LIST * max(lists_of(count), 1)))
    axes = _index_axes(plan)
    some = [rows[::stride] @ axes.T for shard in shards for _, rows in shard.blocks()]
    with whole_file(folder / _EMPTY) as temporary:
        train_empty(count, np.concatenate(some), temporary)


def _index_axes(plan: FarFieldPlan) -> Float32Array:
    return np.ascontiguousarray(plan.axes.axes[: far_field.INDEX_AXES])


def fit_shard(shard: Shard, plan: FarFieldPlan, first: int, folder: Path) -> None:
    """The second round over a shard, whose battles are numbered from ``first``.

    Writes the sums and the index of the shard into its folder, and all that a router has of each
    battle, by the index's lists: battles near a prompt then lie together on the disk. ``folder``
    has what ``train_shard_index`` wrote.
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

    order = fill_shard(folder / _EMPTY, projected(), shard.folder / INDEX)
    columns = {
        "cells": cells, "clusters": np.concatenate(clusters), "model_a": a, "model_b": b,
        "outcome": outcome, "order": np.arange(first, first + shard.battles),
        "scales": shard.column("scales"),
    }  # fmt: skip
    shard.write_listed(columns, order)
    sync_files(shard.folder)
    _save_arrays(shard.folder / _SUMS, dict(sums.sums))
    (shard.folder / "rows.raw").unlink()


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
    """Write the artifact of a router that is fitted to all shards; their files are moved.

    ``folder`` is as for ``fit_shard``, on the file system of ``output``.
    """
    sums = FarFieldSums(plan)
    for shard in shards:
        part = FarFieldSums(plan)
        with np.load(shard.folder / _SUMS) as arrays:
            part.sums = {name: arrays[name] for name in arrays.files}
        sums = sums.merge(part)
    index, lengths = merge_shards(
        folder / _EMPTY, [s.folder / INDEX for s in shards], folder / LISTS
    )
    large: dict[str, Any] = {
        f"{name}.npy": _merged(shards, lengths, name, folder) for name in _FITTED
    }
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


def _merged(shards: Sequence[Shard], lengths: Ids, name: str, folder: Path) -> Path:
    """A ``.npy`` file with a column of all shards by lists, of which each shard has so many
    battles, int32[shards, lists]. Theirs are removed."""
    path = folder / f"{name}.npy"
    if not path.exists():
        shape = (int(lengths.sum()), *((shards[0].dimensions,) if name == "rows" else ()))
        some = max(_MERGED_AT_ONCE // (_dtype(name).itemsize * math.prod(shape[1:])), 1)
        with whole_file(path) as temporary, temporary.open("wb") as target:
            header = {"descr": _dtype(name).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(target, header)
            at = np.zeros(len(shards), np.int64)
            ends = lengths.sum(axis=0).cumsum()
            group = np.searchsorted(ends, np.arange(some, ends[-1] + some, some), side="right")
            for lists in np.split(lengths, np.unique(group), axis=1):
                counts = lists.sum(axis=1)
                parts = [
                    s.listed(name, first, count)
                    for s, first, count in zip(shards, at.tolist(), counts.tolist(), strict=True)
                ]
                numbers = np.tile(np.arange(lists.shape[1]), len(shards))
                by_list = np.argsort(np.repeat(numbers, lists.ravel()), kind="stable")
                target.write(np.concatenate(parts)[by_list].data)
                at += counts
    for shard in shards:
        (shard.folder / f"{name}.listed").unlink(missing_ok=True)
    return path


def check_enough(battles: int, least: int) -> None:
    """Raise InvalidInputError where a far field of so few battles would not pay."""
    if battles < least:
        raise InvalidInputError(
            f"{battles:,} battles are fitted in memory, and shards need at least {least:,}; leave "
            "the engine out (--engine)"
        )
