"""A report as plain JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastroute.evaluation.benchmarks.published import ROUTELLM_APGR, Point
from fastroute.evaluation.metrics.bootstrap import cautions
from fastroute.evaluation.plain import plain
from fastroute.evaluation.report.conclusion import conclusion
from fastroute.evaluation.results import GRID, BenchmarkResult, Report, RouterResult


def to_dict(report: Report, *, points: Sequence[Point] = ()) -> dict[str, Any]:
    """The report as plain JSON values; NaN and infinity become null."""
    settings = plain(report)
    del settings["results"]
    return {
        "fastroute": settings.pop("version"),
        **settings,
        "benchmarks": [_benchmark(report, result) for result in report.results],
        "published": {
            "routellm_apgr": {
                name: [{"router": r, "trained_on": t, "apgr": a} for r, t, a in rows]
                for name, rows in ROUTELLM_APGR.items()
            },
            "mt_bench_points": plain(points),
        },
    }


def _benchmark(report: Report, result: BenchmarkResult) -> dict[str, Any]:
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
        "routers": [_router(row, b.scale) for row in result.rows],
        "comparisons": plain(result.comparisons),
        "cascades": [
            plain(cascade)
            | {"latency_ratio": cascade.latency_ratio, "as_good_in_half_the_time": cascade.holds}
            for cascade in result.cascades
        ],
        "resample_s": result.resample_s,
        "notes": cautions(len(b), report.resamples),
    }


def _router(row: RouterResult, scale: float) -> dict[str, Any]:
    cost = row.curve.cost
    facts: dict[str, Any] = plain(row)
    del facts["band"]
    facts["curve"] = {
        "share": GRID.tolist(),
        "quality": (row.curve.quality_at(GRID) * scale).tolist(),
        "cost": None if cost is None else (cost[0] + GRID * (cost[-1] - cost[0])).tolist(),
        "low": None if row.band is None else (row.band[:, 0] * scale).tolist(),
        "high": None if row.band is None else (row.band[:, 1] * scale).tolist(),
    }
    return facts
