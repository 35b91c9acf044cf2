"""What a saved ``sw_ranking`` router must hold to be one: types, shapes, and what goes together.

Every check is cheap: it reads the small arrays and the columns of one number a battle, but of the
embeddings and the index only a few pages. Each raises ArtifactError with the file's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fastroute.artifacts import ARRAYS, Artifact
from fastroute.errors import ArtifactError
from fastroute.routers.sw_ranking.neighbors import NeighborIndex, Storage

INDEX = "index.faiss"
LISTS = "lists.ivfdata"
OPTIONS = ("strong_model", "weak_model", "num_tiers", "strict", "mode", "storage", "index",
            "index_parameters", "index_in_axes", "max_error")  # fmt: skip
#: dtype and number of axes of each column; rows are of the router's storage.
_COLUMNS: dict[str, tuple[str, int]] = {
    "cells": ("uint16", 1),
    "model_a": ("int32", 1),
    "model_b": ("int32", 1),
    "outcome": ("int8", 1),
    "clusters": ("uint16", 1),
    "order": ("int64", 1),
    "scales": ("float32", 1),
    "rows": ("", 2),
    "near": ("int8", 2),
    "near_scales": ("float32", 1),
}
LARGE = (*(f"{name}.npy" for name in _COLUMNS), LISTS, INDEX)
#: Axes of what ``far_field.Moments`` holds, by letter: the same letter is the same length.
MOMENTS: dict[str, str] = {
    "axes": "ad",
    "energies": "a",
    "spread": "",
    "seeds": "ka",
    "sizes": "k",
    "squares": "k",
    "pulls": "k",
    "places": "ka",
    "influences": "ka",
    "gradient": "c",
    "cells": "cm",
    "lines": "cl",
    "linear": "d",
    "corner": "oo",
    "directions": "dr",
    "duals": "dr",
    "form": "rr",
    "floor": "",
}
_FLOAT32 = ("axes", "seeds")
#: What artifacts of before may lack, and what few axes leave empty.
_OPTIONAL = ("moments.lines", "moments.floor")
#: More than any fit chooses; a search takes memory for so many.
_MOST_CHOSEN = 4096
_ROWS_LOOKED_AT = 64


def check_config(config: dict[str, Any], path: Path) -> None:
    """Check the fields of the manifest that are read here."""

    def chosen(value: object) -> bool:
        return type(value) is int and 1 <= value <= _MOST_CHOSEN

    models, error = config.get("models"), config.get("measured_error", "missing")
    options, large = config.get("options"), config.get("large_files")
    needed = {f"{name}.npy" for name in ("cells", "model_a", "model_b", "outcome", "rows")}
    is_far = isinstance(large, dict) and INDEX in large
    right = {
        "options": isinstance(options, dict)
        and set(options) == set(OPTIONS)
        and isinstance(options["index_in_axes"], bool),
        "embedder": isinstance(config.get("embedder", 0), (str, type(None))),
        "models": isinstance(models, list)
        and all(isinstance(model, str) for model in models)
        and sorted(set(models)) == models,
        "measured_error": error is None
        or (type(error) in (int, float) and math.isfinite(error) and error >= 0),
        "large_files": isinstance(large, dict)
        and needed <= set(large) <= set(LARGE)
        and is_far == ("clusters.npy" in large),
        "rank": not is_far or chosen(config.get("rank")),
        "neighbors": not is_far or chosen(config.get("neighbors")),
    }
    for field, is_right in right.items():
        if not is_right:
            said = repr(config[field]) if field in config else "missing"
            said = said if len(said) <= 200 else f"{said[:200]} ..."
            raise ArtifactError(
                f"{path} has a manifest whose {field} can't be used: {said}; "
                "download or export it again"
            )


def check_arrays(artifact: Artifact, num_tiers: int, dimensions: int, *, is_far: bool) -> None:
    """Check dtypes and shapes of the small arrays, and that they have no NaN or infinity."""
    arrays, path = artifact.arrays, artifact.path / ARRAYS
    models = len(artifact.config["models"])
    wanted: dict[str, tuple[str, str]] = {
        "elo": ("float64", "n"),
        "tiers": ("int32", "n"),
        "start": ("float64", "t"),
    }
    if is_far:
        wanted |= {
            f"moments.{name}": ("float32" if name in _FLOAT32 else "float64", axes)
            for name, axes in MOMENTS.items()
        }
    lengths = {"n": models, "t": num_tiers, "c": 2 * num_tiers**2 + num_tiers, "d": dimensions}
    for name, (dtype, axes) in wanted.items():
        array = arrays.get(name)
        if array is None and name in _OPTIONAL:
            continue
        if array is None:
            raise _unfit(path, f"it lacks {name!r}")
        right = array.dtype == dtype and array.ndim == len(axes)
        if not right or any(
            (length == 0 and name not in _OPTIONAL) or lengths.setdefault(axis, length) != length
            for axis, length in zip(axes, array.shape, strict=True)
        ):
            raise _unfit(path, f"{name!r} is {array.dtype} {list(array.shape)}")
        if not np.isfinite(array).all():
            raise _unfit(path, f"{name!r} has NaN or infinity")
    if lengths.get("o", 0) + lengths.get("l", 0) > lengths.get("a", 0):
        raise _unfit(path, "its cells have more axes than 'moments.axes'")
    tiers = arrays["tiers"]
    if models < num_tiers or tiers.min() < 0 or tiers.max() >= num_tiers:
        raise _unfit(path, f"'tiers' are not numbers below {num_tiers}, those of its tiers")


def read_columns(files: Mapping[str, Path], storage: Storage) -> dict[str, npt.NDArray[Any]]:
    """The columns, mapped: each of its dtype, and all of one length."""
    columns = {}
    for name, (dtype, ndim) in _COLUMNS.items():
        if f"{name}.npy" not in files:
            continue
        path = files[f"{name}.npy"]
        try:
            column = np.load(path, mmap_mode="r", allow_pickle=False)
        except (EOFError, MemoryError, OSError, OverflowError, ValueError) as error:
            raise ArtifactError(
                f"{path} can't be read as an array ({error}); download or export it again"
            ) from error
        if column.dtype != (dtype or storage) or column.ndim != ndim or column.size == 0:
            raise _unfit(path, f"it is {column.dtype} {list(column.shape)}")
        columns[name] = column
    for name, column in columns.items():
        if len(column) != len(columns["rows"]):
            raise _unfit(
                files[f"{name}.npy"],
                f"it has {len(column)} rows, and rows.npy {len(columns['rows'])}",
            )
    if ("near" in columns) != ("near_scales" in columns):
        raise _unfit(files["rows.npy"], "near.npy and near_scales.npy go together")
    if "near" in columns and columns["near"].shape != columns["rows"].shape:
        raise _unfit(files["near.npy"], f"it is {list(columns['near'].shape)}")
    if (storage == "int8") != ("scales" in columns):
        raise _unfit(files["rows.npy"], "scales.npy goes with int8 rows, and with no others")
    return columns


def check_columns(
    files: Mapping[str, Path], columns: dict[str, npt.NDArray[Any]], models: int, clusters: int
) -> None:
    """Check that numbers are in range, and a sample of the embeddings."""
    for name, low, most in (
        ("model_a", 0, models - 1),
        ("model_b", 0, models - 1),
        ("outcome", -1, 1),
        ("clusters", 0, clusters - 1),
        ("order", 0, len(columns["rows"]) - 1),
    ):
        column = columns.get(name)
        if column is not None and (column.min() < low or column.max() > most):
            raise _unfit(files[f"{name}.npy"], f"it has numbers outside {low} to {most}")
    order = columns.get("order")
    if order is not None and not _is_permutation(order):
        raise _unfit(files["order.npy"], "it numbers two battles alike")
    rows, scales = columns["rows"], columns.get("scales")
    which = np.unique(np.linspace(0, len(rows) - 1, _ROWS_LOOKED_AT).astype(np.intp))
    sample = rows[which].astype(np.float64)
    if scales is not None:
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise _unfit(files["scales.npy"], "it has numbers that are no positive factors")
        sample *= scales[which, None]
    near, near_scales = columns.get("near"), columns.get("near_scales")
    if near is not None and near_scales is not None:
        if not (np.isfinite(near_scales).all() and (near_scales > 0).all()):
            raise _unfit(files["near_scales.npy"], "it has numbers that are no positive factors")
        same = np.abs(near[which] * near_scales[which, None] - sample).max()
        if not same < 0.02:
            raise _unfit(files["near.npy"], "its vectors are not those of rows.npy")
    # Storage as int8 rounds: with d dimensions by up to sqrt(d) / 254 of the largest element.
    lengths = np.linalg.norm(sample, axis=1)
    if not (np.abs(lengths - 1.0) < 0.1).all():
        raise _unfit(files["rows.npy"], "its vectors do not have length one")


def _is_permutation(order: npt.NDArray[Any]) -> bool:
    seen = np.zeros(len(order), np.bool_)  # a byte a battle, of which there may be a billion
    seen[order] = True
    return bool(seen.all())


def check_index(path: Path, index: NeighborIndex, count: int, dimensions: int) -> None:
    """Check that the index holds so many vectors of so many dimensions."""
    if len(index) != count or index.dimensions != dimensions:
        raise _unfit(
            path,
            f"it holds {len(index)} vectors of {index.dimensions} dimensions where {count} of "
            f"{dimensions} are needed",
        )


def _unfit(path: Path, reason: str) -> ArtifactError:
    return ArtifactError(
        f"{path} does not fit the sw_ranking router that it is of: {reason}; "
        "download or export it again"
    )
