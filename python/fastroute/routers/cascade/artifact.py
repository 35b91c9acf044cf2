"""Save and load a calibrated ``cascade``: its band, its map, and the configs of its members.

An artifact of kind "cascade" (``fastroute.artifacts``). Its config holds::

    fast, slow          the members: ``router``, the name, and the keys of its config
    fast_checksum, slow_checksum
                        of the members' own artifacts, or null where they have none
    band                [low, high], or null for none
    found               figures of the calibration, for information

and its arrays ``slow_knots`` and ``band_knots`` (``cascade.band``) and ``calibration_win_rates``.
Members are not copied: a relative ``checkpoint_path`` or ``battles`` of one is taken from the
artifact's folder, so that folders can move together.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fastroute.artifacts import (
    Artifact,
    check_folder,
    load_artifact,
    save_artifact,
)
from fastroute.errors import ArtifactError, FastRouteError, InvalidInputError, InvalidTypeError
from fastroute.routers.base import Router
from fastroute.routers.cascade.band import Band
from fastroute.routers.cascade.router import CascadeRouter

KIND = "cascade"
_PATHS = ("checkpoint_path", "battles", "embedder_path")


def make_member(which: str, config: object, create: Callable[..., Router]) -> Router:
    """A member of a cascade, from a router, a name, or a mapping with a name and its config.

    ``{"router": "mf", "checkpoint_path": "..."}`` is ``create("mf", checkpoint_path=...)``, where
    ``create`` is ``create_router``.
    """
    if isinstance(config, Router):
        return config
    if isinstance(config, str):
        return create(config)
    if not isinstance(config, Mapping) or not isinstance(config.get("router"), str):
        raise InvalidTypeError(
            f"{which} must be a router, the name of one, or a mapping with router, its name, and "
            f"the keys of its config, got {config!r:.200}"
        )
    if config["router"] == "cascade":
        raise InvalidInputError(f"{which} must not be a cascade itself; give its members")
    return create(**{"name" if k == "router" else str(k): v for k, v in config.items()})


def save_cascade(
    folder: str | os.PathLike[str],
    router: CascadeRouter,
    *,
    fast: Mapping[str, Any],
    slow: Mapping[str, Any],
    found: Mapping[str, Any] | None = None,
) -> None:
    """Write a cascade that ``create_router("cascade", checkpoint_path=folder)`` reads.

    Args:
        folder: the folder to write.
        router: its band, map and provenance are kept; a latency budget is not, because it
            belongs to the machine that routes.
        fast, slow: the configs of the members: ``{"router": "mf", "checkpoint_path": "..."}``.
            Relative paths are relative to the working directory, and are written relative to
            ``folder``.
        found: figures of the calibration, plain JSON.
    """
    target = check_folder(folder)
    if not isinstance(router, CascadeRouter):
        raise InvalidTypeError(f"router must be a CascadeRouter, got {router!r}")
    band = router.band
    arrays: dict[str, Any] = {}
    if band is not None:
        arrays |= {"slow_knots": band.slow_knots, "band_knots": band.places}
    config = {
        "fast": _moved(fast, Path.cwd(), target),
        "slow": _moved(slow, Path.cwd(), target),
        "fast_checksum": router.fast.provenance.checksum,
        "slow_checksum": router.slow.provenance.checksum,
        "band": None if band is None else [band.low, band.high],
        "found": dict(found or {}),
    }
    # The members store the hashes of their prompts.
    known = replace(router.provenance, trained_on=None)
    save_artifact(target, kind=KIND, config=config, arrays=arrays, provenance=known)


def load_cascade(
    folder: str | os.PathLike[str],
    create: Callable[..., Router],
    *,
    latency_budget_ms: float | None = None,
) -> CascadeRouter:
    """Load a cascade and its members, which ``create`` (``create_router``) makes.

    Raises ArtifactError for a folder that can't be used, and where the checksum of a member differs
    from that of the calibration: its win rates may differ.
    """
    artifact = load_artifact(folder, kind=KIND)
    band = _read_band(artifact)
    fast, slow = (_read_member(artifact, which, create) for which in ("fast", "slow"))
    # With a budget, win rates depend on measured time: no checksum identifies them.
    checksum = _checksum(artifact, fast, slow) if latency_budget_ms is None else None
    return CascadeRouter(
        fast,
        slow,
        band=band,
        latency_budget_ms=latency_budget_ms,
        provenance=replace(artifact.provenance, checksum=checksum),
    )


def _moved(config: Mapping[str, Any], base: Path, target: Path) -> dict[str, Any]:
    """The config, with paths relative to ``base`` made relative to ``target``."""
    moved = dict(config)
    for key in _PATHS:
        if isinstance(moved.get(key), (str, os.PathLike)):
            path = os.fspath(moved[key])
            moved[key] = (
                path if Path(path).is_absolute() else os.path.relpath(base / path, target.resolve())
            )
    return moved


def _read_band(artifact: Artifact) -> Band | None:
    ends = artifact.config.get("band")
    if ends is None:
        return None
    try:
        low, high = ends
        return Band(low, high, artifact.arrays["slow_knots"], artifact.arrays["band_knots"])
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(
            f"{artifact.path} has a band that can't be used ({error}); download or export it again"
        ) from error


def _read_member(artifact: Artifact, which: str, create: Callable[..., Router]) -> Router:
    config = artifact.config.get(which)
    if not isinstance(config, dict):
        raise ArtifactError(
            f"{artifact.path} lacks its {which} router; download or export it again"
        )
    for key in _PATHS:
        if isinstance(config.get(key), str):
            config = config | {key: os.path.normpath(artifact.path / config[key])}
    try:
        member = make_member(which, config, create)
    except FastRouteError as error:
        raise ArtifactError(
            f"{artifact.path}: its {which} router can't be loaded ({error}); restore it there, "
            "or calibrate the cascade again"
        ) from error
    wanted = artifact.config.get(f"{which}_checksum")
    if wanted is not None and member.provenance.checksum != wanted:
        raise ArtifactError(
            f"{artifact.path}: the checksum of its {which} router differs from that of the "
            "calibration; calibrate the cascade again"
        )
    return member


def _checksum(artifact: Artifact, *members: Router) -> str | None:
    """An identifier of all win rates; None where a member has no checksum."""
    parts = [artifact.provenance.checksum]
    for member in members:
        if member.provenance.checksum is None:
            return None
        embedder = getattr(member, "embedder", None)
        parts += [member.provenance.checksum, "" if embedder is None else embedder.name]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
