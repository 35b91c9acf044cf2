"""Calibration of a router: thresholds from its win rates on given prompts, or its own quantiles.

Prompts that the router was trained on are refused: win rates of new prompts differ from those.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fastroute._checks import check_resampling
from fastroute._validate import check_prompts
from fastroute.errors import ContaminationError, InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.protocols import were_trained_on
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.cache import WinRateCache
from fastroute.evaluation.metrics.bootstrap import check_confidence
from fastroute.evaluation.scoring import check_router, score
from fastroute.evaluation.thresholds.choice import (
    ShareThreshold,
    check_share,
    threshold_for_share,
)
from fastroute.evaluation.thresholds.quality import (
    Measure,
    QualityThreshold,
    check_target,
    threshold_for_quality,
)
from fastroute.routers.base import Router
from fastroute.types import BoolArray, Float64Array


def calibrate_share(
    router: Router,
    share: float,
    *,
    prompts: Sequence[str] | None = None,
    drop_trained: bool = False,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    cache: WinRateCache | None = None,
    progress: bool = False,
) -> ShareThreshold:
    """The threshold at which a share of prompts are strong calls.

    Args:
        router: without prompts, its ``calibration`` quantiles are used. They were measured on
            prompts that it was not trained on; the interval treats each quantile as a prompt.
        share: wanted share of strong calls, 0..1.
        prompts: n texts like those to be routed.
        drop_trained: leave out prompts that the router was trained on instead of raising an error.
        resamples, confidence, seed: of the intervals; 0 resamples for none.
        cache, progress: as for ``score``.

    Raises ContaminationError for prompts that the router was trained on, InvalidInputError for
    arguments that can't be used.
    """
    # All checks come before the long computation.
    _check(router, resamples, seed, confidence)
    check_share(share)
    if prompts is not None:
        prompts = check_prompts(prompts)
        keep = untrained(router, prompts, drop_trained)
        texts = [prompt for prompt, kept in zip(prompts, keep, strict=True) if kept]
        win_rates = score(router, texts, cache=cache, progress=progress)
    elif router.provenance.calibration is not None:
        win_rates = np.asarray(router.provenance.calibration, dtype=np.float64)
    else:
        raise InvalidInputError(
            f"router {router.name!r} has no calibration quantiles; give prompts (--prompts FILE)"
        )
    return threshold_for_share(
        win_rates, share, resamples=resamples, confidence=confidence, seed=seed, progress=progress
    )


def calibrate_quality(
    router: Router,
    benchmark: Benchmark,
    target: float,
    *,
    measure: Measure = "quality",
    drop_trained: bool = False,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    cache: WinRateCache | None = None,
    progress: bool = False,
) -> QualityThreshold:
    """The cheapest threshold that reaches a quality on one half of a benchmark.

    Arguments and errors as ``threshold_for_quality`` and ``calibrate_share``.
    """
    _check(router, resamples, seed, confidence)
    check_target(target, measure)
    if not isinstance(benchmark, Benchmark):
        raise InvalidTypeError(f"benchmark must be a Benchmark, got {type(benchmark).__name__}")
    keep = untrained(router, benchmark.prompts, drop_trained)
    part = benchmark if keep.all() else benchmark.select(keep)
    win_rates: Float64Array = score(router, part.prompts, cache=cache, progress=progress)
    return threshold_for_quality(
        win_rates, part, target, measure=measure, resamples=resamples, confidence=confidence,
        seed=seed, progress=progress,
    )  # fmt: skip


def _check(router: object, resamples: object, seed: object, confidence: float) -> None:
    check_router("router", router)
    check_resampling(resamples, seed)
    check_confidence(confidence)


def untrained(router: Router, prompts: Sequence[str], drop_trained: bool) -> BoolArray:
    """Which prompts the router was not trained on, bool[n].

    Raises ContaminationError where it was trained on some, unless ``drop_trained`` is set."""
    keep = ~were_trained_on(prompts, [router.provenance.trained_on])
    if not keep.all() and not drop_trained:
        raise ContaminationError(
            f"router {router.name!r} was trained on {int((~keep).sum())} of the {len(keep)} "
            "prompts: win rates of new prompts differ from those; leave them out with "
            "drop_trained (--drop-trained)"
        )
    if not keep.any():
        raise InvalidInputError(
            "no prompts are left without training prompts; give others"
            if len(keep)
            else "prompts is empty; give at least one"
        )
    return keep
