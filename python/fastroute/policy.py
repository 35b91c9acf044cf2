"""From win rates to decisions: thresholds, and the model strings that carry them."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import overload

import numpy as np

from fastroute._arrays import check_array
from fastroute.errors import InvalidInputError, InvalidModelNameError, InvalidThresholdError
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.types import BoolArray, Decision, Float32Array, Float64Array, ModelPair

__all__ = [
    "CASCADE_MODEL",
    "MANY_MODELS",
    "DecisionBatch",
    "DifficultyScale",
    "are_strong",
    "calibrated",
    "check_threshold",
    "check_win_rate",
    "is_strong",
    "parse_model_name",
    "stays",
    "threshold_for_strong_share",
]

#: How many quantiles ``calibrated`` takes: 0, 0.001, ..., 1.
QUANTILES = 1001
#: The model string that asks for a cascade by evidence.
CASCADE_MODEL = "cascade"
#: The model string that asks for a choice among many candidates.
MANY_MODELS = "fastroute"
# What is a tie in float32 may differ in float64, by less than this part.
_TIE = 1.0 - 2.0**-23
#: How many thresholds a scale keeps: an application asks for few shares, and may ask for any.
_KEPT_THRESHOLDS = 1000
_PREFIX = "router-"
# The shortest name that leaves a number behind its dash: "1e-05" has a dash of its own.
_ROUTED = re.compile(
    r"router-(?P<router>.+?)-(?P<threshold>[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?)",
    re.ASCII | re.IGNORECASE,
)


def check_threshold(value: object) -> float:
    """Return ``value`` as a float if it is a number in 0..1, else raise InvalidThresholdError."""
    if type(value) is float and 0.0 <= value <= 1.0:  # the usual case first
        return value
    number = _share(value)
    if number is None:
        raise InvalidThresholdError(f"threshold must be a number from 0 to 1, got {value!r}")
    return number


def check_win_rate(value: object) -> float:
    """Return ``value`` as a float if it is a number in 0..1.

    Raises InvalidInputError for anything else, NaN too: it would go to the weak model unseen.
    """
    if type(value) is float and 0.0 <= value <= 1.0:  # the usual case first
        return value
    number = _share(value)
    if number is None:
        raise InvalidInputError(
            f"win_rate must be a number in 0..1, got {value!r}; fix the router that returned it"
        )
    return number


def is_strong(win_rate: float, threshold: float) -> bool:
    """Whether the strong model answers: ``win_rate >= threshold``. Raises as ``check_win_rate``."""
    return check_win_rate(win_rate) >= threshold


def are_strong(win_rates: Float64Array, threshold: float) -> BoolArray:
    """``is_strong`` of many: float64[n] -> bool[n]."""
    check_array("win_rates", win_rates, np.float64, 1)
    in_range = (win_rates >= 0.0) & (win_rates <= 1.0)
    if not in_range.all():
        i = int(np.argmin(in_range))
        raise InvalidInputError(
            f"win_rates[{i}] must be in 0..1, got {win_rates[i]}; fix the router"
        )
    return win_rates >= threshold


def stays(
    was_strong: bool, win_rate: float, threshold: float, chars: int, margin: float, short: int
) -> bool:
    """Whether a conversation that was with the strong (weak) model stays there.

    It leaves the strong model below ``threshold - margin``, the weak one at ``threshold + margin``
    or above, and neither for a message of at most ``short`` characters.
    """
    if chars <= short:
        return True
    return win_rate >= threshold - margin if was_strong else win_rate < threshold + margin


@dataclass(frozen=True, slots=True, eq=False)
class DecisionBatch(Sequence[Decision]):
    """Where many prompts go, in columns; ``batch[i]`` is the Decision on prompt i.

    Attributes:
        router: name of the router that scored them.
        threshold: ``win_rate >= threshold`` routes to the strong model.
        pair: the two models.
        win_rates: float64[n], probability that the strong model's answer would be preferred.
        strong: bool[n], whether the strong model answers.
        difficulties: float64[n], 0..1, as ``Decision.difficulty``; None for a router without
            calibration.
        latency_us: microseconds from the texts to the decisions, for all of them together.
    """

    router: str
    threshold: float
    pair: ModelPair
    win_rates: Float64Array
    strong: BoolArray
    latency_us: float
    difficulties: Float64Array | None = None

    @property
    def models(self) -> list[str]:
        """Names of the models that should answer, one a prompt."""
        return [self.pair.strong if strong else self.pair.weak for strong in self.strong.tolist()]

    @property
    def strong_share(self) -> float:
        """Share of the prompts that go to the strong model; NaN for no prompts."""
        return float(self.strong.mean()) if len(self) else float("nan")

    def __len__(self) -> int:
        return len(self.strong)

    @overload
    def __getitem__(self, index: int) -> Decision: ...

    @overload
    def __getitem__(self, index: slice) -> list[Decision]: ...

    def __getitem__(self, index: int | slice) -> Decision | list[Decision]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        strong = bool(self.strong[index])
        return Decision(
            self.pair.strong if strong else self.pair.weak,
            self.router,
            float(self.win_rates[index]),
            self.threshold,
            strong,
            self.latency_us / len(self),
            None if self.difficulties is None else float(self.difficulties[index]),
        )


class DifficultyScale:
    """How hard a prompt is among those of a calibration, by its win rate.

    A difficulty of 0.83 says: harder than 83 % of those prompts. Prompts whose win rates tie have
    the difficulty of the easiest of them. But for ties, the threshold for a strong share p is that
    of difficulty 1 - p.

    Args:
        calibration: float32[n], as for ``threshold_for_strong_share``, which has the errors too.

    Attributes:
        calibration: as given.
        least, greatest: the calibrated range of win rates.
    """

    def __init__(self, calibration: Float32Array) -> None:
        self.calibration = calibration
        self._quantiles = _check_quantiles(calibration)
        self._rates: list[float] = self._quantiles.tolist()  # a list is searched faster
        self._last = len(self._rates) - 1
        self.least, self.greatest = self._rates[0], self._rates[-1]
        self._thresholds: dict[float, float] = {}

    def threshold(self, share: float) -> float:
        """``threshold_for_strong_share``, which takes longer than a decision, found once."""
        known = self._thresholds.get(share) if type(share) is float else None
        if known is None:
            known = threshold_for_strong_share(self.calibration, share)
            if len(self._thresholds) < _KEPT_THRESHOLDS:
                self._thresholds[float(share)] = known
        return known

    def difficulty(self, win_rate: float) -> float:
        """Difficulty, 0..1, of a win rate."""
        rates, sought = self._rates, win_rate * _TIE
        i = bisect_left(rates, sought)
        if i == 0:
            return 0.0
        if i > self._last:
            return 1.0
        below = rates[i - 1]
        return (i - 1 + (sought - below) / (rates[i] - below)) / self._last

    def difficulties(self, win_rates: Float64Array) -> Float64Array:
        """``difficulty`` of many: float64[n] -> float64[n], bitwise the same."""
        sought = win_rates * _TIE
        i = np.searchsorted(self._quantiles, sought, side="left")
        inner = np.clip(i, 1, self._last)
        below, above = self._quantiles[inner - 1], self._quantiles[inner]
        with np.errstate(invalid="ignore", divide="ignore"):  # ties at the ends
            found = (inner - 1 + (sought - below) / (above - below)) / self._last
        return np.where(i == 0, 0.0, np.where(i > self._last, 1.0, found))


def calibrated(
    provenance: Provenance,
    win_rates: Float64Array,
    *,
    calibrated_on: str,
    strong_share: float = 0.5,
) -> Provenance:
    """``provenance`` with the quantiles of ``win_rates``, and with the operating point that sends
    ``strong_share`` of such prompts to the strong model.

    Args:
        provenance: of the router; what else it holds stays.
        win_rates: float64[n], n >= 1, 0..1, of prompts that the router was not trained on.
        calibrated_on: which prompts those are, in words, such as "812 held-out prompts".
        strong_share: share of strong calls, 0..1.

    Raises InvalidInputError for win rates or a share outside 0..1, or no win rates.
    """
    are_strong(win_rates, 0.0)  # which checks them
    if not len(win_rates):
        raise InvalidInputError("win_rates is empty; give those of at least one prompt")
    levels = np.linspace(0.0, 1.0, QUANTILES)
    quantiles = np.quantile(win_rates, levels).astype(np.float32)
    threshold = threshold_for_strong_share(quantiles, strong_share)
    chosen_by = f"quantiles of the win rates of {calibrated_on}"
    return replace(
        provenance,
        calibration=quantiles,
        calibrated_on=calibrated_on,
        operating_point=OperatingPoint(threshold, float(strong_share), chosen_by),
    )


def threshold_for_strong_share(calibration: Float32Array, share: float) -> float:
    """The threshold that sends ``share`` of prompts like the calibration ones to the strong model.

    Between two quantiles it interpolates. A larger share never gives a larger threshold. Where
    many prompts have the same win rate, no threshold separates them: they all go to the side
    that comes nearer to ``share``.

    The ends do not look at the calibration, because a prompt may lie outside it: share 1 gives
    threshold 0.0, which sends everything to the strong model, and share 0 gives threshold 1.0,
    which sends nothing but a win rate of exactly 1.0, as no threshold can keep that back.

    Args:
        calibration: float32[n], evenly spaced quantiles of the win rates, from the least (quantile
            0) to the greatest (quantile 1), n >= 2; ``Provenance.calibration`` has n = 1001.
        share: wanted share of strong calls, 0..1.

    Raises:
        InvalidInputError: a share outside 0..1, or quantiles that fall, leave 0..1 or hold NaN.
    """
    wanted = _share(share)
    if wanted is None:
        raise InvalidInputError(f"share must be a number from 0 to 1, got {share!r}")
    quantiles = _check_quantiles(calibration)
    n = len(quantiles)
    if wanted in (0.0, 1.0):
        return 1.0 - wanted
    level = 1.0 - wanted
    # On the float32 grid of the quantiles, so that a tie is seen as one.
    threshold = np.float32(np.interp(level, np.linspace(0.0, 1.0, n), quantiles))
    first = int(np.searchsorted(calibration, threshold, side="left"))
    last = int(np.searchsorted(calibration, threshold, side="right")) - 1
    if last > first:
        # What is a tie in float32 may differ in float64: stand beside it, below or above.
        below, above = first / (n - 1), last / (n - 1)
        side = -np.inf if level - below <= above - level else np.inf
        threshold = np.nextafter(threshold, np.float32(side))
    return min(max(float(threshold), 0.0), 1.0)


def _check_quantiles(calibration: Float32Array) -> Float64Array:
    """The quantiles as float64[n], n >= 2."""
    check_array("calibration", calibration, np.float32, 1)
    quantiles = calibration.astype(np.float64)
    # Written so that NaN fails too.
    if (
        len(quantiles) < 2
        or not (np.diff(quantiles) >= 0).all()
        or not (0 <= quantiles[0] <= quantiles[-1] <= 1)
    ):
        raise InvalidInputError(
            "calibration must be at least 2 quantiles that rise from 0 or more to 1 or less, got "
            f"{len(quantiles)} from {calibration.min(initial=1)} to {calibration.max(initial=0)}"
        )
    return quantiles


def _share(value: object) -> float | None:
    """``value`` as a float if it is a number in 0..1."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # an int that no float reaches
        return None
    return number if 0.0 <= number <= 1.0 else None


def parse_model_name(model: str) -> tuple[str, float] | None:
    """``("mf", 0.11593)`` for "router-mf-0.11593", None for the plain name of a model.

    A router's name may have dashes of its own ("router-my-router-0.5"), and the threshold an
    exponent ("router-mf-1e-05").

    Raises:
        InvalidModelNameError: not a str, empty, or "router-..." without a name and a number.
        InvalidThresholdError: a number outside 0..1.
    """
    if not isinstance(model, str) or not model:
        raise InvalidModelNameError(f"model must be a name, got {model!r}")
    if not model.startswith(_PREFIX):
        return None
    found = _ROUTED.fullmatch(model)
    if found is None:
        raise InvalidModelNameError(
            f"model {model[:200]!r} is malformed; write router-<name>-<threshold>, such as "
            "router-mf-0.5"
        )
    return found["router"], check_threshold(float(found["threshold"]))
