"""Results of an evaluation: a report with a result per benchmark and a row per router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.protocols import Protocol
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.evaluation.metrics.calibration_metrics import ReliabilityBin
from fastroute.evaluation.metrics.curve import Curve, Method
from fastroute.evaluation.thresholds.measured import MeasuredThreshold
from fastroute.types import Float64Array

Kind = Literal["router", "baseline", "bound"]
Axis = Literal["calls", "cost"]
#: Shares at which the band of a curve is given.
GRID = np.linspace(0.0, 1.0, 101)


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds spent on one router and one benchmark, without resampling.

    Attributes:
        prompts: prompts that were scored here.
        cached: prompts whose win rates were in the cache or repeated.
        check_s: the check whether the router was trained on the prompts.
        embed_s: text to vectors; 0 for a router without an embedder.
        score_s: computing win rates, without the embedding.
        metrics_s: curve, metrics and calibration.
    """

    prompts: int = 0
    cached: int = 0
    check_s: float = 0.0
    embed_s: float = 0.0
    score_s: float = 0.0
    metrics_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The sum of all steps."""
        return self.check_s + self.embed_s + self.score_s + self.metrics_s


@dataclass(frozen=True, slots=True)
class RouterResult:
    """One row of the table: a router on a benchmark.

    Attributes:
        name: label of the router.
        kind: "router", "baseline" (random, length) or "bound" (oracle).
        apgr: average performance gap recovered.
        cpt: least share of strong calls (or extra dollars) by PGR level.
        saved: ``metrics.cost_saved`` by PGR level.
        bill_saved: ``metrics.dollars_saved`` by PGR level; empty without costs.
        auc: area under the curve, in the benchmark's unit.
        p_random, p_length: paired p-value of "APGR is that of random (length)"; None without
            resamples, or against itself.
        brier, calibration_error, reliability: of the win rates as probabilities; None or empty for
            baselines, whose scores only rank prompts. Reliability is in groups of equal size.
        curve: the cost-quality curve, in the benchmark's scores.
        band: float64[101, 2], low and high quality at GRID, or None: the interval of the gap
            recovered, scaled to the gap between the two models on all prompts.
        timings: seconds per step.
        thresholds: what it does at some thresholds, by rising share of strong calls; empty
            for baselines other than length.
    """

    name: str
    kind: Kind
    apgr: Estimate
    cpt: dict[float, Estimate]
    saved: dict[float, Estimate]
    bill_saved: dict[float, Estimate]
    auc: Estimate
    p_random: float | None
    p_length: float | None
    brier: float | None
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...]
    curve: Curve
    band: Float64Array | None
    timings: Timings
    thresholds: tuple[MeasuredThreshold, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two routers on one benchmark: the paired difference of APGR, ``first`` minus ``second``."""

    first: str
    second: str
    difference: Estimate
    p_value: float | None  # None where no resample is defined


@dataclass(frozen=True, slots=True)
class CascadePoint:
    """One band of a cascade.

    Attributes:
        share_sent_on: share of the prompts that is sent on to the slow router.
        apgr: of the cascade.
        mean_ms: mean milliseconds per prompt.
    """

    share_sent_on: float
    apgr: Estimate
    mean_ms: float


#: A cascade counts as equally good at half the latency if its APGR is at most this far below that
#: of its better member, and its mean latency is below this share of the slow member's.
CASCADE_TOLERANCE, CASCADE_LATENCY = 0.005, 0.5


@dataclass(frozen=True, slots=True)
class CascadeResult:
    """Quality against latency of one cascade on a benchmark.

    Attributes:
        name: its label.
        fast, slow: names of its members.
        band: its own band, win rates of the fast member, or None.
        own: figures of its own band.
        points: figures of bands that grow from none to all prompts.
        fast_apgr, slow_apgr: of its members.
        better: which of them has the greater APGR.
        difference: APGR of ``own`` less that of the better member, paired.
        fast_ms, slow_ms: mean milliseconds of a single call of each.
        timed_prompts: number of prompts that they were measured on; 0 where they were given.
        latency_budget_ms: its budget, or None.
        share_kept_for_budget: share of the prompts that the budget kept from the slow member.
    """

    name: str
    fast: str
    slow: str
    band: tuple[float, float] | None
    own: CascadePoint
    points: tuple[CascadePoint, ...]
    fast_apgr: Estimate
    slow_apgr: Estimate
    better: Literal["fast", "slow"]
    difference: Estimate
    fast_ms: float
    slow_ms: float
    timed_prompts: int
    latency_budget_ms: float | None
    share_kept_for_budget: float

    @property
    def latency_ratio(self) -> float:
        """Mean latency of its own band against the slow member's."""
        return self.own.mean_ms / self.slow_ms

    @property
    def holds(self) -> bool:
        """Whether it is as good as its better member at less than half the slow one's latency."""
        close = self.difference.value >= -CASCADE_TOLERANCE
        return close and self.latency_ratio < CASCADE_LATENCY


@dataclass(frozen=True, slots=True)
class BenchmarkResult:
    """All routers on one benchmark.

    Attributes:
        benchmark: the scored prompts.
        rows: routers by falling APGR, then length, random and the oracle.
        comparisons: every pair of routers, without baselines.
        dropped: prompts left out because a router was trained on them.
        resample_s: seconds spent on intervals.
        cascades: quality against latency of those routers that are cascades.
    """

    benchmark: Benchmark
    rows: tuple[RouterResult, ...]
    comparisons: tuple[Comparison, ...]
    dropped: int
    resample_s: float
    cascades: tuple[CascadeResult, ...] = ()

    def row(self, name: str) -> RouterResult:
        """The row of a router."""
        for row in self.rows:
            if row.name == name:
                return row
        raise InvalidInputError(
            f"no row {name!r} on {self.benchmark.name!r}; there are "
            f"{', '.join(row.name for row in self.rows)}"
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All results of an evaluation, and its settings.

    Attributes:
        results: one per benchmark, in the given order.
        protocol, method, axis, resamples, confidence, seed: as given to ``evaluate``.
        version: of fastroute.
        notes: what a reader must know to interpret the figures.
    """

    results: tuple[BenchmarkResult, ...]
    protocol: Protocol
    method: Method
    axis: Axis
    resamples: int
    confidence: float
    seed: int
    version: str
    notes: tuple[str, ...] = ()

    def result(self, benchmark: str) -> BenchmarkResult:
        """The result of a benchmark by name."""
        for result in self.results:
            if result.benchmark.name == benchmark:
                return result
        names = ", ".join(result.benchmark.name for result in self.results)
        raise InvalidInputError(f"no benchmark {benchmark!r} in this report; it has {names}")
