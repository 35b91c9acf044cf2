"""A report as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fastroute.evaluation.benchmarks.published import ROUTELLM_APGR, Point
from fastroute.evaluation.metrics.bootstrap import Estimate, cautions
from fastroute.evaluation.report.conclusion import conclusion
from fastroute.evaluation.results import (
    GRID,
    BenchmarkResult,
    CascadePoint,
    CascadeResult,
    Report,
    RouterResult,
)


def to_dict(report: Report, *, points: Sequence[Point] = ()) -> dict[str, Any]:
    """The report as plain JSON values; NaN and infinity become null."""
    return {
        "fastroute": report.version,
        "protocol": report.protocol,
        "method": report.method,
        "axis": report.axis,
        "resamples": report.resamples,
        "confidence": report.confidence,
        "seed": report.seed,
        "notes": list(report.notes),
        "benchmarks": [_benchmark_dict(report, result) for result in report.results],
        "published": {
            "routellm_apgr": {
                name: [{"router": r, "trained_on": t, "apgr": a} for r, t, a in rows]
                for name, rows in ROUTELLM_APGR.items()
            },
            "mt_bench_points": [
                {
                    "label": p.label,
                    "share": p.share,
                    "quality": p.quality,
                    "recomputed": p.recomputed,
                    "note": p.note,
                }
                for p in points
            ],
        },
    }


def _benchmark_dict(report: Report, result: BenchmarkResult) -> dict[str, Any]:
    b = result.benchmark
    return {
        "name": b.name,
        "conclusion": conclusion(report, result),
        "prompts": len(b),
        "dropped": result.dropped,
        "strong_model": b.pair.strong,
        "weak_model": b.pair.weak,
        "strong_quality": b.strong_quality,
        "weak_quality": b.weak_quality,
        "unit": b.unit,
        "routers": [_row_dict(row, b.scale) for row in result.rows],
        "comparisons": [
            {
                "first": c.first,
                "second": c.second,
                "difference": _estimate_dict(c.difference),
                "p_value": c.p_value,
            }
            for c in result.comparisons
        ],
        "cascades": [_cascade_dict(cascade) for cascade in result.cascades],
        "resample_s": result.resample_s,
        "notes": cautions(len(b), report.resamples),
    }


def _row_dict(row: RouterResult, scale: float) -> dict[str, Any]:
    t, cost = row.timings, row.curve.cost
    return {
        "name": row.name,
        "kind": row.kind,
        "apgr": _estimate_dict(row.apgr),
        "cpt": {f"{target:g}": _estimate_dict(e) for target, e in row.cpt.items()},
        "saved": {f"{target:g}": _estimate_dict(e) for target, e in row.saved.items()},
        "bill_saved": {f"{target:g}": _estimate_dict(e) for target, e in row.bill_saved.items()},
        "auc": _estimate_dict(row.auc),
        "p_random": row.p_random,
        "p_length": row.p_length,
        "brier": row.brier,
        "calibration_error": row.calibration_error,
        "reliability": [
            {k: _finite(v) for k, v in part._asdict().items()} for part in row.reliability
        ],
        "thresholds": [asdict(point) for point in row.thresholds],
        "curve": {
            "share": GRID.tolist(),
            "quality": (row.curve.quality_at(GRID) * scale).tolist(),
            "cost": None if cost is None else (cost[0] + GRID * (cost[-1] - cost[0])).tolist(),
            "low": None if row.band is None else (row.band[:, 0] * scale).tolist(),
            "high": None if row.band is None else (row.band[:, 1] * scale).tolist(),
        },
        "timings": {
            "prompts": t.prompts,
            "cached": t.cached,
            "check_s": t.check_s,
            "embed_s": t.embed_s,
            "score_s": t.score_s,
            "metrics_s": t.metrics_s,
        },
    }


def _cascade_dict(c: CascadeResult) -> dict[str, Any]:
    return {
        "name": c.name,
        "fast": c.fast,
        "slow": c.slow,
        "band": None if c.band is None else list(c.band),
        "own": _point_dict(c.own),
        "points": [_point_dict(point) for point in c.points],
        "fast_apgr": _estimate_dict(c.fast_apgr),
        "slow_apgr": _estimate_dict(c.slow_apgr),
        "better": c.better,
        "difference": _estimate_dict(c.difference),
        "latency_ratio": c.latency_ratio,
        "as_good_in_half_the_time": c.holds,
        "fast_ms": c.fast_ms,
        "slow_ms": c.slow_ms,
        "timed_prompts": c.timed_prompts,
        "latency_budget_ms": c.latency_budget_ms,
        "share_kept_for_budget": c.share_kept_for_budget,
    }


def _point_dict(point: CascadePoint) -> dict[str, Any]:
    return {
        "share_sent_on": point.share_sent_on,
        "apgr": _estimate_dict(point.apgr),
        "mean_ms": point.mean_ms,
    }


def _estimate_dict(value: Estimate) -> dict[str, float | None]:
    return {"value": _finite(value.value), "low": _finite(value.low), "high": _finite(value.high)}


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
