"""Evaluation: benchmarks, cost-quality metrics, intervals, protocols and reports.

``evaluate`` is the way in; ``load_mmlu`` and its kin, or ``load_traffic``, give it benchmarks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.evaluation.band_calibration import BandCalibration, calibrate_band
    from fastroute.evaluation.bands import BandResult
    from fastroute.evaluation.benchmarks import (
        ROUTELLM_PAIR,
        Benchmark,
        load_gsm8k,
        load_mmlu,
        load_mt_bench,
    )
    from fastroute.evaluation.bootstrap import Estimate, paired_p_value, resample_curves
    from fastroute.evaluation.cache import WinRateCache
    from fastroute.evaluation.calibration import calibrate_quality, calibrate_share
    from fastroute.evaluation.calibration_metrics import (
        ReliabilityBin,
        brier_score,
        expected_calibration_error,
        reliability_bins,
    )
    from fastroute.evaluation.metrics import (
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
    from fastroute.evaluation.page import write_html
    from fastroute.evaluation.plots import save_figure
    from fastroute.evaluation.protocols import ContaminationError
    from fastroute.evaluation.published import Point, mt_bench_points
    from fastroute.evaluation.report import to_dict
    from fastroute.evaluation.results import (
        BenchmarkResult,
        Comparison,
        Report,
        RouterResult,
        Timings,
    )
    from fastroute.evaluation.run import evaluate
    from fastroute.evaluation.scoring import score
    from fastroute.evaluation.tables import to_markdown, to_text
    from fastroute.evaluation.thresholds import (
        QualityThreshold,
        ShareThreshold,
        threshold_for_quality,
        threshold_for_share,
    )
    from fastroute.evaluation.traffic import Traffic, load_prompts, load_traffic
    from fastroute.evaluation.transfer import load_pairs

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
        "ROUTELLM_PAIR": "fastroute.evaluation.benchmarks",
        "BandCalibration": "fastroute.evaluation.band_calibration",
        "BandResult": "fastroute.evaluation.bands",
        "Benchmark": "fastroute.evaluation.benchmarks",
        "BenchmarkResult": "fastroute.evaluation.results",
        "Comparison": "fastroute.evaluation.results",
        "ContaminationError": "fastroute.evaluation.protocols",
        "Curve": "fastroute.evaluation.metrics",
        "Estimate": "fastroute.evaluation.bootstrap",
        "Point": "fastroute.evaluation.published",
        "QualityThreshold": "fastroute.evaluation.thresholds",
        "ReliabilityBin": "fastroute.evaluation.calibration_metrics",
        "Report": "fastroute.evaluation.results",
        "RouterResult": "fastroute.evaluation.results",
        "ShareThreshold": "fastroute.evaluation.thresholds",
        "Timings": "fastroute.evaluation.results",
        "Traffic": "fastroute.evaluation.traffic",
        "WinRateCache": "fastroute.evaluation.cache",
        "apgr": "fastroute.evaluation.metrics",
        "auc": "fastroute.evaluation.metrics",
        "brier_score": "fastroute.evaluation.calibration_metrics",
        "calibrate_band": "fastroute.evaluation.band_calibration",
        "calibrate_quality": "fastroute.evaluation.calibration",
        "calibrate_share": "fastroute.evaluation.calibration",
        "cost_saved": "fastroute.evaluation.metrics",
        "cpt": "fastroute.evaluation.metrics",
        "curve": "fastroute.evaluation.metrics",
        "dollars_saved": "fastroute.evaluation.metrics",
        "evaluate": "fastroute.evaluation.run",
        "expected_calibration_error": "fastroute.evaluation.calibration_metrics",
        "load_gsm8k": "fastroute.evaluation.benchmarks",
        "load_mmlu": "fastroute.evaluation.benchmarks",
        "load_mt_bench": "fastroute.evaluation.benchmarks",
        "load_pairs": "fastroute.evaluation.transfer",
        "load_prompts": "fastroute.evaluation.traffic",
        "load_traffic": "fastroute.evaluation.traffic",
        "mt_bench_points": "fastroute.evaluation.published",
        "oracle_win_rates": "fastroute.evaluation.metrics",
        "paired_p_value": "fastroute.evaluation.bootstrap",
        "random_curve": "fastroute.evaluation.metrics",
        "reliability_bins": "fastroute.evaluation.calibration_metrics",
        "resample_curves": "fastroute.evaluation.bootstrap",
        "save_figure": "fastroute.evaluation.plots",
        "score": "fastroute.evaluation.scoring",
        "threshold_for_quality": "fastroute.evaluation.thresholds",
        "threshold_for_share": "fastroute.evaluation.thresholds",
        "to_dict": "fastroute.evaluation.report",
        "to_markdown": "fastroute.evaluation.tables",
        "to_text": "fastroute.evaluation.tables",
        "write_html": "fastroute.evaluation.page",
    },
)
