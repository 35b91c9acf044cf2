"""Cascades in a report: APGR against mean latency, for bands from no prompt to all.

The curve runs through the cascade's own band. For the share p of prompts sent on, the band lies
between the quantiles c (1 - p) and c (1 - p) + p of the fast router's win rates, where c is such
that the cascade's own band is one of them.

Both members score every prompt once, so that further bands need no calls; latencies are those of
single calls (``fastroute.evaluation.metrics.latency``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.cache import WinRateCache
from fastroute.evaluation.metrics.areas import Areas
from fastroute.evaluation.metrics.latency import MemberLatency
from fastroute.evaluation.results import CascadePoint, CascadeResult, Timings
from fastroute.evaluation.scoring import Scorer
from fastroute.evaluation.thresholds.bands import ranks, sent_on
from fastroute.routers.cascade.band import Band, band_between
from fastroute.routers.cascade.router import CascadeRouter
from fastroute.types import BoolArray, Float64Array

#: Points of a curve: shares of prompts sent on, from none to all.
SHARES = tuple(i / 10 for i in range(11))


class CascadeScorer(Scorer):
    """Scores every prompt with both members of a cascade, and combines the win rates.

    With a latency budget, the cascade itself is called too: what it keeps back depends on measured
    time.
    """

    def __init__(self, label: str, router: CascadeRouter, cache: WinRateCache | None) -> None:
        super().__init__(label, router, cache)
        self.cascade = router
        self._members = tuple(
            Scorer(f"{label}: {which}", member, cache)
            for which, member in (("fast", router.fast), ("slow", router.slow))
        )

    def members(
        self, prompts: Sequence[str], title: str, progress: bool
    ) -> tuple[Float64Array, Float64Array, Timings]:
        """Win rates of the fast and the slow member, float64[n] each."""
        (fast, a), (slow, b) = (
            member.win_rates(prompts, title, progress) for member in self._members
        )
        spent = replace(a, embed_s=a.embed_s + b.embed_s, score_s=a.score_s + b.score_s)
        return fast, slow, spent

    def win_rates(
        self, prompts: Sequence[str], title: str, progress: bool
    ) -> tuple[Float64Array, Timings]:
        if self.cascade.latency_budget_ms is not None:
            return super().win_rates(prompts, title, progress)
        fast, slow, spent = self.members(prompts, title, progress)
        return self.cascade.combine(fast, slow), spent


def growing_bands(fast: Float64Array, band: Band | None) -> list[Band | None]:
    """The bands of SHARES, one of which is ``band``; None where ties leave no band."""
    first = last = 0.5
    if band is not None:
        first, last = float((fast < band.low).mean()), float((fast <= band.high).mean())
    rest = 1.0 - (last - first)
    centre = first / rest if rest > 0.0 else 0.5
    found: list[Band | None] = []
    for share in SHARES:
        low = centre * (1.0 - share)
        ends = np.quantile(fast, [low, min(1.0, low + share)])
        found.append(None if not ends[0] < ends[1] else band_between(fast, low, low + share))
    found[-1] = Band(0.0, 1.0)
    return found


def measure_cascade(
    label: str,
    router: CascadeRouter,
    fast: Float64Array,
    slow: Float64Array,
    own: Float64Array,
    benchmark: Benchmark,
    costs: tuple[Float64Array, Float64Array] | tuple[None, None],
    latency: MemberLatency,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> CascadeResult:
    """The curve of a cascade on a benchmark of n prompts.

    Args:
        fast, slow, own: float64[n], win rates of the members and of the cascade itself.
        costs: dollars of the weak and the strong model, float64[n] each, or two None.
        latency: of the members, timed among the prompts.
        resamples, confidence, seed: of the intervals; 0 resamples for none.
    """
    bands = growing_bands(fast, router.band)
    rates = {str(i): ranks(band, fast, slow) for i, band in enumerate(bands)}
    rates |= {"own": own, "fast": fast, "slow": slow}
    areas = Areas(rates, benchmark, costs, resamples=resamples, confidence=confidence, seed=seed)

    def point(name: str, asked: BoolArray) -> CascadePoint:
        return CascadePoint(float(asked.mean()), areas.of(name), latency.cascade_mean_ms(asked))

    # A prompt in the band that kept the fast win rate was kept by the budget.
    asked = sent_on(router.band, fast)
    kept = asked & (own == fast) & (own != router.combine(fast, slow))
    better = areas.better("slow", "fast")
    return CascadeResult(
        name=label,
        fast=router.fast.name,
        slow=router.slow.name,
        band=None if router.band is None else (router.band.low, router.band.high),
        own=point("own", asked & ~kept),
        points=tuple(point(str(i), sent_on(band, fast)) for i, band in enumerate(bands)),
        fast_apgr=areas.of("fast"),
        slow_apgr=areas.of("slow"),
        better="slow" if better == "slow" else "fast",
        difference=areas.difference("own", better),
        fast_ms=latency.fast_mean_ms,
        slow_ms=latency.slow_mean_ms,
        timed_prompts=0 if latency.rows is None else len(latency.rows),
        latency_budget_ms=router.latency_budget_ms,
        share_kept_for_budget=float(kept.mean()),
    )
