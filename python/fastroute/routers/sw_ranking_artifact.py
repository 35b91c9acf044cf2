"""Saves and loads a fitted ``sw_ranking`` router: large files are mapped, not read.

An artifact of kind "sw_ranking" (``fastroute.artifacts``) with, beside its manifest and its small
arrays, the large files that ``config["large_files"]`` lists by length and SHA-256::

    rows.npy, scales.npy   the unit embeddings; scales for int8
    index.faiss            the index of the far field
    cells.npy, clusters.npy, model_a.npy, model_b.npy, outcome.npy, order.npy
                           one number a battle

Their lengths are always checked, their content only with ``verify=True``: reading gigabytes takes
longer than a service may take to start, and would pull in pages that no query needs.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastroute.artifacts import Artifact, load_artifact, save_artifact
from fastroute.embedders.base import Embedder
from fastroute.errors import (
    ArtifactChecksumError,
    ArtifactError,
    ArtifactNotFoundError,
    ArtifactTruncatedError,
    FastRouteError,
    InvalidInputError,
)
from fastroute.neighbors import NeighborIndex, UnitRows
from fastroute.routers import far_field
from fastroute.routers.battle_table import BattleTable
from fastroute.routers.sw_ranking_fit import Fitted, with_field

if TYPE_CHECKING:
    from fastroute.routers.similarity_weighted import SimilarityWeightedRouter

KIND = "sw_ranking"
_INDEX = "index.faiss"
_OPTIONS = ("strong_model", "weak_model", "num_tiers", "strict", "mode", "storage", "index",
            "index_parameters", "index_in_axes", "max_error")  # fmt: skip
_MOMENTS = tuple(far_field.Moments.__dataclass_fields__)
_BYTES_AT_ONCE = 1 << 22


def save(router: SimilarityWeightedRouter, fitted: Fitted, folder: str | os.PathLike[str]) -> None:
    """Write the router; each file appears whole or not at all, the manifest last."""
    target = Path(folder)
    table, far = fitted.table, fitted.far
    columns: dict[str, Any] = {
        "cells": table.cells(),
        "model_a": table.a,
        "model_b": table.b,
        "outcome": table.outcome,
        "clusters": None if far is None else far.clusters,
        "order": fitted.order,
        "scales": fitted.vectors.scales,
        "rows": fitted.vectors.rows,
    }
    large = {}
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, array in columns.items():
            if array is not None:
                large[f"{name}.npy"] = _write(target / f"{name}.npy", array)
        if far is not None:
            large[_INDEX] = _write(target / _INDEX, far.index)
    except OSError as error:
        raise ArtifactError(f"{target} can't be written: {error.strerror}") from error
    arrays: dict[str, Any] = {"elo": table.elo, "tiers": table.tiers, "start": fitted.start}
    if router.trained_on is not None:
        arrays["trained_on"] = router.trained_on
    if router.calibration is not None:
        arrays["calibration_win_rates"] = router.calibration
    config: dict[str, Any] = {
        "options": {name: getattr(router, name) for name in _OPTIONS},
        "embedder": None if router.embedder is None else router.embedder.name,
        "models": list(table.models),
        "measured_error": router.measured_error_,
        "large_files": large,
    }
    if far is not None:
        arrays |= {f"moments.{name}": np.asarray(getattr(far.moments, name)) for name in _MOMENTS}
        config |= {"rank": far.rank, "neighbors": far.neighbors}
    save_artifact(target, kind=KIND, config=config, arrays=arrays)


def load(
    folder: str | os.PathLike[str], *, embedder: Embedder | None, num_threads: int, verify: bool
) -> tuple[SimilarityWeightedRouter, Fitted, float | None]:
    """The router, what it learned and its measured error; errors as ``load_artifact``."""
    from fastroute.routers.similarity_weighted import SimilarityWeightedRouter

    artifact = load_artifact(folder, kind=KIND)
    config = artifact.config
    try:
        made_with = config["embedder"]
        if embedder is not None and made_with is not None and embedder.name != made_with:
            raise InvalidInputError(
                f"embedder is {embedder.name!r} where {artifact.path} was fitted with "
                f"{made_with!r}; pass that one"
            )
        for name, stated in config["large_files"].items():
            _check_file(artifact.path / name, int(stated["bytes"]), stated["sha256"], verify=verify)
        router = SimilarityWeightedRouter(
            **config["options"], embedder=embedder, num_threads=num_threads
        )
        fitted = _fitted(artifact, router)
    except FastRouteError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ArtifactError(
            f"{artifact.path} can't be read as a sw_ranking router "
            f"({type(error).__name__}: {error}); restore the folder"
        ) from error
    router.trained_on = artifact.arrays.get("trained_on")
    router.calibration = artifact.arrays.get("calibration_win_rates")
    router.artifact_checksum = artifact.checksum
    return router, fitted, config["measured_error"]


def _fitted(artifact: Artifact, router: SimilarityWeightedRouter) -> Fitted:
    config, arrays, path = artifact.config, artifact.arrays, artifact.path

    def column(name: str) -> Any:
        if f"{name}.npy" not in config["large_files"]:
            return None
        return np.load(path / f"{name}.npy", mmap_mode="r", allow_pickle=False)

    table = BattleTable(
        tuple(config["models"]),
        arrays["elo"],
        arrays["tiers"],
        router.num_tiers,
        column("model_a"),
        column("model_b"),
        column("outcome"),
    )
    index = None
    if _INDEX in config["large_files"]:
        index = NeighborIndex.load(path / _INDEX, router.index_parameters)
    # Not those in the index, should it have them: in its file they need not be aligned.
    vectors = UnitRows(column("rows"), column("scales"))
    fitter = router.fitter()
    battles = fitter.tiered(vectors, column("cells"))
    fitted = Fitted(
        table,
        vectors,
        battles,
        arrays["start"],
        table.tier(router.strong_model),
        table.tier(router.weak_model),
        order=column("order"),
    )
    if index is None:
        return fitted
    sums: dict[str, Any] = {name: arrays[f"moments.{name}"] for name in _MOMENTS}
    sums["spread"] = float(sums["spread"])
    return with_field(
        fitted,
        far_field.Moments(**sums),
        index,
        column("clusters"),
        strict=router.strict,
        in_axes=router.index_in_axes,
        rank=config["rank"],
        neighbors=config["neighbors"],
    )


def _write(path: Path, content: Any) -> dict[str, Any]:
    """Write an array or an index under another name, rename it, and return length and SHA-256."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        if isinstance(content, NeighborIndex):
            content.save(temporary)
        else:
            with temporary.open("wb") as file:
                np.save(file, content, allow_pickle=False)
        stated = {"bytes": temporary.stat().st_size, "sha256": _sha256(temporary)}
        temporary.chmod(0o644)
        # A process that has the old file mapped keeps the old file.
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return stated


def _check_file(path: Path, length: int, sha256: str, *, verify: bool) -> None:
    try:
        found = path.stat().st_size
    except FileNotFoundError as error:
        raise ArtifactNotFoundError(
            f"{path} is missing, so {path.parent} is no whole fastroute artifact; restore the "
            "folder or give the path of another"
        ) from error
    if found != length:
        raise ArtifactTruncatedError(
            f"{path} has {found} bytes where its manifest says {length}: it was truncated or "
            "replaced; restore the folder"
        )
    if verify and _sha256(path) != sha256:
        raise ArtifactChecksumError(
            f"{path} was altered: its SHA-256 is not the one in its manifest; restore the folder"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_BYTES_AT_ONCE):
            digest.update(chunk)
    return digest.hexdigest()
