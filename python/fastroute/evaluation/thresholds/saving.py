"""A calibration kept in the router that it is of: its quantiles, and its operating point."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fastroute.artifacts import MANIFEST, load_artifact, save_provenance
from fastroute.errors import InvalidInputError
from fastroute.evaluation.cache import WinRateCache
from fastroute.evaluation.scoring import score
from fastroute.evaluation.thresholds.calibration import untrained
from fastroute.policy import calibrated
from fastroute.provenance import OperatingPoint
from fastroute.routers.base import Router


def check_saved(folder: str | os.PathLike[str] | None) -> Path:
    """The folder of a saved router, whose calibration can be replaced.

    Raises InvalidInputError for None and for a folder without a manifest.
    """
    if folder is None or not (Path(folder) / MANIFEST).is_file():
        found = "this router has no folder" if folder is None else f"{folder} has no {MANIFEST}"
        raise InvalidInputError(
            f"a calibration is saved into a router that fastroute has saved, and {found}; give "
            "--router NAME=FOLDER with a folder of fastroute train, tune or calibrate --slow"
        )
    return Path(folder)


def save_calibration(
    folder: str | os.PathLike[str],
    router: Router,
    point: OperatingPoint,
    prompts: Sequence[str] | None = None,
    *,
    calibrated_on: str = "",
    drop_trained: bool = False,
    cache: WinRateCache | None = None,
) -> None:
    """Make ``point`` the operating point of a saved router; the router's other facts stay.

    Args:
        folder: where ``router`` was loaded from.
        router: as it was loaded, for its own pair of models.
        point: the threshold, and how it was chosen.
        prompts: n texts, whose win rates become its calibration; None leaves that as it is.
        calibrated_on: which prompts those are, in words.
        drop_trained: leave out prompts that the router was trained on instead of raising.
        cache: as for ``score``.

    Raises as ``save_provenance`` and ``calibrate_share``.
    """
    folder = check_saved(folder)
    known = load_artifact(folder, only=()).provenance
    if prompts is not None:
        keep = untrained(router, prompts, drop_trained)
        texts = [prompt for prompt, kept in zip(prompts, keep, strict=True) if kept]
        win_rates = score(router, texts, cache=cache)
        known = calibrated(known, win_rates, calibrated_on=calibrated_on)
    save_provenance(folder, replace(known, operating_point=point))
