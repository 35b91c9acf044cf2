"""A share of strong calls that holds on live traffic, whatever comes.

A threshold for a share comes from a calibration, and live prompts differ from its prompts. Here the
threshold at request t is the quantile q_t of the win rates of recent requests, and q_t follows what
was decided (Gibbs and Candes 2021, "Adaptive conformal inference under distribution shift", arXiv
2106.00170)::

    q_1 = 1 - p                         p: the share to hold
    q_(t+1) = q_t + step * (s_t - p)    s_t: 1 where the strong model was chosen, else 0

For q_t <= 0 the threshold is 0, and s_t = 1 moves q up; for q_t >= 1 it is 1, and s_t = 0 moves q
down. So q stays between -step * p and 1 + step * (1 - p), and as the steps add up to
step * (strong calls - p * T), for any sequence of T win rates below 1::

    |share of strong calls - p| <= 1 / (step * T)                since the start
    |share of strong calls - p| <= (1 + step) / (step * T)       over any T requests in a row

Nothing is assumed of the prompts: they may drift, jump, or be chosen against it. A decision that
would push q past where the threshold can follow (a strong call at ``max_threshold``, a weak one at
``min_threshold``) does not move q and does not count for T: the bound holds over the others. With
the default limits, 0 and 1, that happens only to win rates of exactly 1, which are strong whatever
the threshold, and to decisions that something else has overruled.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fastroute._checks import check_number
from fastroute._forking import ForkSafeLock
from fastroute._validate import check_count
from fastroute.errors import InvalidInputError
from fastroute.types import Float32Array

__all__ = [
    "HeldShare",
    "ShareControl",
    "ShareState",
]


@dataclass(frozen=True, slots=True)
class HeldShare:
    """A share of strong calls to hold, and how.

    Attributes:
        strong_share: the share, 0..1.
        step: how far one decision moves the quantile, above 0 and at most 1. Since its start a
            control is never more than 1 / step strong calls away from its share.
        window: how many recent win rates the threshold is a quantile of; at first the calibration
            stands for them.
        min_threshold, max_threshold: bounds of the threshold, 0..1. Requests at which a bound keeps
            the threshold from moving on do not count for the share.

    Raises InvalidInputError for values that do not fit this description.
    """

    strong_share: float
    step: float = 0.005
    window: int = 1000
    min_threshold: float = 0.0
    max_threshold: float = 1.0

    def __post_init__(self) -> None:
        for name in ("strong_share", "min_threshold", "max_threshold"):
            if not 0.0 <= check_number(name, getattr(self, name)) <= 1.0:
                raise InvalidInputError(f"{name} must be in 0..1, got {getattr(self, name)!r}")
        if not 0.0 < check_number("step", self.step) <= 1.0:
            raise InvalidInputError(f"step must be above 0 and at most 1, got {self.step!r}")
        check_count("window", self.window, least=2)
        if self.min_threshold > self.max_threshold:
            raise InvalidInputError(
                f"min_threshold is {self.min_threshold} and max_threshold {self.max_threshold}; "
                "the least comes first"
            )


class ShareState(NamedTuple):
    """Where a control is.

    Attributes:
        target: the share that it holds.
        threshold: of the next decision.
        requests: decisions that were recorded.
        strong: those of them that went to the strong model.
        at_bound: those of them at which a bound kept the threshold from moving on.
        recent_share: share of strong calls among the last ``window`` decisions; NaN before the
            first.
    """

    target: float
    threshold: float
    requests: int
    strong: int
    at_bound: int
    recent_share: float


class ShareControl:
    """Moves a threshold so that a share of decisions goes to the strong model; see the module.

    Safe to use from several threads. Each process has its own.

    Args:
        held: the share, and how to hold it.
        calibration: float32[n], n >= 2, rising quantiles of win rates, such as those of
            ``Provenance.calibration``; where the threshold starts.
    """

    def __init__(self, held: HeldShare, calibration: Float32Array) -> None:
        self.held = held
        self._lock = ForkSafeLock()
        n = held.window
        places = np.linspace(0.0, len(calibration) - 1.0, n)
        rates = np.interp(places, np.arange(len(calibration)), calibration).tolist()
        self._rates: list[float] = sorted(rates)
        # The oldest goes first. In this order what is left of the calibration stays spread evenly.
        order = sorted(range(n), key=lambda i: i * 0.6180339887498949 % 1.0)
        self._ring = [rates[i] for i in order]
        self._sides = bytearray(n)
        self._next = self._requests = self._strong = self._at_bound = 0
        self._quantile = 1.0 - held.strong_share
        self._excess = self._others_excess = 0.0
        self._threshold = self._find_threshold()

    @property
    def threshold(self) -> float:
        """The threshold of the next decision."""
        return self._threshold

    @property
    def own_excess(self) -> float:
        """Strong calls here beyond the share of the decisions here that count."""
        return self._excess

    @property
    def others_excess(self) -> float:
        """The same of other processes that hold the share together with this one; 0 at first.

        Set it from time to time: then the share holds over all of them, with a bound that grows by
        the decisions that each made since the others last heard of it.
        """
        return self._others_excess

    @others_excess.setter
    def others_excess(self, excess: float) -> None:
        with self._lock:
            self._quantile += self.held.step * (excess - self._others_excess)
            self._others_excess = excess
            self._threshold = self._find_threshold()

    @property
    def state(self) -> ShareState:
        """Where it is now."""
        with self._lock:
            seen = min(self._requests, len(self._sides))
            return ShareState(
                self.held.strong_share,
                self._threshold,
                self._requests,
                self._strong,
                self._at_bound,
                self._sides.count(1) / seen if seen else float("nan"),
            )

    def decide(self, win_rate: float) -> tuple[float, bool]:
        """The threshold for a prompt of this win rate, and whether the strong model answers."""
        with self._lock:
            threshold = self._threshold
            strong = win_rate >= threshold
            self._record(win_rate, strong)
        return threshold, strong

    def record(self, win_rate: float, strong: bool) -> bool:
        """Note a decision that was made by ``threshold`` and may have been overruled since.

        Returns whether it counts for the share: False where a bound kept the threshold from moving.
        """
        with self._lock:
            return self._record(win_rate, strong)

    def _record(self, win_rate: float, strong: bool) -> bool:
        held, i = self.held, self._next
        if strong:
            counts = self._threshold < held.max_threshold
        else:
            counts = self._threshold > held.min_threshold
        if counts:
            self._quantile += held.step * (strong - held.strong_share)
            self._excess += strong - held.strong_share
        else:
            self._at_bound += 1
        oldest = bisect_left(self._rates, self._ring[i])
        self._rates[oldest : oldest + 1] = []  # no error in a fork that left the list shorter
        insort(self._rates, win_rate)
        self._ring[i], self._sides[i] = win_rate, strong
        self._next = (i + 1) % held.window
        self._requests += 1
        self._strong += strong
        self._threshold = self._find_threshold()
        return counts

    def _find_threshold(self) -> float:
        rates, place = self._rates, self._quantile * (len(self._rates) - 1)
        if self._quantile <= 0.0:
            found = 0.0
        elif self._quantile >= 1.0:
            found = 1.0
        else:
            i = int(place)
            found = rates[i] + (place - i) * (rates[i + 1] - rates[i])
        return min(max(found, self.held.min_threshold), self.held.max_threshold)
