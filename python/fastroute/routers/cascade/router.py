"""The ``cascade`` router: a fast router where it is sure, a slow one for the uncertain middle."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from fastroute._forking import ForkSafeLock
from fastroute._validate import list_prompts
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.provenance import Provenance
from fastroute.routers.base import Router
from fastroute.routers.cascade.band import Band, as_band, check_rates, middle_band
from fastroute.routers.cascade.latency_estimate import LatencyEstimate
from fastroute.types import BoolArray, Float64Array

#: After so many consecutive prompts kept back by the budget, one is sent on to renew the estimate:
#: an estimate from a moment of high load would otherwise persist.
PROBE_EVERY = 64

Member = Literal["fast", "slow"]


class CascadeExplanation(NamedTuple):
    """Which member of a cascade gave a prompt its win rate, and why.

    Attributes:
        win_rate: of the cascade.
        decided_by: "fast" or "slow".
        reason: in words.
        fast_win_rate: of the fast router.
        slow_win_rate: of the slow router, or None where it was not called.
        predicted_ms: what the slow router was expected to take, or None without a budget, outside
            the band, or before its first call.
    """

    win_rate: float
    decided_by: Member
    reason: str
    fast_win_rate: float
    slow_win_rate: float | None
    predicted_ms: float | None


@dataclass(frozen=True, slots=True)
class CascadeStatistics:
    """Counts since a cascade was made, or since ``reset_statistics``.

    Attributes:
        prompts: all that were scored.
        sent_on: those that the slow router scored.
        kept_for_budget: those in the band for which its estimated latency exceeded the budget.
        slow_s: seconds spent in the slow router.
    """

    prompts: int = 0
    sent_on: int = 0
    kept_for_budget: int = 0
    slow_s: float = 0.0

    @property
    def share_sent_on(self) -> float:
        """Share of the prompts that the slow router scored; NaN for no prompts."""
        return self.sent_on / self.prompts if self.prompts else math.nan

    @property
    def share_kept_for_budget(self) -> float:
        """Share of the prompts that the budget kept with the fast router; NaN for no prompts."""
        return self.kept_for_budget / self.prompts if self.prompts else math.nan


class CascadeRouter(Router):
    """Calls ``fast`` for every prompt, and ``slow`` where the fast win rate is in the band.

    Both win rates are on the scale of the fast router; ``cascade.band`` has the formula. A batch
    makes one call to each, with only the prompts in the band for the slow one.

    Args:
        fast: a fast router, called for every prompt.
        slow: a better, slower router.
        band: win rates (low, high) of the fast router, both included, between which a prompt is
            sent on; a ``Band`` that ``fastroute calibrate`` fitted; None for none.
        share: instead of a band, the share of prompts to send on, the middle ones by win rate, of
            prompts like those that the fast router was calibrated on.
        latency_budget_ms: the most milliseconds that the slow router may take for a prompt, by a
            running estimate from its own calls and the prompt's length in characters. A prompt in
            the band above it keeps the fast win rate, and is counted (``statistics``). Win rates
            then depend on measured time; without a budget they depend on the prompt alone. Before
            the first call there is no estimate, and every 64th consecutive prompt that is kept
            back is sent on to renew it.
        provenance: what is recorded of the cascade; ``trained_on`` comes from its members.

    Raises InvalidTypeError and InvalidInputError for arguments that can't be used.
    """

    name = "cascade"

    def __init__(
        self,
        fast: Router,
        slow: Router,
        *,
        band: Band | Sequence[float] | None = None,
        share: float | None = None,
        latency_budget_ms: float | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        for member, router in (("fast", fast), ("slow", slow)):
            if not isinstance(router, Router):
                raise InvalidTypeError(
                    f"{member} must be a Router, got {router!r}; make one with create_router"
                )
        if share is not None:
            if band is not None:
                raise InvalidInputError("give band or share, not both")
            if fast.provenance.calibration is None:
                raise InvalidInputError(
                    f"share needs the quantiles of the fast router, and {fast.name!r} was never "
                    "calibrated; give band=(low, high), or run fastroute calibrate"
                )
            band = middle_band(fast.provenance.calibration, share)
        self.fast, self.slow = fast, slow
        self.band = as_band(band)
        self.latency_budget_ms = _check_budget(latency_budget_ms)
        hashes = [r.provenance.trained_on for r in (fast, slow)]
        known = [h for h in hashes if h is not None]
        self._provenance = replace(
            provenance or Provenance(),
            trained_on=np.unique(np.concatenate(known)) if known else None,
        )
        self._lock = ForkSafeLock()
        self._estimate = LatencyEstimate()
        self._kept_in_a_row = 0
        self._statistics = CascadeStatistics()

    @property
    def is_quick(self) -> bool:
        return self.fast.is_quick and (self.band is None or self.slow.is_quick)

    @property
    def statistics(self) -> CascadeStatistics:
        """Counts so far."""
        with self._lock:
            return self._statistics

    def reset_statistics(self) -> None:
        """Count from 0 again; the estimate of the slow router's latency stays."""
        with self._lock:
            self._statistics = CascadeStatistics()

    def win_rate(self, prompt: str) -> float:
        return self.explain(prompt).win_rate

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        texts = list_prompts(prompts)  # the fast router checks each
        rates = np.array(self.fast.win_rates(texts), dtype=np.float64)
        if rates.shape != (len(texts),):
            raise InvalidInputError(
                f"fast router {self.fast.name!r} returned {rates.shape} win rates for {len(texts)} "
                "prompts; fix the router"
            )
        check_rates(f"fast router {self.fast.name!r}: win_rates", rates)
        if self.band is None:
            self._count(prompts=len(texts))
            return rates
        middle = np.flatnonzero(self.band.contains(rates))
        sent = middle[self._within_budget([texts[i] for i in middle])]
        if len(sent):
            rates[sent] = self.band.place(self._ask_slow([texts[i] for i in sent]))
        self._count(prompts=len(texts), sent_on=len(sent), kept=len(middle) - len(sent))
        return rates

    def explain(self, prompt: str) -> CascadeExplanation:
        """Score ``prompt``, and say which member decided. Raises as ``win_rate``."""
        fast = self.fast.win_rate(prompt)  # checks the prompt
        if not 0.0 <= fast <= 1.0:
            check_rates(f"fast router {self.fast.name!r}: win_rates", np.array([fast]))
        band = self.band
        if band is None or not band.low <= fast <= band.high:
            self._count(prompts=1)
            where = (
                "there is no band"
                if band is None
                else f"{fast:.4f} is {'below' if fast < band.low else 'above'} the band, "
                f"{band.low:.4f} to {band.high:.4f}"
            )
            return CascadeExplanation(fast, "fast", where, fast, None, None)
        predicted_ms = self._predicted_ms(prompt)
        where = f"{fast:.4f} is in the band, {band.low:.4f} to {band.high:.4f}"
        if not self._within_budget([prompt])[0]:
            self._count(prompts=1, kept=1)
            why = (
                f"{where}, but {self.slow.name} is expected to take {predicted_ms:.1f} ms where "
                f"{self.latency_budget_ms:g} are allowed"
            )
            return CascadeExplanation(fast, "fast", why, fast, None, predicted_ms)
        slow = self._ask_slow([prompt])
        self._count(prompts=1, sent_on=1)
        rate = float(band.place(slow)[0])
        return CascadeExplanation(rate, "slow", where, fast, float(slow[0]), predicted_ms)

    def combine(self, fast_win_rates: Float64Array, slow_win_rates: Float64Array) -> Float64Array:
        """The cascade's win rates, float64[n], of those of its members on the same n prompts.

        Equal to ``win_rates`` without a budget, but without calling the members.
        """
        rates = np.array(fast_win_rates, dtype=np.float64)
        if self.band is not None:
            middle = self.band.contains(rates)
            rates[middle] = self.band.place(slow_win_rates[middle])
        return rates

    def _ask_slow(self, texts: list[str]) -> Float64Array:
        begin = time.perf_counter()
        # A single call may be faster than a batch of one.
        rates = (
            np.array([self.slow.win_rate(texts[0])], dtype=np.float64)
            if len(texts) == 1
            else np.asarray(self.slow.win_rates(texts), dtype=np.float64)
        )
        took = time.perf_counter() - begin
        if rates.shape != (len(texts),):
            raise InvalidInputError(
                f"slow router {self.slow.name!r} returned {rates.shape} win rates for {len(texts)} "
                "prompts; fix the router"
            )
        check_rates(f"slow router {self.slow.name!r}: win_rates", rates)
        with self._lock:
            self._estimate.add(len(texts), sum(map(len, texts)), took)
        self._count(slow_s=took)
        return rates

    def _predicted_ms(self, text: str) -> float | None:
        if self.latency_budget_ms is None:
            return None
        with self._lock:
            return 1e3 * self._estimate.predict_s(len(text)) if self._estimate.calls else None

    def _within_budget(self, texts: list[str]) -> BoolArray:
        """Which prompts of the band are sent on, bool[n]."""
        within = np.ones(len(texts), dtype=np.bool_)
        if self.latency_budget_ms is None:
            return within
        most_s = self.latency_budget_ms / 1e3
        with self._lock:
            for i, text in enumerate(texts):
                if self._estimate.predict_s(len(text)) <= most_s:
                    self._kept_in_a_row = 0
                    continue
                self._kept_in_a_row += 1
                if self._kept_in_a_row < PROBE_EVERY:
                    within[i] = False
                else:
                    self._kept_in_a_row = 0
        return within

    def _count(
        self, *, prompts: int = 0, sent_on: int = 0, kept: int = 0, slow_s: float = 0.0
    ) -> None:
        with self._lock:
            s = self._statistics
            self._statistics = CascadeStatistics(
                s.prompts + prompts,
                s.sent_on + sent_on,
                s.kept_for_budget + kept,
                s.slow_s + slow_s,
            )


def _check_budget(value: float | None) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidTypeError(f"latency_budget_ms must be a number or None, got {value!r}")
    if not 0.0 < value < math.inf:
        raise InvalidInputError(
            f"latency_budget_ms must be above 0 and finite, got {value!r}; for no budget pass None"
        )
    return float(value)
