"""The band of a cascade: the uncertain win rates, and how the slow router's are mapped into it.

A cascade is one router, so its win rates must be on one scale, for any threshold. With f the fast
router's win rate, s the slow one's and [low, high] the band::

    win rate = f                 outside the band
             = G(s)              inside it, low <= f <= high

where G rises strictly from [0, 1] onto [low, high]. So the fast router ranks the prompts outside
the band, all prompts below the band stay below those in it, and the slow router ranks those in it.
For a threshold t:

- t <= low or t > high: all prompts in the band get the same decision, whatever the slow router's
  win rate is.
- otherwise: below the band weak, above it strong, and in it the slow router decides, with the
  threshold G^-1(t).

``Band.fitted`` fits G on prompts in the band: it maps quantiles of s to quantiles of f. The
cascade's win rates then have the distribution of the fast router's, so that a threshold keeps its
share of strong calls whether or not the slow router is called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fastroute._arrays import check_array, check_finite
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.types import BoolArray, Float32Array, Float64Array

#: Most quantiles that ``Band.fitted`` uses: more would overfit to single prompts.
KNOTS = 101

_ENDS = np.array([0.0, 1.0])


@dataclass(frozen=True, eq=False)
class Band:
    """Win rates of the fast router from ``low`` to ``high``, both included, and the map G.

    Attributes:
        low, high: ends of the band, 0 <= low < high <= 1.
        slow_knots: float64[k], win rates of the slow router, strictly rising from 0 to 1.
        band_knots: float64[k], their values of G, strictly rising from ``low`` to ``high``;
            linear between. By default one straight line.

    Raises InvalidInputError or InvalidTypeError for anything else.
    """

    low: float
    high: float
    slow_knots: Float64Array = field(default_factory=_ENDS.copy)
    band_knots: Float64Array | None = None

    def __post_init__(self) -> None:
        for end in (self.low, self.high):
            if isinstance(end, bool) or not isinstance(end, (int, float)):
                raise InvalidTypeError(
                    f"band must be two win rates, low and high, got {end!r}; pass (0.4, 0.6)"
                )
        if not 0.0 <= self.low < self.high <= 1.0:
            raise InvalidInputError(
                f"band must be low < high in 0..1, got {self.low!r} and {self.high!r}; for no "
                "band at all pass None"
            )
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        if self.band_knots is None:
            straight = self.low + (self.high - self.low) * np.asarray(self.slow_knots)
            straight[-1:] = self.high  # rounding may give a neighbouring number
            object.__setattr__(self, "band_knots", straight)
        for name, first, last in (("slow_knots", 0.0, 1.0), ("band_knots", self.low, self.high)):
            knots = getattr(self, name)
            check_array(name, knots, np.float64, 1)
            check_finite(name, knots)
            rises = bool((np.diff(knots) > 0.0).all())
            if len(knots) < 2 or knots[0] != first or knots[-1] != last or not rises:
                raise InvalidInputError(
                    f"{name} must rise strictly from {first} to {last}, got {knots!r:.120}"
                )
        if len(self.slow_knots) != len(self.places):
            raise InvalidInputError(
                f"slow_knots has {len(self.slow_knots)} and band_knots {len(self.places)} numbers"
            )

    @classmethod
    def fitted(
        cls, low: float, high: float, fast_win_rates: Float64Array, slow_win_rates: Float64Array
    ) -> Band:
        """The band whose G maps the slow router's quantiles to the fast one's.

        Args:
            low, high: ends of the band.
            fast_win_rates, slow_win_rates: float64[n], of prompts like those to be routed. Only
                those in the band are used; without any, G is a straight line.
        """
        band = cls(low, high)
        for name, rates in (("fast", fast_win_rates), ("slow", slow_win_rates)):
            check_array(f"{name}_win_rates", rates, np.float64, 1)
            check_rates(f"{name}_win_rates", rates)
        if fast_win_rates.shape != slow_win_rates.shape:
            raise InvalidInputError(
                f"{len(fast_win_rates)} fast_win_rates and {len(slow_win_rates)} slow_win_rates; "
                "give both of the same prompts"
            )
        inside = band.contains(fast_win_rates)
        count = int(inside.sum())
        if not count:
            return band
        levels = np.linspace(0.0, 1.0, min(KNOTS, count))
        x = np.quantile(slow_win_rates[inside], levels)
        y = np.quantile(fast_win_rates[inside], levels)
        # Ties of either router give a step or a flat piece; a line across it keeps the map a
        # function, and keeps the slow router's order where the fast one has ties.
        knots = [(0.0, band.low)]
        for at, place in zip(x.tolist(), y.tolist(), strict=True):
            if knots[-1][0] < at < 1.0 and knots[-1][1] < place < band.high:
                knots.append((at, place))
        knots.append((1.0, band.high))
        slow_knots, band_knots = np.array(knots, dtype=np.float64).T
        return cls(
            band.low, band.high, np.ascontiguousarray(slow_knots), np.ascontiguousarray(band_knots)
        )

    @property
    def places(self) -> Float64Array:
        """``band_knots``, which is never None after construction."""
        assert self.band_knots is not None
        return self.band_knots

    def contains(self, win_rates: Float64Array) -> BoolArray:
        """Which win rates of the fast router lie in the band, bool[n]."""
        return (win_rates >= self.low) & (win_rates <= self.high)

    def place(self, slow_win_rates: Float64Array) -> Float64Array:
        """G of win rates of the slow router, float64[n]."""
        placed = np.interp(slow_win_rates, self.slow_knots, self.places)
        # Rounding must not place a win rate outside the band.
        return np.clip(placed, self.low, self.high)


def middle_band(fast_win_rates: Float32Array | Float64Array, share: float) -> Band | None:
    """The band that holds the middle ``share`` of win rates; None for a share of 0.

    Args:
        fast_win_rates: [n], or quantiles such as ``Provenance.calibration``.
        share: wanted share of prompts in the band, 0..1.

    Raises InvalidInputError where the middle win rates are all equal, so that no band separates
    them from the others.
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0.0 <= share <= 1.0:
        raise InvalidInputError(f"share must be a number from 0 to 1, got {share!r}")
    return band_between(fast_win_rates, 0.5 - share / 2.0, 0.5 + share / 2.0)


def band_between(
    fast_win_rates: Float32Array | Float64Array, first: float, last: float
) -> Band | None:
    """The band from quantile ``first`` to ``last`` of win rates; None where these are equal.

    Quantile 0 is taken as win rate 0 and quantile 1 as win rate 1. Raises as
    ``middle_band``.
    """
    if not first < last:
        return None
    ends = np.quantile(np.asarray(fast_win_rates, dtype=np.float64), [first, last])
    low = 0.0 if first <= 0.0 else float(ends[0])
    high = 1.0 if last >= 1.0 else float(ends[1])
    if not low < high:
        raise InvalidInputError(
            f"the fast router's win rates from quantile {first:.3f} to {last:.3f} are all {low!r}: "
            "no band separates them; choose another share, or give band=(low, high)"
        )
    return Band(low, high)


def as_band(value: Band | Sequence[float] | None) -> Band | None:
    """A Band of (low, high); a Band or None as it is."""
    if value is None or isinstance(value, Band):
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) != 2:
        raise InvalidTypeError(
            f"band must be two win rates, low and high, or None, got {value!r}; pass (0.4, 0.6)"
        )
    return Band(value[0], value[1])


def check_rates(name: str, win_rates: Float64Array) -> None:
    """Raise InvalidInputError unless all are in 0..1; NaN is not."""
    good = (win_rates >= 0.0) & (win_rates <= 1.0)
    if not good.all():
        i = int(np.argmin(good))
        raise InvalidInputError(
            f"{name}[{i}] must be in 0..1, got {win_rates[i]}; fix the router that returned it"
        )
