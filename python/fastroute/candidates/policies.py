"""The choice among eligible candidates, from their expected quality and dollars.

Every policy is monotone: with more money it never chooses a candidate of less expected quality for
the same numbers. ``SpendAtMost`` holds a ceiling over a stream of requests; the others look at one
request alone.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fastroute._checks import check_number
from fastroute._forking import ForkSafeLock
from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array

#: How fast the price of money follows the spending; see ``SpendAtMost``.
_RATE = 0.05
_SMOOTHING = 0.03
#: Bounds of the price of money, in quality for one request's allowance.
_LEAST_PRICE, _MOST_PRICE = 1e-5, 1e4
#: Requests' worth of unspent allowance that is kept.
_CARRY = 200.0


class ChoicePolicy(ABC):
    """Chooses a candidate for a request. Safe to use from several threads."""

    @abstractmethod
    def choose(self, quality: Float64Array, dollars: Float64Array) -> int:
        """The index of the chosen candidate.

        Args:
            quality: float64[n], expected quality of each candidate's answer, n at least 1.
            dollars: float64[n], expected dollars of each.
        """

    def choose_safely(self, quality: Float64Array, dollars: Float64Array) -> int:
        """``choose`` for a prompt of which the estimate knows no more than of any other."""
        return self.choose(quality, dollars)

    def correct(self, expected_usd: float, actual_usd: float) -> None:  # noqa: B027 - optional
        """Take note that a choice cost ``actual_usd`` instead; most policies keep no account."""

    def __repr__(self) -> str:
        known = ((n, p) for n, (kind, p) in _POLICIES.items() if type(self) is kind)
        name, parameter = next(known, (type(self).__name__, ""))
        return f"{name}={getattr(self, parameter):g}" if parameter else name


class MaxQuality(ChoicePolicy):
    """The greatest expected quality, whatever it costs; of equals the cheapest."""

    def choose(self, quality: Float64Array, dollars: Float64Array) -> int:
        return _best(quality, dollars)


class QualityAtLeast(ChoicePolicy):
    """The cheapest candidate with at least ``share`` of the best one's expected quality.

    Its safe choice is the candidate of the greatest quality.

    Args:
        share: 0..1.
    """

    def __init__(self, share: float) -> None:
        self.share = check_number("share", share)
        if not 0.0 <= self.share <= 1.0:
            raise InvalidInputError(f"share must be from 0 to 1, got {share}")

    def choose(self, quality: Float64Array, dollars: Float64Array) -> int:
        enough = quality >= self.share * quality.max()
        return _best(-np.where(enough, dollars, np.inf), -quality)

    def choose_safely(self, quality: Float64Array, dollars: Float64Array) -> int:
        return _best(quality, dollars)


class BestValue(ChoicePolicy):
    """The greatest ``quality - quality_per_usd * dollars``.

    Args:
        quality_per_usd: how much quality a dollar is worth: at 2, an answer that is right with 1 %
            more probability is worth half a cent. 0 or more.
    """

    def __init__(self, quality_per_usd: float) -> None:
        self.quality_per_usd = check_number("quality_per_usd", quality_per_usd)
        if not 0.0 <= self.quality_per_usd < math.inf:
            raise InvalidInputError(f"quality_per_usd must be 0 or more, got {quality_per_usd}")

    def choose(self, quality: Float64Array, dollars: Float64Array) -> int:
        return best_value(quality, dollars, self.quality_per_usd)


@dataclass(frozen=True, slots=True)
class SpendState:
    """The account of ``SpendAtMost``.

    Attributes:
        requests: how many were chosen for.
        spent_usd: what they cost, expected dollars where no actual ones were given.
        balance_usd: unspent allowance that may be used now; below 0 after an overdraft.
        quality_per_usd: the present price of money: what a dollar must buy.
        overdrafts: requests for which not even the cheapest candidate was within the allowance.
    """

    requests: int
    spent_usd: float
    balance_usd: float
    quality_per_usd: float
    overdrafts: int


class SpendAtMost(ChoicePolicy):
    """The best quality for at most ``usd_per_1000_requests``, over a stream of requests.

    Each request adds a thousandth of this to an allowance. The chosen candidate has the greatest
    ``quality - price * dollars`` among those within the allowance; where none is, it is the
    cheapest. So the sum is never above what the requests so far have added, as long as the cheapest
    candidate is affordable. The price is found by dual ascent: it rises by a factor where recent
    spending is above the ceiling and falls where it is below, within bounds. An allowance of at
    most 200 requests is kept.

    Args:
        usd_per_1000_requests: the ceiling, above 0.
    """

    def __init__(self, usd_per_1000_requests: float) -> None:
        self.usd_per_1000_requests = check_number("usd_per_1000_requests", usd_per_1000_requests)
        if not 0.0 < self.usd_per_1000_requests < math.inf:
            raise InvalidInputError(
                f"usd_per_1000_requests must be above 0, got {usd_per_1000_requests}"
            )
        self._allowance = self.usd_per_1000_requests / 1000.0
        self._lock = ForkSafeLock()
        self._price = 1.0
        self._recent = 1.0  # smoothed cost of a request, in allowances
        self._balance = 0.0
        self._spent = 0.0
        self._requests = 0
        self._overdrafts = 0

    def choose(self, quality: Float64Array, dollars: Float64Array) -> int:
        with self._lock:
            available = self._balance + self._allowance
            affordable = dollars <= available
            if affordable.any():
                value = np.where(affordable, quality, -np.inf)
                chosen = best_value(value, dollars, self._price / self._allowance)
            else:
                chosen = _best(-dollars, quality)
                self._overdrafts += 1
            self._spend(float(dollars[chosen]), available)
            return chosen

    def correct(self, expected_usd: float, actual_usd: float) -> None:
        with self._lock:
            self._balance -= actual_usd - expected_usd
            self._spent += actual_usd - expected_usd

    @property
    def state(self) -> SpendState:
        """The account as it is now."""
        with self._lock:
            price = self._price / self._allowance
            return SpendState(self._requests, self._spent, self._balance, price, self._overdrafts)

    def _spend(self, usd: float, available: float) -> None:
        self._requests += 1
        self._spent += usd
        self._balance = min(available - usd, _CARRY * self._allowance)
        self._recent += _SMOOTHING * (usd / self._allowance - self._recent)
        step = min(max(self._recent - 1.0, -1.0), 2.0)
        price = self._price * math.exp(_RATE * step)
        self._price = min(max(price, _LEAST_PRICE), _MOST_PRICE)


def best_value(quality: Float64Array, dollars: Float64Array, quality_per_usd: float) -> int:
    """The index of the greatest ``quality - quality_per_usd * dollars``; of equals the cheapest."""
    return _best(quality - quality_per_usd * dollars, dollars)


def _best(value: Float64Array, dollars: Float64Array) -> int:
    """The first index of the greatest value; of equal values the one of least dollars."""
    best = np.flatnonzero(value == value.max())
    return int(best[0] if len(best) == 1 else best[np.argmin(dollars[best])])


#: Policies by name, and the attribute that is their number.
_POLICIES: dict[str, tuple[Callable[..., ChoicePolicy], str]] = {
    "max_quality": (MaxQuality, ""),
    "quality_at_least": (QualityAtLeast, "share"),
    "spend_at_most": (SpendAtMost, "usd_per_1000_requests"),
    "best_value": (BestValue, "quality_per_usd"),
}


def parse_policy(text: str) -> ChoicePolicy:
    """The policy that ``NAME`` or ``NAME=NUMBER`` names.

    ``max_quality``; ``quality_at_least=0.95`` of the best model's quality; ``spend_at_most=1.2``
    dollars per 1,000 requests; ``best_value=2``, quality per dollar.

    Raises InvalidInputError for anything else.
    """
    name, equals, word = text.partition("=") if isinstance(text, str) else ("", "", "")
    make, parameter = _POLICIES.get(name, (None, ""))
    if make is None or bool(equals) != bool(parameter):
        known = ", ".join(f"{n}={p.upper()}" if p else n for n, (_, p) in _POLICIES.items())
        raise InvalidInputError(f"policy {text!r} must be one of {known}")
    if not equals:
        return make()
    try:
        return make(float(word))
    except ValueError as error:
        raise InvalidInputError(f"policy {text!r}: {error}") from error
