"""The choice among eligible candidates, from their expected quality and dollars.

Every policy is monotone: with more money it never chooses a candidate of less expected quality for
the same numbers. ``SpendAtMost`` and ``SpendPerDay`` hold a ceiling over a stream of requests; the
others look at one request alone.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from fastroute import _native
from fastroute._arrays import check_array
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
DAY_S = 86_400.0
#: Seconds' worth of a day's ceiling that may be spent ahead, and over which traffic is measured.
_AHEAD_S = 3600.0


#: The price of money in quality per dollar, the most dollars, the answers of the cheapest candidate
#: for which a dearer one has to leave enough, and the share of the best quality (-1: none).
Terms: TypeAlias = tuple[float, float, float, float]
#: Index, expected quality and dollars of what is chosen, and whether the estimate abstained.
Chosen: TypeAlias = tuple[int, float, float, bool]


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

    def preview(self, quality: Float64Array, dollars: Float64Array, *, safely: bool = False) -> int:
        """What ``choose`` (or ``choose_safely``) would choose, without counting it."""
        return (self.choose_safely if safely else self.choose)(quality, dollars)

    def choose_by(self, kernel: Callable[..., Chosen], *arguments: Any) -> Chosen | None:
        """As ``choose``, by a kernel that takes ``arguments`` and a policy's ``Terms``; None for a
        policy that has to see the numbers."""
        del kernel, arguments
        return None

    def for_each_of(self, workers: int) -> ChoicePolicy:
        """The policy for each of so many processes that together follow this one."""
        del workers
        return self

    def correct(self, expected_usd: float, actual_usd: float) -> None:  # noqa: B027 - optional
        """Take note that a choice cost ``actual_usd`` instead; most policies keep no account."""

    def __repr__(self) -> str:
        known = ((n, p) for n, (kind, p) in _POLICIES.items() if type(self) is kind)
        name, parameter = next(known, (type(self).__name__, ""))
        return f"{name}={getattr(self, parameter):g}" if parameter else name


class _ByTerms(ChoicePolicy):
    """A policy that is known by its terms."""

    def terms(self) -> Terms:
        """What to choose by."""
        return 0.0, math.inf, 0.0, -1.0

    def choose_by(self, kernel: Callable[..., Chosen], *arguments: Any) -> Chosen:
        return kernel(*arguments, *self.terms())

    def choose(self, quality: Float64Array, dollars: Float64Array) -> int:
        return self.choose_by(_choose, quality, dollars, False)[0]

    def choose_safely(self, quality: Float64Array, dollars: Float64Array) -> int:
        return self.choose_by(_choose, quality, dollars, True)[0]


class MaxQuality(_ByTerms):
    """The greatest expected quality, whatever it costs; of equals the cheapest."""


class QualityAtLeast(_ByTerms):
    """The cheapest candidate with at least ``share`` of the best one's expected quality.

    Its safe choice is the candidate of the greatest quality.

    Args:
        share: 0..1.
    """

    def __init__(self, share: float) -> None:
        self.share = check_number("share", share)
        if not 0.0 <= self.share <= 1.0:
            raise InvalidInputError(f"share must be from 0 to 1, got {share}")

    def terms(self) -> Terms:
        return 0.0, math.inf, 0.0, self.share


class BestValue(_ByTerms):
    """The greatest ``quality - quality_per_usd * dollars``.

    Args:
        quality_per_usd: how much quality a dollar is worth: at 2, an answer that is right with 1 %
            more probability is worth half a cent. 0 or more.
    """

    def __init__(self, quality_per_usd: float) -> None:
        self.quality_per_usd = check_number("quality_per_usd", quality_per_usd)
        if not 0.0 <= self.quality_per_usd < math.inf:
            raise InvalidInputError(f"quality_per_usd must be 0 or more, got {quality_per_usd}")

    def terms(self) -> Terms:
        return self.quality_per_usd, math.inf, 0.0, -1.0


@dataclass(frozen=True, slots=True)
class SpendState:
    """The account of ``SpendAtMost`` or ``SpendPerDay``.

    Attributes:
        requests: how many were chosen for.
        spent_usd: what they cost, expected dollars where no actual ones were given; of
            ``SpendPerDay`` those of the day.
        balance_usd: unspent allowance that may be used now; below 0 after an overdraft.
        quality_per_usd: the present price of money: what a dollar must buy.
        overdrafts: requests for which not even the cheapest candidate was within the allowance.
    """

    requests: int
    spent_usd: float
    balance_usd: float
    quality_per_usd: float
    overdrafts: int


class _Account(_ByTerms):
    """What policies that hold a ceiling over a stream of requests have in common."""

    #: Answers of the cheapest candidate for which a dearer one has to leave enough.
    _reserved = 0.0

    def __init__(self) -> None:
        self._lock = ForkSafeLock()
        self._price = 1.0
        self._recent = 1.0  # smoothed cost of a request, in allowances
        self._spent = 0.0
        self._requests = 0
        self._overdrafts = 0

    @abstractmethod
    def _allowed(self, *, counts: bool) -> tuple[float, float]:
        """The allowance of the next request, and the balance with it, in dollars."""

    def _paid(self, usd: float, available: float) -> None:
        """Take note of the balance after a choice that cost ``usd``."""

    def choose_by(self, kernel: Callable[..., Chosen], *arguments: Any) -> Chosen:
        with self._lock:
            allowance, available = self._allowed(counts=True)
            price = self._price
            chosen = kernel(*arguments, price / allowance, available, self._reserved, -1.0)
            usd = chosen[2]
            self._requests += 1
            if usd > available:
                self._overdrafts += 1
            self._spent += usd
            self._paid(usd, available)
            self._recent = recent = self._recent + _SMOOTHING * (usd / allowance - self._recent)
            price *= math.exp(_RATE * (recent - 1.0 if recent < 3.0 else 2.0))
            if not _LEAST_PRICE <= price <= _MOST_PRICE:
                price = min(max(price, _LEAST_PRICE), _MOST_PRICE)
            self._price = price
            return chosen

    def preview(self, quality: Float64Array, dollars: Float64Array, *, safely: bool = False) -> int:
        with self._lock:
            return _choose(quality, dollars, safely, *self.terms())[0]

    def terms(self) -> Terms:
        allowance, available = self._allowed(counts=False)
        return self._price / allowance, available, self._reserved, -1.0

    def correct(self, expected_usd: float, actual_usd: float) -> None:
        with self._lock:
            self._spent += actual_usd - expected_usd

    @property
    def state(self) -> SpendState:
        """The account as it is now."""
        with self._lock:
            allowance, available = self._allowed(counts=False)
            price = self._price / allowance
            balance = self._balance_of(allowance, available)
            return SpendState(self._requests, self._spent, balance, price, self._overdrafts)

    def _balance_of(self, allowance: float, available: float) -> float:
        del allowance
        return available


class SpendAtMost(_Account):
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
        super().__init__()
        self.usd_per_1000_requests = _ceiling("usd_per_1000_requests", usd_per_1000_requests)
        self._allowance = self.usd_per_1000_requests / 1000.0
        self._balance = 0.0

    def _allowed(self, *, counts: bool) -> tuple[float, float]:
        del counts
        return self._allowance, self._balance + self._allowance

    def _paid(self, usd: float, available: float) -> None:
        self._balance = min(available - usd, _CARRY * self._allowance)

    def _balance_of(self, allowance: float, available: float) -> float:
        return available - allowance

    def correct(self, expected_usd: float, actual_usd: float) -> None:
        super().correct(expected_usd, actual_usd)
        with self._lock:
            self._balance -= actual_usd - expected_usd


class DayAccount(NamedTuple):
    """What one process tells others that hold a day's ceiling together with it.

    Attributes:
        since_s: when the account of the day began, in seconds since 1970.
        spent_usd: what was spent since.
        requests: how many came lately: those of an hour ago count 1 / e.
    """

    since_s: float
    spent_usd: float
    requests: float


class SpendPerDay(_Account):
    """The best quality for at most ``usd_per_day``, from midnight to midnight UTC.

    The ceiling is granted evenly over the day, at its beginning an hour's part of it ahead, and
    what is not spent is kept until midnight. Within that it chooses as ``SpendAtMost`` does; a
    request's allowance is what is left of the day's dollars for each request that is still to come,
    as many an hour as lately, and a dearer answer leaves enough for ten of the cheapest. So a day's
    sum is never above the ceiling as long as the cheapest candidate is affordable. An account that
    begins within a day is granted the rest of the day only.

    Args:
        usd_per_day: the ceiling, above 0.
        clock: seconds since 1970.
    """

    def __init__(self, usd_per_day: float, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self.usd_per_day = _ceiling("usd_per_day", usd_per_day)
        self._clock = clock
        self._began_s = self._seen_s = self._since_s = clock()
        self._reserved = 10.0
        self._traffic = 0.0  # requests, of which those of an hour ago count 1 / e
        self._others = DayAccount(math.inf, 0.0, 0.0)
        self._heard_s, self._others_usd_per_s = -math.inf, 0.0

    @property
    def account(self) -> DayAccount:
        """The account here, without what others spent."""
        with self._lock:
            self._allowed(counts=False)  # it may be another day
            traffic = self._traffic * math.exp((self._seen_s - self._clock()) / _AHEAD_S)
            return DayAccount(self._since_s, self._spent, traffic)

    def hear(self, others: DayAccount) -> None:
        """Take note of what other processes did until now. Until it hears again, it counts on them
        to go on so: all together stay below the ceiling, but for how much they change meanwhile."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._heard_s < _AHEAD_S:
                spent = max(0.0, others.spent_usd - self._others.spent_usd)
                rate = spent / max(now_s - self._heard_s, 1e-3)
                self._others_usd_per_s += 0.1 * (rate - self._others_usd_per_s)
            self._heard_s, self._others = now_s, others
            if others.since_s // DAY_S == self._since_s // DAY_S:
                self._since_s = min(self._since_s, others.since_s)

    def for_each_of(self, workers: int) -> ChoicePolicy:
        return SpendPerDay(self.usd_per_day / workers, clock=self._clock)

    def _allowed(self, *, counts: bool) -> tuple[float, float]:
        now_s = max(self._clock(), self._seen_s)
        midnight_s = now_s // DAY_S * DAY_S
        if midnight_s > self._since_s:
            self._since_s, self._spent = midnight_s, 0.0
            self._others = self._others._replace(spent_usd=0.0)
        left_s = midnight_s + DAY_S - now_s
        of_the_day = self.usd_per_day * min(1.0, (left_s + now_s - self._since_s) / DAY_S)
        passed = (now_s - self._since_s) / (left_s + now_s - self._since_s)
        ahead = min(_AHEAD_S * self.usd_per_day / DAY_S, of_the_day)
        granted = ahead + (of_the_day - ahead) * passed
        traffic = self._traffic * math.exp((self._seen_s - now_s) / _AHEAD_S) + 1.0
        if counts:
            self._traffic, self._seen_s = traffic, now_s
        # In this measure an old account has seen an hour; a minute is the least that says anything.
        measured_s = _AHEAD_S * -math.expm1(-max(now_s - self._began_s, 60.0) / _AHEAD_S)
        expected = max((traffic + self._others.requests) * left_s / measured_s, 1.0)
        least = 1e-3 * self.usd_per_day / expected
        spent = self._spent + self._others.spent_usd
        if self._heard_s > self._since_s:
            spent += self._others_usd_per_s * max(0.0, now_s - self._heard_s)
        return max((of_the_day - spent) / expected, least), granted - spent


def _ceiling(name: str, value: float) -> float:
    number = check_number(name, value)
    if not 0.0 < number < math.inf:
        raise InvalidInputError(f"{name} must be above 0, got {value}")
    return number


def _choose(quality: Float64Array, dollars: Float64Array, safely: bool, *terms: float) -> Chosen:
    """The choice from arrays, as ``choose_by`` wants it."""
    try:
        chosen = _native.choose(quality, dollars, safely, *terms)
    except (TypeError, ValueError):
        check_array("quality", quality, np.float64, 1)
        check_array("dollars", dollars, np.float64, 1)
        raise InvalidInputError(
            f"quality has length {len(quality)} where dollars has {len(dollars)}"
        ) from None
    return chosen, quality.item(chosen), dollars.item(chosen), safely


#: Policies by name, and the attribute that is their number.
_POLICIES: dict[str, tuple[Callable[..., ChoicePolicy], str]] = {
    "max_quality": (MaxQuality, ""),
    "quality_at_least": (QualityAtLeast, "share"),
    "spend_at_most": (SpendAtMost, "usd_per_1000_requests"),
    "spend_per_day": (SpendPerDay, "usd_per_day"),
    "best_value": (BestValue, "quality_per_usd"),
}


def parse_policy(text: str) -> ChoicePolicy:
    """The policy that ``NAME`` or ``NAME=NUMBER`` names.

    ``max_quality``; ``quality_at_least=0.95`` of the best model's quality; ``spend_at_most=1.2``
    dollars per 1,000 requests; ``spend_per_day=50`` dollars from midnight to midnight UTC;
    ``best_value=2``, quality per dollar.

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
