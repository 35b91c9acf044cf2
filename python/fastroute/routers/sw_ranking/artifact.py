"""Saves and loads a fitted ``sw_ranking`` router: large files are mapped, not read.

An artifact of kind "sw_ranking" (``fastroute.artifacts``) with, beside its manifest and its small
arrays, the large files that ``config["large_files"]`` lists (``sw_ranking.large_files``)::

    rows.npy, scales.npy   the unit embeddings; scales for int8
    near.npy, near_scales.npy
                           the same as bytes, for the near field
    index.faiss            the index of the far field
    lists.ivfdata          its inverted lists, where it was built on disk
    cells.npy, clusters.npy, model_a.npy, model_b.npy, outcome.npy, order.npy
                           one number a battle

Their lengths, samples of their content and whether they go together are always checked, all of
their content only with ``verify=True``: reading gigabytes takes longer than a service may take to
start, and would pull in pages that no query needs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fastroute._files import lock, os_errors_as
from fastroute.artifacts import (
    Artifact,
    check_folder,
    load_artifact,
    save_artifact,
)
from fastroute.embedders.base import Embedder
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.provenance import Provenance
from fastroute.routers.sw_ranking import far_field
from fastroute.routers.sw_ranking.battle_table import BattleTable
from fastroute.routers.sw_ranking.contents import (
    INDEX,
    LARGE,
    LISTS,
    MOMENTS,
    OPTIONS,
    check_arrays,
    check_columns,
    check_config,
    check_index,
    read_columns,
)
from fastroute.routers.sw_ranking.fit import Fitted, Fitter, with_field
from fastroute.routers.sw_ranking.large_files import (
    check_large,
    map_cached,
    remove_others,
    write_all_large,
)
from fastroute.routers.sw_ranking.neighbors import NeighborIndex, UnitRows
from fastroute.types import Float64Array

KIND = "sw_ranking"


def save(
    folder: str | os.PathLike[str],
    fitted: Fitted,
    *,
    options: Mapping[str, Any],
    embedder: Embedder | None,
    measured_error: float | None,
    provenance: Provenance,
) -> None:
    """Write a router. If that fails or is interrupted, the folder keeps its old artifact whole.

    ``options`` are its arguments (``contents.OPTIONS``).
    """
    table, far = fitted.table, fitted.far
    if far is not None and far.index.lists is not None:
        raise InvalidInputError(
            f"this router keeps its index on disk, in {far.index.lists.parent}; copy that folder"
        )
    near_rows = None if far is None else far.near_rows
    columns: dict[str, Any] = {
        "cells": table.cells(),
        "model_a": table.a,
        "model_b": table.b,
        "outcome": table.outcome,
        "clusters": None if far is None else far.clusters,
        "order": fitted.order,
        "scales": fitted.vectors.scales,
        "rows": fitted.vectors.rows,
        "near": None if near_rows is None else near_rows.rows,
        "near_scales": None if near_rows is None else near_rows.scales,
    }
    large = {f"{name}.npy": array for name, array in columns.items() if array is not None}
    if far is not None:
        large[INDEX] = far.index
    write(
        folder,
        table,
        fitted.start,
        large,
        None if far is None else (far.moments, far.rank, far.neighbors),
        options=options,
        embedder=embedder,
        measured_error=measured_error,
        provenance=provenance,
    )


def write(
    folder: str | os.PathLike[str],
    table: BattleTable,
    start: Float64Array,
    large: Mapping[str, Any],
    far: tuple[far_field.Moments, int, int] | None,
    *,
    options: Mapping[str, Any],
    embedder: Embedder | None,
    measured_error: float | None,
    provenance: Provenance,
) -> None:
    """``save`` of what is not all in memory.

    ``large`` has what ``large_files.write_large`` takes, by the file's name; ``far`` the moments,
    the rank and how many neighbours.
    """
    target = check_folder(folder)
    arrays: dict[str, Any] = {"elo": table.elo, "tiers": table.tiers, "start": start}
    config: dict[str, Any] = {
        "options": {name: options[name] for name in OPTIONS},
        "embedder": None if embedder is None else embedder.name,
        "models": list(table.models),
        "measured_error": measured_error,
    }
    if far is not None:
        moments, rank, neighbors = far
        arrays |= {f"moments.{name}": np.asarray(getattr(moments, name)) for name in MOMENTS}
        config |= {"rank": rank, "neighbors": neighbors}
    with os_errors_as(ArtifactError, f"{target} can't be written"):
        target.mkdir(parents=True, exist_ok=True)
        with lock(target):
            stated = write_all_large(target, large)
            config["large_files"] = stated
            save_artifact(
                target, kind=KIND, config=config, arrays=arrays, provenance=provenance, locked=True
            )
            remove_others(target, LARGE, {facts["file"] for facts in stated.values()})


@dataclass(frozen=True, slots=True)
class Saved:
    """A router's folder: manifest and small arrays are read, and the large files checked.

    Attributes:
        artifact: manifest and small arrays.
        files: path of each large file, by its name.
    """

    artifact: Artifact
    files: Mapping[str, Path]

    @property
    def options(self) -> dict[str, Any]:
        """The arguments that the router was made with, by name; those that ``save`` got."""
        return dict(self.artifact.config["options"])

    @property
    def measured_error(self) -> float | None:
        """The router's ``measured_error_``."""
        error: float | None = self.artifact.config["measured_error"]
        return error

    def fitted(self, fitter: Fitter) -> Fitted:
        """What the router learned; ``fitter`` is that of a router with the ``options``."""
        return _fitted(self.artifact, self.files, fitter)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn every error of a corrupt artifact into an ArtifactError."""
        try:
            yield
        except ArtifactError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            EOFError,
            LookupError,
            MemoryError,
            OSError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise ArtifactError(
                f"{self.artifact.path} can't be read as a sw_ranking router "
                f"({type(error).__name__}: {error}); download or export it again"
            ) from error


def open_saved(folder: str | os.PathLike[str], *, embedder: Embedder | None, verify: bool) -> Saved:
    """Open the folder of a saved router for one with ``embedder``; errors as ``load_artifact``."""
    artifact = load_artifact(folder, kind=KIND)
    config, path = artifact.config, artifact.path
    check_config(config, path)
    made_with = config["embedder"]
    if embedder is not None and made_with is not None and embedder.name != made_with:
        raise InvalidInputError(
            f"embedder is {embedder.name!r} where {path} was fitted with {made_with!r}; pass that "
            "one"
        )
    files = {
        name: check_large(path, name, stated, verify=verify)
        for name, stated in config["large_files"].items()
    }
    return Saved(artifact, files)


def _fitted(artifact: Artifact, files: Mapping[str, Path], fitter: Fitter) -> Fitted:
    config, arrays = artifact.config, artifact.arrays
    columns = read_columns(files, fitter.storage)
    is_far = INDEX in files
    check_arrays(artifact, fitter.num_tiers, columns["rows"].shape[1], is_far=is_far)
    clusters = len(arrays["moments.seeds"]) if is_far else 0
    check_columns(files, columns, len(config["models"]), clusters)
    table = BattleTable(
        tuple(config["models"]),
        arrays["elo"],
        arrays["tiers"],
        fitter.num_tiers,
        columns["model_a"],
        columns["model_b"],
        columns["outcome"],
    )
    if not np.array_equal(table.cells(), columns["cells"]):
        raise ArtifactError(
            f"{files['cells.npy']} disagrees with the models and outcomes of the artifact; "
            "download or export it again"
        )
    # Not the rows in the index, should it have them: in its file they need not be aligned.
    vectors = UnitRows(columns["rows"], columns.get("scales"))
    fitted = Fitted(
        table,
        vectors,
        fitter.tiered(vectors, columns["cells"]),
        arrays["start"],
        table.tier(fitter.strong_model),
        table.tier(fitter.weak_model),
        order=columns.get("order"),
    )
    if not is_far:
        return fitted
    sums: dict[str, Any] = {name: arrays.get(f"moments.{name}") for name in MOMENTS}
    if sums["lines"] is None:  # in artifacts of before
        sums["lines"] = np.zeros((len(arrays["moments.cells"]), 0))
    sums["spread"] = float(sums["spread"])
    sums["floor"] = -1.0 if sums["floor"] is None else float(sums["floor"])
    near_rows = None
    if "near" in columns:
        near_rows = UnitRows(columns["near"], columns["near_scales"])
    moments = far_field.Moments(**sums)
    index = NeighborIndex.load(files[INDEX], fitter.index_parameters, files.get(LISTS))
    axes = min(len(moments.axes), far_field.INDEX_AXES)
    width = axes if fitter.index_in_axes else vectors.rows.shape[1]
    check_index(files[INDEX], index, len(vectors), width)
    near = "rows" if near_rows is None else "near"
    map_cached(files[f"{near}.npy"], columns[near])
    if LISTS in files:
        map_cached(files[LISTS], index.mapped_lists())
    return with_field(
        fitted,
        moments,
        index,
        columns["clusters"],
        near_rows,
        strict=fitter.strict,
        in_axes=fitter.index_in_axes,
        rank=config["rank"],
        neighbors=config["neighbors"],
    )
