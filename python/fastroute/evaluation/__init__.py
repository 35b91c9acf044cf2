"""Evaluation: benchmarks, cost-quality metrics, intervals, protocols and reports.

Start with ``evaluate``. Its benchmarks come from ``load_mmlu``, ``load_gsm8k``, ``load_mt_bench``
and ``load_traffic``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.errors import ContaminationError
    from fastroute.evaluation.benchmarks.published import Point, mt_bench_points
    from fastroute.evaluation.benchmarks.routellm import (
        ROUTELLM_PAIR,
        Benchmark,
        load_gsm8k,
        load_mmlu,
        load_mt_bench,
    )
    from fastroute.evaluation.benchmarks.traffic import (
        Traffic,
        load_pairs,
        load_prompts,
        load_traffic,
    )
    from fastroute.evaluation.cache import WinRateCache
    from fastroute.evaluation.metrics.bootstrap import Estimate, paired_p_value, resample_curves
    from fastroute.evaluation.metrics.calibration_metrics import (
        ReliabilityBin,
        brier_score,
        expected_calibration_error,
        reliability_bins,
    )
    from fastroute.evaluation.metrics.curve import (
        Curve,
        apgr,
        auc,
        cost_saved,
        cpt,
        curve,
        dollars_saved,
        oracle_win_rates,
        random_curve,
    )
    from fastroute.evaluation.report.page import write_html
    from fastroute.evaluation.report.plots import save_figure
    from fastroute.evaluation.report.report import to_dict
    from fastroute.evaluation.report.tables import to_markdown, to_text
    from fastroute.evaluation.results import (
        BenchmarkResult,
        Comparison,
        Report,
        RouterResult,
        Timings,
    )
    from fastroute.evaluation.run import evaluate
    from fastroute.evaluation.scoring import score
    from fastroute.evaluation.thresholds.band_calibration import BandCalibration, calibrate_band
    from fastroute.evaluation.thresholds.bands import BandResult
    from fastroute.evaluation.thresholds.calibration import calibrate_quality, calibrate_share
    from fastroute.evaluation.thresholds.choice import ShareThreshold, threshold_for_share
    from fastroute.evaluation.thresholds.quality import QualityThreshold, threshold_for_quality

__all__ = [
    "ROUTELLM_PAIR",
    "BandCalibration",
    "BandResult",
    "Benchmark",
    "BenchmarkResult",
    "Comparison",
    "ContaminationError",
    "Curve",
    "Estimate",
    "Point",
    "QualityThreshold",
    "ReliabilityBin",
    "Report",
    "RouterResult",
    "ShareThreshold",
    "Timings",
    "Traffic",
    "WinRateCache",
    "apgr",
    "auc",
    "brier_score",
    "calibrate_band",
    "calibrate_quality",
    "calibrate_share",
    "cost_saved",
    "cpt",
    "curve",
    "dollars_saved",
    "evaluate",
    "expected_calibration_error",
    "load_gsm8k",
    "load_mmlu",
    "load_mt_bench",
    "load_pairs",
    "load_prompts",
    "load_traffic",
    "mt_bench_points",
    "oracle_win_rates",
    "paired_p_value",
    "random_curve",
    "reliability_bins",
    "resample_curves",
    "save_figure",
    "score",
    "threshold_for_quality",
    "threshold_for_share",
    "to_dict",
    "to_markdown",
    "to_text",
    "write_html",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "ROUTELLM_PAIR": "fastroute.evaluation.benchmarks.routellm",
        "BandCalibration": "fastroute.evaluation.thresholds.band_calibration",
        "BandResult": "fastroute.evaluation.thresholds.bands",
        "Benchmark": "fastroute.evaluation.benchmarks.routellm",
        "BenchmarkResult": "fastroute.evaluation.results",
        "Comparison": "fastroute.evaluation.results",
        "ContaminationError": "fastroute.errors",
        "Curve": "fastroute.evaluation.metrics.curve",
        "Estimate": "fastroute.evaluation.metrics.bootstrap",
        "Point": "fastroute.evaluation.benchmarks.published",
        "QualityThreshold": "fastroute.evaluation.thresholds.quality",
        "ReliabilityBin": "fastroute.evaluation.metrics.calibration_metrics",
        "Report": "fastroute.evaluation.results",
        "RouterResult": "fastroute.evaluation.results",
        "ShareThreshold": "fastroute.evaluation.thresholds.choice",
        "Timings": "fastroute.evaluation.results",
        "Traffic": "fastroute.evaluation.benchmarks.traffic",
        "WinRateCache": "fastroute.evaluation.cache",
        "apgr": "fastroute.evaluation.metrics.curve",
        "auc": "fastroute.evaluation.metrics.curve",
        "brier_score": "fastroute.evaluation.metrics.calibration_metrics",
        "calibrate_band": "fastroute.evaluation.thresholds.band_calibration",
        "calibrate_quality": "fastroute.evaluation.thresholds.calibration",
        "calibrate_share": "fastroute.evaluation.thresholds.calibration",
        "cost_saved": "fastroute.evaluation.metrics.curve",
        "cpt": "fastroute.evaluation.metrics.curve",
        "curve": "fastroute.evaluation.metrics.curve",
        "dollars_saved": "fastroute.evaluation.metrics.curve",
        "evaluate": "fastroute.evaluation.run",
        "expected_calibration_error": "fastroute.evaluation.metrics.calibration_metrics",
        "load_gsm8k": "fastroute.evaluation.benchmarks.routellm",
        "load_mmlu": "fastroute.evaluation.benchmarks.routellm",
        "load_mt_bench": "fastroute.evaluation.benchmarks.routellm",
        "load_pairs": "fastroute.evaluation.benchmarks.traffic",
        "load_prompts": "fastroute.evaluation.benchmarks.traffic",
        "load_traffic": "fastroute.evaluation.benchmarks.traffic",
        "mt_bench_points": "fastroute.evaluation.benchmarks.published",
        "oracle_win_rates": "fastroute.evaluation.metrics.curve",
        "paired_p_value": "fastroute.evaluation.metrics.bootstrap",
        "random_curve": "fastroute.evaluation.metrics.curve",
        "reliability_bins": "fastroute.evaluation.metrics.calibration_metrics",
        "resample_curves": "fastroute.evaluation.metrics.bootstrap",
        "save_figure": "fastroute.evaluation.report.plots",
        "score": "fastroute.evaluation.scoring",
        "threshold_for_quality": "fastroute.evaluation.thresholds.quality",
        "threshold_for_share": "fastroute.evaluation.thresholds.choice",
        "to_dict": "fastroute.evaluation.report.report",
        "to_markdown": "fastroute.evaluation.report.tables",
        "to_text": "fastroute.evaluation.report.tables",
        "write_html": "fastroute.evaluation.report.page",
    },
)
