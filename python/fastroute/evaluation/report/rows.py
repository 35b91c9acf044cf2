"""Rows of a report: all metrics of a router on a benchmark, and comparisons of routers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.bootstrap import (
    Estimate,
    Resampled,
    estimate,
    interval,
    paired_p_value,
)
from fastroute.evaluation.metrics.calibration_metrics import (
    brier_score,
    expected_calibration_error,
    outcomes,
    reliability_groups,
)
from fastroute.evaluation.metrics.curve import (
    CPT_TARGETS,
    Method,
    apgr,
    auc,
    cost_saved,
    cpt,
    curve,
    dollars_saved,
)
from fastroute.evaluation.results import Comparison, Kind, RouterResult, Timings
from fastroute.evaluation.thresholds.measured import measured_thresholds
from fastroute.types import Float64Array


def measure(
    label: str,
    kind: Kind,
    rates: Float64Array,
    benchmark: Benchmark,
    costs: tuple[Float64Array, Float64Array] | tuple[None, None],
    samples: Mapping[str, Resampled],
    *,
    method: Method,
    confidence: float,
    length: str,
    timings: Timings,
) -> RouterResult:
    """One row: every metric of the win rates ``rates``, float64[n], on ``benchmark``.

    Args:
        label, kind: of the row.
        costs: of the weak and the strong model, float64[n] dollars each, or two None.
        samples: resampled metrics by label; empty for no intervals.
        method, confidence: as for ``evaluate``.
        length: label of the length baseline.
        timings: seconds spent on the win rates.
    """
    start = time.perf_counter()
    points = curve(rates, benchmark.weak, benchmark.strong, *costs, method=method)
    drawn = samples.get(label)

    def with_interval(value: float, values: Float64Array | None) -> Estimate:
        return estimate(value, values, confidence)

    cpts, saved, bill = {}, {}, {}
    for i, target in enumerate(CPT_TARGETS):
        of_target = None if drawn is None else drawn.cpt[:, i]
        cpts[target] = with_interval(cpt(points, target, method=method), of_target)
        saved[target] = with_interval(
            cost_saved(points, target, method=method),
            None if of_target is None else 1.0 - of_target / target,
        )
        if points.cost is not None:
            bill[target] = with_interval(
                dollars_saved(points, target, method=method),
                None if drawn is None or drawn.bill is None else drawn.bill[:, i],
            )
    probabilities = kind == "router" and bool(((rates >= 0) & (rates <= 1)).all())
    outcome = outcomes(benchmark.weak, benchmark.strong)
    result = RouterResult(
        name=label,
        kind=kind,
        apgr=with_interval(apgr(points), None if drawn is None else drawn.apgr),
        cpt=cpts,
        saved=saved,
        bill_saved=bill,
        auc=with_interval(
            auc(points) * benchmark.scale, None if drawn is None else drawn.auc * benchmark.scale
        ),
        p_random=_p_value(samples, label, "random"),
        p_length=_p_value(samples, label, length),
        brier=brier_score(rates, outcome) if probabilities else None,
        calibration_error=expected_calibration_error(rates, outcome) if probabilities else None,
        reliability=tuple(reliability_groups(rates, outcome)) if probabilities else (),
        curve=points,
        band=_band(drawn, benchmark, confidence),
        timings=timings,
        thresholds=(
            measured_thresholds(rates, benchmark, by_cost=points.cost is not None)
            if probabilities or label == length
            else ()
        ),
    )
    return replace(result, timings=replace(timings, metrics_s=time.perf_counter() - start))


def _band(drawn: Resampled | None, benchmark: Benchmark, confidence: float) -> Float64Array | None:
    if drawn is None:
        return None
    ends = [interval(column, confidence) for column in drawn.pgr.T]
    if None in ends:
        return None
    weak, strong = float(benchmark.weak.mean()), float(benchmark.strong.mean())
    return weak + (strong - weak) * np.array(ends, dtype=np.float64)


def _p_value(samples: Mapping[str, Resampled], label: str, other: str) -> float | None:
    if label == other or label not in samples or label == "oracle":
        return None
    return _paired(samples[label].apgr, samples[other].apgr)


def _paired(a: Float64Array, b: Float64Array) -> float | None:
    """The p-value, or None where all resamples are undefined."""
    return None if np.isnan(a - b).all() else paired_p_value(a, b)


def comparisons(
    rows: Sequence[RouterResult], samples: Mapping[str, Resampled], confidence: float
) -> tuple[Comparison, ...]:
    """All pairs of routers in ``rows``, without baselines; none without ``samples``."""
    routers = [row for row in rows if row.kind == "router"]
    found = []
    for i, first in enumerate(routers if samples else ()):
        for second in routers[i + 1 :]:
            a, b = samples[first.name].apgr, samples[second.name].apgr
            difference = estimate(first.apgr.value - second.apgr.value, a - b, confidence)
            found.append(Comparison(first.name, second.name, difference, _paired(a, b)))
    return tuple(found)
