"""Figures of a router on the benchmarks, beside length and random: what a model card shows."""

from __future__ import annotations

import os

from fastroute.evaluation.benchmarks.protocols import Protocol, check_untrained, scored
from fastroute.evaluation.benchmarks.routellm import LOADERS
from fastroute.evaluation.metrics.calibration_metrics import expected_calibration_error, outcomes
from fastroute.evaluation.metrics.curve import METHODS, apgr, curve
from fastroute.routers.base import Router
from fastroute.routers.length import LengthRouter
from fastroute.routers.random import RandomRouter

#: Random's APGR is the mean over this many seeds.
SEEDS = 5


def print_figures(router: Router, data: str | os.PathLike[str], protocol: Protocol) -> None:
    """Print APGR by both methods and the calibration error on each benchmark in ``data``.

    Raises ContaminationError if the router was trained on a prompt that would be scored.
    """
    print("| benchmark | prompts | router | APGR exact | APGR routellm | calibration error |")
    print("|---|---|---|---|---|---|")
    for name, load in LOADERS.items():
        benchmark = scored(load(data), protocol)
        check_untrained(benchmark, router.provenance.trained_on, router.name)
        outcome = outcomes(benchmark.weak, benchmark.strong)
        rivals: dict[str, list[Router]] = {
            router.name: [router],
            "length": [LengthRouter()],
            "random": [RandomRouter(seed) for seed in range(SEEDS)],
        }
        for label, routers in rivals.items():
            rates = [one.win_rates(benchmark.prompts) for one in routers]
            areas = [
                sum(apgr(curve(r, benchmark.weak, benchmark.strong, method=method)) for r in rates)
                / len(rates)
                for method in METHODS
            ]
            error = f"{expected_calibration_error(rates[0], outcome):.3f}" if label == "mf" else ""
            print(
                f"| {name} | {len(benchmark)} | {label} | {areas[0]:.3f} | {areas[1]:.3f} "
                f"| {error} |"
            )
