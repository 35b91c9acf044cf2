"""Evaluation: benchmarks, cost-quality metrics, intervals, protocols and reports.

Start with ``evaluate``. Its benchmarks come from ``load_mmlu``, ``load_gsm8k``, ``load_mt_bench``
and ``load_traffic``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.errors import ContaminationError as ContaminationError
    from fastroute.evaluation.benchmarks.published import Point as Point
    from fastroute.evaluation.benchmarks.published import mt_bench_points as mt_bench_points
    from fastroute.evaluation.benchmarks.routellm import ROUTELLM_PAIR as ROUTELLM_PAIR
    from fastroute.evaluation.benchmarks.routellm import Benchmark as Benchmark
    from fastroute.evaluation.benchmarks.routellm import load_gsm8k as load_gsm8k
    from fastroute.evaluation.benchmarks.routellm import load_mmlu as load_mmlu
    from fastroute.evaluation.benchmarks.routellm import load_mt_bench as load_mt_bench
    from fastroute.evaluation.benchmarks.traffic import Traffic as Traffic
    from fastroute.evaluation.benchmarks.traffic import load_pairs as load_pairs
    from fastroute.evaluation.benchmarks.traffic import load_prompts as load_prompts
    from fastroute.evaluation.benchmarks.traffic import load_traffic as load_traffic
    from fastroute.evaluation.cache import WinRateCache as WinRateCache
    from fastroute.evaluation.metrics.bootstrap import Estimate as Estimate
    from fastroute.evaluation.metrics.bootstrap import paired_p_value as paired_p_value
    from fastroute.evaluation.metrics.bootstrap import resample_curves as resample_curves
    from fastroute.evaluation.metrics.calibration_metrics import ReliabilityBin as ReliabilityBin
    from fastroute.evaluation.metrics.calibration_metrics import brier_score as brier_score
    from fastroute.evaluation.metrics.calibration_metrics import (
        expected_calibration_error as expected_calibration_error,
    )
    from fastroute.evaluation.metrics.calibration_metrics import (
        reliability_bins as reliability_bins,
    )
    from fastroute.evaluation.metrics.curve import Curve as Curve
    from fastroute.evaluation.metrics.curve import apgr as apgr
    from fastroute.evaluation.metrics.curve import auc as auc
    from fastroute.evaluation.metrics.curve import cost_saved as cost_saved
    from fastroute.evaluation.metrics.curve import cpt as cpt
    from fastroute.evaluation.metrics.curve import curve as curve
    from fastroute.evaluation.metrics.curve import dollars_saved as dollars_saved
    from fastroute.evaluation.metrics.curve import oracle_win_rates as oracle_win_rates
    from fastroute.evaluation.metrics.curve import random_curve as random_curve
    from fastroute.evaluation.report.page import write_html as write_html
    from fastroute.evaluation.report.plots import save_figure as save_figure
    from fastroute.evaluation.report.report import to_dict as to_dict
    from fastroute.evaluation.report.tables import to_markdown as to_markdown
    from fastroute.evaluation.report.tables import to_text as to_text
    from fastroute.evaluation.results import BenchmarkResult as BenchmarkResult
    from fastroute.evaluation.results import Comparison as Comparison
    from fastroute.evaluation.results import Report as Report
    from fastroute.evaluation.results import RouterResult as RouterResult
    from fastroute.evaluation.results import Timings as Timings
    from fastroute.evaluation.run import evaluate as evaluate
    from fastroute.evaluation.scoring import score as score
    from fastroute.evaluation.thresholds.band_calibration import BandCalibration as BandCalibration
    from fastroute.evaluation.thresholds.band_calibration import calibrate_band as calibrate_band
    from fastroute.evaluation.thresholds.bands import BandResult as BandResult
    from fastroute.evaluation.thresholds.calibration import calibrate_quality as calibrate_quality
    from fastroute.evaluation.thresholds.calibration import calibrate_share as calibrate_share
    from fastroute.evaluation.thresholds.choice import ShareThreshold as ShareThreshold
    from fastroute.evaluation.thresholds.choice import threshold_for_share as threshold_for_share
    from fastroute.evaluation.thresholds.quality import QualityThreshold as QualityThreshold
    from fastroute.evaluation.thresholds.quality import (
        threshold_for_quality as threshold_for_quality,
    )

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.errors": "ContaminationError",
        "fastroute.evaluation.benchmarks.published": "Point mt_bench_points",
        "fastroute.evaluation.benchmarks.routellm": (
            "Benchmark ROUTELLM_PAIR load_gsm8k load_mmlu load_mt_bench"
        ),
        "fastroute.evaluation.benchmarks.traffic": "Traffic load_pairs load_prompts load_traffic",
        "fastroute.evaluation.cache": "WinRateCache",
        "fastroute.evaluation.metrics.bootstrap": "Estimate paired_p_value resample_curves",
        "fastroute.evaluation.metrics.calibration_metrics": (
            "ReliabilityBin brier_score expected_calibration_error reliability_bins"
        ),
        "fastroute.evaluation.metrics.curve": (
            "Curve apgr auc cost_saved cpt curve dollars_saved oracle_win_rates random_curve"
        ),
        "fastroute.evaluation.report.page": "write_html",
        "fastroute.evaluation.report.plots": "save_figure",
        "fastroute.evaluation.report.report": "to_dict",
        "fastroute.evaluation.report.tables": "to_markdown to_text",
        "fastroute.evaluation.results": "BenchmarkResult Comparison Report RouterResult Timings",
        "fastroute.evaluation.run": "evaluate",
        "fastroute.evaluation.scoring": "score",
        "fastroute.evaluation.thresholds.band_calibration": "BandCalibration calibrate_band",
        "fastroute.evaluation.thresholds.bands": "BandResult",
        "fastroute.evaluation.thresholds.calibration": "calibrate_quality calibrate_share",
        "fastroute.evaluation.thresholds.choice": "ShareThreshold threshold_for_share",
        "fastroute.evaluation.thresholds.quality": "QualityThreshold threshold_for_quality",
    },
)
