"""Saves and loads a fitted ``sw_ranking`` router: large files are mapped, not read.

An artifact of kind "sw_ranking" (``fastroute.artifacts``) with, beside its manifest and its small
arrays, the large files that ``config["large_files"]`` lists (``sw_ranking.large_files``)::

    rows.npy, scales.npy   the unit embeddings; scales for int8
    near.npy, near_scales.npy
                           the same as bytes, for the near field
    index.faiss            the index of the far field
    cells.npy, clusters.npy, model_a.npy, model_b.npy, outcome.npy, order.npy
                           one number a battle

Their lengths, samples of their content and whether they go together are always checked, all of
their content only with ``verify=True``: reading gigabytes takes longer than a service may take to
start, and would pull in pages that no query needs.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute.artifacts import (
    Artifact,
    check_folder,
    load_artifact,
    read_calibration,
    read_trained_on,
    save_artifact,
)
from fastroute.embedders.base import Embedder
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.neighbors import NeighborIndex, UnitRows
from fastroute.routers.base import check_embedder
from fastroute.routers.sw_ranking import far_field
from fastroute.routers.sw_ranking.battle_table import BattleTable
from fastroute.routers.sw_ranking.contents import (
    INDEX,
    LARGE,
    MOMENTS,
    OPTIONS,
    check_arrays,
    check_columns,
    check_config,
    check_index,
    read_columns,
)
from fastroute.routers.sw_ranking.fit import Fitted, with_field
from fastroute.routers.sw_ranking.large_files import check_large, remove_others, write_large

if TYPE_CHECKING:
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter

KIND = "sw_ranking"


def save(
    router: SimilarityWeightedRouter,
    fitted: Fitted,
    measured_error: float | None,
    known: Mapping[str, npt.NDArray[Any] | None],
    folder: str | os.PathLike[str],
) -> None:
    """Write the router, the manifest last: until then the folder holds what it held.

    ``known`` has ``trained_on`` and ``calibration_win_rates``, or None where not known. Two
    processes must not save to one folder at the same time.
    """
    target = check_folder(folder)
    table, far = fitted.table, fitted.far
    near_rows = None if far is None else far.near_rows
    arrays: dict[str, Any] = {"elo": table.elo, "tiers": table.tiers, "start": fitted.start}
    arrays |= {name: array for name, array in known.items() if array is not None}
    try:
        unsaved = Artifact(target, KIND, {}, arrays, {}, "")
        read_calibration(unsaved)
        read_trained_on(unsaved)
    except (ArtifactError, AttributeError) as error:
        raise InvalidInputError(
            "calibration must be rising float32 win rates from 0 to 1, and trained_on uint64 "
            "hashes, or None; set them so before you save"
        ) from error
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
    large = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, array in columns.items():
            if array is not None:
                large[f"{name}.npy"] = write_large(target, f"{name}.npy", array)
        if far is not None:
            large[INDEX] = write_large(target, INDEX, far.index)
    except OSError as error:
        raise ArtifactError(f"{target} can't be written: {error.strerror}") from error
    config: dict[str, Any] = {
        "options": {name: getattr(router, name) for name in OPTIONS},
        "embedder": None if router.embedder is None else router.embedder.name,
        "models": list(table.models),
        "measured_error": measured_error,
        "large_files": large,
    }
    if far is not None:
        arrays |= {f"moments.{name}": np.asarray(getattr(far.moments, name)) for name in MOMENTS}
        config |= {"rank": far.rank, "neighbors": far.neighbors}
    save_artifact(target, kind=KIND, config=config, arrays=arrays)
    remove_others(target, LARGE, {stated["file"] for stated in large.values()})


def load(
    folder: str | os.PathLike[str], *, embedder: Embedder | None, num_threads: int, verify: bool
) -> tuple[SimilarityWeightedRouter, Fitted, float | None]:
    """The router, what it learned and its measured error; errors as ``load_artifact``."""
    check_embedder(embedder)
    _native.check_num_threads(num_threads)
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
    try:
        router = _router(config, embedder, num_threads)
        fitted = _fitted(artifact, files, router)
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
            f"{path} can't be read as a sw_ranking router ({type(error).__name__}: {error}); "
            "restore the folder"
        ) from error
    router.trained_on, router.calibration = read_trained_on(artifact), read_calibration(artifact)
    router.artifact_checksum = artifact.checksum
    return router, fitted, config["measured_error"]


def _router(
    config: dict[str, Any], embedder: Embedder | None, num_threads: int
) -> SimilarityWeightedRouter:
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter

    return SimilarityWeightedRouter(**config["options"], embedder=embedder, num_threads=num_threads)


def _fitted(artifact: Artifact, files: dict[str, Path], router: SimilarityWeightedRouter) -> Fitted:
    config, arrays = artifact.config, artifact.arrays
    columns = read_columns(files, router.storage)
    is_far = INDEX in files
    check_arrays(artifact, router.num_tiers, columns["rows"].shape[1], is_far=is_far)
    clusters = len(arrays["moments.seeds"]) if is_far else 0
    check_columns(files, columns, len(config["models"]), clusters)
    table = BattleTable(
        tuple(config["models"]),
        arrays["elo"],
        arrays["tiers"],
        router.num_tiers,
        columns["model_a"],
        columns["model_b"],
        columns["outcome"],
    )
    if not np.array_equal(table.cells(), columns["cells"]):
        raise ArtifactError(
            f"{files['cells.npy']} does not say what the models and outcomes beside it say; "
            "restore the folder"
        )
    # Not the rows in the index, should it have them: in its file they need not be aligned.
    vectors = UnitRows(columns["rows"], columns.get("scales"))
    fitted = Fitted(
        table,
        vectors,
        router.fitter().tiered(vectors, columns["cells"]),
        arrays["start"],
        table.tier(router.strong_model),
        table.tier(router.weak_model),
        order=columns.get("order"),
    )
    if not is_far:
        return fitted
    none = np.zeros((len(arrays["moments.cells"]), 0))  # artifacts of before have no lines
    sums: dict[str, Any] = {name: arrays.get(f"moments.{name}", none) for name in MOMENTS}
    sums["spread"] = float(sums["spread"])
    near_rows = None
    if "near" in columns:
        near_rows = UnitRows(columns["near"], columns["near_scales"])
    moments = far_field.Moments(**sums)
    index = NeighborIndex.load(files[INDEX], router.index_parameters)
    axes = min(len(moments.axes), far_field.INDEX_AXES)
    width = axes if router.index_in_axes else vectors.rows.shape[1]
    check_index(files[INDEX], index, len(vectors), width)
    return with_field(
        fitted,
        moments,
        index,
        columns["clusters"],
        near_rows,
        strict=router.strict,
        in_axes=router.index_in_axes,
        rank=config["rank"],
        neighbors=config["neighbors"],
    )
