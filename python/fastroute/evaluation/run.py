"""Evaluate routers on benchmarks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fastroute._checks import check_integer, check_resampling
from fastroute._progress import progress_bar
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.protocols import (
    Protocol,
    check_protocol,
    check_untrained,
    in_domain_win_rates,
    scored,
    were_trained_on,
)
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.cache import WinRateCache
from fastroute.evaluation.metrics.bootstrap import Resampled, check_confidence, resample_curves
from fastroute.evaluation.metrics.cascades import CascadeScorer, measure_cascade
from fastroute.evaluation.metrics.curve import (
    CPT_TARGETS,
    Method,
    apgr,
    check_method,
    oracle_win_rates,
    random_curve,
)
from fastroute.evaluation.metrics.latency import (
    LATENCY_PROMPTS,
    MemberLatency,
    given_latency,
    measure_latency,
)
from fastroute.evaluation.report.rows import comparisons, measure
from fastroute.evaluation.results import (
    GRID,
    Axis,
    BenchmarkResult,
    CascadeResult,
    Kind,
    Report,
    Timings,
)
from fastroute.evaluation.scoring import Scorer, check_router
from fastroute.routers.base import Router
from fastroute.routers.cascade.router import CascadeRouter
from fastroute.routers.length import LengthRouter
from fastroute.routers.random import RandomRouter
from fastroute.types import Float64Array

#: Trains a router on a part of a benchmark, for the in-domain protocol.
Trainer = Callable[[Benchmark], Router]


def evaluate(
    routers: Mapping[str, Router],
    benchmarks: Sequence[Benchmark],
    *,
    protocol: Protocol = "zero-shot",
    method: Method = "exact",
    axis: Axis = "calls",
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    trainers: Mapping[str, Trainer] | None = None,
    fold_count: int = 5,
    cache: WinRateCache | None = None,
    drop_trained: bool = False,
    latency_ms: tuple[float, float] | None = None,
    latency_prompts: int = LATENCY_PROMPTS,
    progress: bool = False,
) -> Report:
    """Measure routers on benchmarks; every result has random, length and the oracle as well.

    Args:
        routers: routers by label. ``random`` is computed analytically and never called.
        benchmarks: from ``benchmarks`` and ``traffic``.
        protocol: see ``protocols``; with "in-domain", routers in ``trainers`` are trained on
            the other folds; the others are scored as they are, after the check that they were not
            trained on the benchmark.
        method: "exact" or "routellm", see ``metrics``.
        axis: "calls", or "cost" for benchmarks with dollars per prompt.
        resamples: bootstrap resamples, at most 1,000,000; 0 for no intervals.
        confidence: of the intervals.
        seed: of resamples and folds, 0 or more.
        trainers: for "in-domain", how to train each router, by label.
        fold_count: for "in-domain".
        cache: stores win rates of routers that were loaded from artifacts.
        drop_trained: leave out prompts that any of the routers was trained on, for all routers,
            instead of raising an error.
        latency_ms: milliseconds per call of a cascade's fast and slow member; by default they are
            measured, on ``latency_prompts`` prompts of each benchmark.
        latency_prompts: see ``latency_ms``.
        progress: show a progress bar on standard error (needs tqdm).

    Raises ContaminationError if a router was trained on prompts that the protocol scores,
    InvalidInputError for arguments that can't be used.
    """
    from fastroute import __version__

    check_protocol(protocol)
    check_method(method)
    check_confidence(confidence)
    if axis not in ("calls", "cost"):
        raise InvalidInputError(f"axis must be 'calls' or 'cost', got {axis!r}")
    resamples, seed = check_resampling(resamples, seed)
    fold_count = check_integer("fold_count", fold_count, 2, 1_000_000)
    benchmarks = _check_benchmarks(benchmarks)
    for name, value in (("routers", routers), ("trainers", trainers or {})):
        if not isinstance(value, Mapping):
            raise InvalidTypeError(
                f"{name} must be a mapping by label, got {type(value).__name__}; pass "
                f'{{"mine": ...}}'
            )
    trainers = dict(trainers or {})
    _check_labels(routers, trainers, protocol)
    # Random routing is a straight line, and length is in every report: both are made here.
    asked = {k: r for k, r in routers.items() if not isinstance(r, RandomRouter)}
    if not any(isinstance(router, LengthRouter) for router in asked.values()):
        asked["length"] = LengthRouter()
    latency_prompts = check_integer("latency_prompts", latency_prompts, 1)
    given = None if latency_ms is None else given_latency(*latency_ms)
    settings = _Settings(
        protocol, method, axis, resamples, confidence, seed, trainers, fold_count, given,
        latency_prompts,
    )  # fmt: skip
    as_they_are = {label: r for label, r in asked.items() if label not in trainers}
    # All checks come before any long computation.
    parts = [_scored_part(b, as_they_are, settings, drop_trained) for b in benchmarks]
    scorers = {label: _scorer(label, router, cache) for label, router in asked.items()}
    results = [_evaluate_one(part, scorers, settings, progress) for part in parts]
    notes = []
    if protocol == "in-domain":
        trained = ", ".join(trainers) or "no router"
        notes.append(
            f"{fold_count} folds: {trained} trained on the other folds, the rest as it is."
        )
    return Report(
        tuple(results), protocol, method, axis, resamples, confidence, seed, __version__,
        tuple(notes),
    )  # fmt: skip


def _scorer(label: str, router: Router, cache: WinRateCache | None) -> Scorer:
    if isinstance(router, CascadeRouter):
        return CascadeScorer(label, router, cache)
    return Scorer(label, router, cache)


def _check_benchmarks(benchmarks: Sequence[Benchmark]) -> list[Benchmark]:
    if not isinstance(benchmarks, Iterable):
        raise InvalidTypeError(
            f"benchmarks must be a sequence of Benchmark, got one {type(benchmarks).__name__}; "
            "wrap it in a list"
        )
    listed = list(benchmarks)
    if not listed:
        raise InvalidInputError("benchmarks is empty; name at least one")
    for i, benchmark in enumerate(listed):
        if not isinstance(benchmark, Benchmark):
            raise InvalidTypeError(
                f"benchmarks[{i}] must be a Benchmark, got {type(benchmark).__name__}"
            )
    return listed


def _check_labels(
    routers: Mapping[str, Router], trainers: Mapping[str, Trainer], protocol: Protocol
) -> None:
    reserved: dict[str, tuple[type[Router], ...]] = {
        "oracle": (),
        "random": (RandomRouter,),
        "length": (LengthRouter,),
    }
    for label, router in routers.items():
        if not isinstance(label, str):
            raise InvalidTypeError(f"the labels of routers must be str, got {label!r}")
        check_router(f"routers[{label!r}]", router)
        if label in reserved and not isinstance(router, reserved[label]):
            raise InvalidInputError(
                f"the label {label!r} is taken by a baseline of the report; choose another label"
            )
    unknown = set(trainers) - set(routers)
    if unknown or (trainers and protocol != "in-domain"):
        raise InvalidInputError(
            f"trainers has {', '.join(sorted(unknown)) or 'routers'}; it is for routers that are "
            "evaluated, with protocol 'in-domain'"
        )


@dataclass(frozen=True, slots=True)
class _Settings:
    protocol: Protocol
    method: Method
    axis: Axis
    resamples: int
    confidence: float
    seed: int
    trainers: dict[str, Trainer]
    fold_count: int
    latency: MemberLatency | None
    latency_prompts: int


@dataclass(frozen=True, slots=True)
class _Part:
    """The prompts of a benchmark that are scored, after all checks."""

    benchmark: Benchmark
    costs: tuple[Float64Array, Float64Array] | tuple[None, None]
    dropped: int
    check_s: dict[str, float]


def _scored_part(
    benchmark: Benchmark, routers: Mapping[str, Router], settings: _Settings, drop_trained: bool
) -> _Part:
    """The prompts that the protocol scores, with ``drop_trained`` without training prompts."""
    part = scored(benchmark, settings.protocol)
    dropped = 0
    if drop_trained:
        seen = were_trained_on(part.prompts, [r.provenance.trained_on for r in routers.values()])
        if seen.all():
            raise InvalidInputError(
                f"every prompt of {part.name!r} is a training prompt of a router; none is left"
            )
        part, dropped = (part.select(~seen) if seen.any() else part), int(seen.sum())
    check_s = {}
    for label, router in routers.items():
        start = time.perf_counter()
        check_untrained(part, router.provenance.trained_on, label)
        check_s[label] = time.perf_counter() - start
    costs: tuple[Float64Array, Float64Array] | tuple[None, None] = (None, None)
    if settings.axis == "cost":
        if part.cost_weak is None or part.cost_strong is None:
            raise InvalidInputError(
                f"axis 'cost' needs dollars per prompt, and benchmark {part.name!r} has none; give "
                "cost_weak and cost_strong columns, or take axis 'calls'"
            )
        costs = (part.cost_weak, part.cost_strong)
    try:
        apgr(random_curve(part.weak, part.strong, *costs))
    except InvalidInputError as error:  # no gap, or nothing to save
        raise InvalidInputError(f"benchmark {part.name!r}: {error}") from None
    return _Part(part, costs, dropped, check_s)


def _evaluate_one(
    part: _Part, scorers: Mapping[str, Scorer], settings: _Settings, progress: bool
) -> BenchmarkResult:
    benchmark = part.benchmark
    rates: dict[str, Float64Array] = {}
    timings: dict[str, Timings] = {}
    for label, scorer in scorers.items():
        title = f"{benchmark.name}: {label}"
        if label in settings.trainers:
            start = time.perf_counter()
            rates[label] = _in_domain(benchmark, label, settings, title, progress)
            timings[label] = Timings(len(benchmark), 0, score_s=time.perf_counter() - start)
        else:
            rates[label], spent = scorer.win_rates(benchmark.prompts, title, progress)
            timings[label] = replace(spent, check_s=part.check_s[label])
    rates["random"] = np.zeros(len(benchmark))  # one group of ties: the mean over all orders
    rates["oracle"] = oracle_win_rates(benchmark.weak, benchmark.strong, *part.costs)

    start = time.perf_counter()
    samples = _resample(part, rates, settings, progress)
    resample_s = time.perf_counter() - start

    length = next(k for k, s in scorers.items() if isinstance(s.router, LengthRouter))
    kinds: dict[str, Kind] = {"random": "baseline", length: "baseline", "oracle": "bound"}
    rows = [
        measure(
            label,
            kinds.get(label, "router"),
            rates[label],
            benchmark,
            part.costs,
            samples,
            method=_method(label, settings),
            confidence=settings.confidence,
            length=length,
            timings=timings.get(label, Timings()),
        )
        for label in rates
    ]
    place = {length: 1, "random": 2, "oracle": 3}
    rows.sort(key=lambda row: (place.get(row.name, 0), -row.apgr.value))
    compared = comparisons(rows, samples, settings.confidence)
    cascades = tuple(
        _cascade(part, label, scorer, rates[label], settings, progress)
        for label, scorer in scorers.items()
        if isinstance(scorer, CascadeScorer)
    )
    return BenchmarkResult(benchmark, tuple(rows), compared, part.dropped, resample_s, cascades)


def _cascade(
    part: _Part,
    label: str,
    scorer: CascadeScorer,
    own: Float64Array,
    settings: _Settings,
    progress: bool,
) -> CascadeResult:
    prompts, router = part.benchmark.prompts, scorer.cascade
    latency = settings.latency or measure_latency(
        router.fast, router.slow, prompts, count=settings.latency_prompts, seed=settings.seed,
        progress=progress,
    )  # fmt: skip
    fast, slow, _ = scorer.members(prompts, f"{part.benchmark.name}: {label}", progress)
    return measure_cascade(
        label, router, fast, slow, own, part.benchmark, part.costs, latency,
        resamples=settings.resamples, confidence=settings.confidence, seed=settings.seed,
    )  # fmt: skip


def _method(label: str, settings: _Settings) -> Method:
    # Random and the oracle have no thresholds, so deciles do not apply to them.
    return "exact" if label in ("random", "oracle") else settings.method


def _in_domain(
    benchmark: Benchmark, label: str, settings: _Settings, title: str, progress: bool
) -> Float64Array:
    with progress_bar(settings.fold_count, title, unit="fold", shown=progress) as advance:

        def fit(part: Benchmark) -> Router:
            router = settings.trainers[label](part)
            advance()
            return router

        return in_domain_win_rates(
            benchmark, fit, fold_count=settings.fold_count, seed=settings.seed
        )


def _resample(
    part: _Part, rates: Mapping[str, Float64Array], settings: _Settings, progress: bool
) -> dict[str, Resampled]:
    if not settings.resamples:
        return {}
    benchmark = part.benchmark
    by_method: dict[Method, list[str]] = {"exact": [], "routellm": []}
    for label in rates:
        by_method[_method(label, settings)].append(label)
    samples: dict[str, Resampled] = {}
    used: dict[Method, list[str]] = {m: labels for m, labels in by_method.items() if labels}
    total = settings.resamples * len(used)
    title = f"{benchmark.name}: intervals"
    with progress_bar(total, title, unit="resample", shown=progress) as advance:
        for method, labels in used.items():
            samples |= resample_curves(
                {label: rates[label] for label in labels},
                benchmark.weak,
                benchmark.strong,
                *part.costs,
                method=method,
                targets=CPT_TARGETS,
                grid=GRID,
                resamples=settings.resamples,
                seed=settings.seed,
                advance=advance,
            )
    return samples
