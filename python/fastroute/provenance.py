"""What is recorded of a router: what it was trained on, and what was measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError
from fastroute.types import Float32Array

__all__ = [
    "OperatingPoint",
    "Provenance",
]

#: Names of the two arrays in an artifact.
CALIBRATION = "calibration_win_rates"
TRAINED_ON = "trained_on"


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The threshold that a router uses where none is given, and how it was chosen.

    Attributes:
        threshold: win rate, 0..1, from which the strong model answers.
        strong_share: share of strong calls, 0..1, that it was chosen for; None where it was chosen
            for something else.
        chosen_by: how it was chosen, in words; None if that is not recorded.

    Raises InvalidInputError for values that do not fit this description.
    """

    threshold: float
    strong_share: float | None = None
    chosen_by: str | None = None

    def __post_init__(self) -> None:
        share, how = self.strong_share, self.chosen_by
        if not _is_share(self.threshold):
            raise InvalidInputError(
                f"threshold of the operating_point must be a number in 0..1, got {self.threshold!r}"
            )
        if share is not None and not _is_share(share):
            raise InvalidInputError(
                f"strong_share of the operating_point must be a number in 0..1, got {share!r}"
            )
        if how is not None and not isinstance(how, str):
            raise InvalidInputError(f"chosen_by of the operating_point must be a str, got {how!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Provenance:
    """What is recorded of a router; None for what is not. It can't be changed.

    ``dataclasses.replace`` makes another one with different values.

    Attributes:
        data: names of the files or data sets that the router was trained on.
        trained_on: uint64[n], ``prompt_hash`` of every prompt that it was trained on, sorted.
        calibration: float32[n], n >= 2: evenly spaced quantiles of the router's win rates, from
            the least to the greatest, on prompts that it was not trained on.
        calibrated_on: which prompts those were, in words, such as "812 held-out prompts".
        operating_point: the threshold that was chosen for it.
        checksum: identifies everything that determines the router's win rates, in hexadecimal.

    Raises InvalidInputError for values that do not fit this description.
    """

    data: tuple[str, ...] | None = None
    trained_on: npt.NDArray[np.uint64] | None = None
    calibration: Float32Array | None = None
    calibrated_on: str | None = None
    operating_point: OperatingPoint | None = None
    checksum: str | None = None

    def __post_init__(self) -> None:
        hashes, quantiles, point = self.trained_on, self.calibration, self.operating_point
        if hashes is not None and not (
            isinstance(hashes, np.ndarray) and hashes.dtype == np.uint64 and hashes.ndim == 1
        ):
            raise InvalidInputError(f"{TRAINED_ON} must be uint64 hashes [n], got {_kind(hashes)}")
        if quantiles is not None and not _is_quantiles(quantiles):
            raise InvalidInputError(
                f"calibration ({CALIBRATION} in an artifact) must be at least 2 rising float32 win "
                f"rates from 0 to 1, got {_kind(quantiles)}"
            )
        if point is not None and not isinstance(point, OperatingPoint):
            raise InvalidInputError(f"operating_point must be an OperatingPoint, got {point!r}")
        if self.calibrated_on is not None and not isinstance(self.calibrated_on, str):
            raise InvalidInputError(f"calibrated_on must be a str, got {self.calibrated_on!r}")
        names: object = self.data
        if names is not None and not (
            isinstance(names, tuple) and all(isinstance(name, str) for name in names)
        ):
            raise InvalidInputError(f"data must be a tuple of names (str), got {names!r}")
        if self.checksum is not None and not isinstance(self.checksum, str):
            raise InvalidInputError(f"checksum must be a str, got {self.checksum!r}")
        if hashes is not None and (hashes[1:] < hashes[:-1]).any():
            hashes = np.sort(hashes)
        object.__setattr__(self, "trained_on", _frozen(hashes))
        object.__setattr__(self, "calibration", _frozen(quantiles))

    def __reduce__(self) -> tuple[type[Self], tuple[Any, ...]]:
        # By its constructor, as the arrays of a pickle can be written to.
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that an artifact stores, by name."""
        stored = {CALIBRATION: self.calibration, TRAINED_ON: self.trained_on}
        return {name: array for name, array in stored.items() if array is not None}

    def facts(self) -> dict[str, Any]:
        """What a manifest stores, as plain JSON."""
        point = self.operating_point
        stored = {
            "data": None if self.data is None else list(self.data),
            "calibrated_on": self.calibrated_on,
            "operating_point": None if point is None else asdict(point),
        }
        return {name: value for name, value in stored.items() if value is not None}

    @classmethod
    def read(
        cls,
        arrays: Mapping[str, npt.NDArray[Any]],
        facts: Mapping[str, Any],
        checksum: str | None = None,
    ) -> Self:
        """The provenance that ``arrays()`` and ``facts()`` describe."""
        data, point = facts.get("data"), facts.get("operating_point")
        if point is not None:
            point = OperatingPoint(**point) if isinstance(point, dict) else OperatingPoint(point)
        return cls(
            data=tuple(data) if isinstance(data, list) else data,
            trained_on=arrays.get(TRAINED_ON),
            calibration=arrays.get(CALIBRATION),
            calibrated_on=facts.get("calibrated_on"),
            operating_point=point,
            checksum=checksum,
        )


def _frozen(array: npt.NDArray[Any] | None) -> npt.NDArray[Any] | None:
    if array is not None and array.flags.writeable:
        array = array.copy()
        array.flags.writeable = False
    return array


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    number: Any = value
    return bool(0.0 <= number <= 1.0)


def _is_quantiles(value: object) -> bool:
    """Whether these are rising numbers from 0 to 1."""
    return (
        isinstance(value, np.ndarray)
        and value.dtype == np.float32
        and value.ndim == 1
        and value.size >= 2
        and bool(np.isfinite(value).all() and value[0] >= 0 and value[-1] <= 1)
        and bool((np.diff(value) >= 0).all())
    )


def _kind(value: object) -> str:
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return f"{value.dtype} {list(value.shape)}"
