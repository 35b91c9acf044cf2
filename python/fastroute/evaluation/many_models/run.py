"""Evaluates choices among many models: each method on held-out prompts, against what it must beat.

Prompts are held out in folds, at random or a dataset at a time. On a prompt, a method chooses among
the models that have a grade there. The best single model is chosen with all grades known, which
favours it; models with grades on fewer than 90 % of the prompts are not single models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.random import default_rng

from fastroute._checks import check_integer, check_resampling
from fastroute.candidates import Candidate
from fastroute.candidates.candidate import BYTES_PER_TOKEN
from fastroute.data.grade_table import GradeTable
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError
from fastroute.evaluation.many_models.frontier import Curve, aiq, trade_off, within
from fastroute.evaluation.many_models.methods import Method, clusters, knn, models_method
from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.routers.matrix_factorization import bundled_direction
from fastroute.types import Float64Array, IntArray

Protocol = Literal["k-fold", "leave-one-dataset-out"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)

_WHOLE = 0.9
_BINS = 10


@dataclass(frozen=True, slots=True, eq=False)
class MethodResult:
    """How one method did."""

    name: str  #: of the method
    curve: Curve  #: quality against dollars, as the price of money changes
    #: RouterBench's average improvement in quality, between the dollars of the cheapest and the
    #: dearest single model.
    aiq: float
    quality: float  #: at no more than the best single model's dollars
    usd: float  #: mean dollars of those choices
    gain: Estimate  #: of quality over the best single model, on prompts where it has a grade
    #: share of the gap between the best single model and the oracle of those dollars that is
    #: closed.
    oracle_gap: float
    #: least mean dollars at the best single model's quality; None where not reached.
    equal_usd: float | None
    #: expected calibration error, mean over models; None for what estimates nothing.
    ece: float | None = None
    #: what it would be in the mean for perfect estimates, from the noise of grades.
    ece_noise: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ModelsReport:
    """The evaluation of one table of grades."""

    name: str  #: of the data
    prompts: int  #: their number
    #: protocol, folds: how prompts were held out.
    protocol: Protocol
    folds: int
    #: single_usd, single_quality: means of each single model on its graded prompts, by name.
    single_usd: Mapping[str, float]
    single_quality: Mapping[str, float]
    #: best_single, cheapest: names of single models.
    best_single: str
    cheapest: str
    #: random_quality, random_usd: of a model drawn at random among those with a grade.
    random_quality: float
    random_usd: float
    singles_aiq: float  #: AIQ of mixing single models, RouterBench's zero router
    methods: Sequence[MethodResult]  #: ``models`` first, the oracle last


def evaluate_models(
    table: GradeTable,
    candidates: Sequence[Candidate],
    embedder: Embedder,
    *,
    name: str = "grades",
    protocol: Protocol = "k-fold",
    folds: int = 5,
    resamples: int = 1000,
    seed: int = 0,
) -> ModelsReport:
    """Compare methods of choosing among the models of ``table``.

    Args:
        table: grades, and perhaps dollars.
        candidates: prices, for the answers whose dollars the table does not have. A prompt counts
            as a token for every 4 bytes, an answer as the candidate's ``answer_tokens``.
        embedder: embeds the prompts.
        name: of the data, in the report.
        protocol: "k-fold", or "leave-one-dataset-out".
        folds: of k-fold.
        resamples: of the bootstrap; 0 for no intervals.
        seed: of folds and resamples.

    Raises InvalidInputError for a model without a price, fewer than two models or datasets where
    they are needed, or prompts that are too few to learn from.
    """
    resamples, seed = check_resampling(resamples, seed)
    if protocol not in PROTOCOLS:
        raise InvalidInputError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}")
    if len(table.models) < 2:
        raise InvalidInputError(f"the grades are of {len(table.models)} model; give two or more")
    usd = _dollars(table, candidates)
    held = _held_out(table, protocol, folds, seed)
    X = embedder.embed_batch(list(table.prompts))
    methods: dict[str, Method] = {
        "models": models_method(table.models, bundled_direction(embedder), seed),
        "knn": knn,
        "clusters": clusters,
    }
    estimates: dict[str, Float64Array] = {}
    for label, method in methods.items():
        estimate = np.empty_like(table.grades)
        for k in range(int(held.max()) + 1):
            test = held == k
            estimate[test] = method(X[~test], table.grades[~test], X[test])
        estimates[label] = estimate
    return _report(table, usd, estimates, name, protocol, int(held.max()) + 1, resamples, seed)


def _report(
    table: GradeTable,
    usd: Float64Array,
    estimates: Mapping[str, Float64Array],
    name: str,
    protocol: Protocol,
    folds: int,
    resamples: int,
    seed: int,
) -> ModelsReport:
    grades = table.grades
    graded = ~np.isnan(grades)
    whole = np.flatnonzero(graded.mean(axis=0) >= _WHOLE)
    if not len(whole):
        raise InvalidInputError(
            "no model has grades on 90 % of the prompts, so there is no single model to compare "
            "with; give files whose models were graded on the same prompts"
        )
    quality = {j: float(grades[graded[:, j], j].mean()) for j in whole.tolist()}
    cost = {j: float(usd[graded[:, j], j].mean()) for j in whole.tolist()}
    best = max(quality, key=lambda j: (quality[j], -cost[j]))
    cheapest = min(cost, key=lambda j: (cost[j], -quality[j]))
    least, most = cost[cheapest], max(cost.values())
    rows = np.flatnonzero(graded[:, best])
    oracle = trade_off(np.where(graded, grades, 0.0), grades, usd)
    best_usd, best_quality = cost[best], quality[best]
    reachable = float(oracle.quality[within(oracle, best_usd)]) - best_quality

    def result(label: str, curve: Curve, estimate: Float64Array | None) -> MethodResult:
        at = within(curve, best_usd)
        chosen = curve.chosen[at]
        gain = grades[rows, chosen[rows]] - grades[rows, best]
        reached = curve.usd[curve.quality >= best_quality]
        ece = (None, None) if estimate is None else calibration_error(estimate, grades)
        return MethodResult(
            label, curve, aiq(curve.usd, curve.quality, least, most), float(curve.quality[at]),
            float(curve.usd[at]), _interval(gain, resamples, seed),
            float(gain.mean()) / reachable if reachable > 0 else 0.0,
            float(reached.min()) if len(reached) else None, *ece,
        )  # fmt: skip

    methods = [
        result(label, trade_off(estimate, grades, usd), estimate)
        for label, estimate in estimates.items()
    ]
    methods.append(result("oracle", oracle, None))
    return ModelsReport(
        name, len(grades), protocol, folds,
        {table.models[j]: cost[j] for j in cost}, {table.models[j]: quality[j] for j in quality},
        table.models[best], table.models[cheapest],
        float(np.nanmean(np.nanmean(grades, axis=1))),
        float(np.mean(np.where(graded, usd, 0.0).sum(axis=1) / graded.sum(axis=1))),
        aiq(np.array(list(cost.values())), np.array(list(quality.values())), least, most), methods,
    )  # fmt: skip


def calibration_error(estimate: Float64Array, grades: Float64Array) -> tuple[float, float]:
    """Expected calibration error in ten bins of equal size, mean over models; and its noise.

    The noise is the error that perfect estimates would show in the mean, as a bin's mean grade
    varies around its expectation.
    """
    errors, noises = [], []
    for p, y in zip(estimate.T, grades.T, strict=True):
        known = ~np.isnan(y)
        order = np.argsort(p[known], kind="stable")
        left = (y[known] - p[known])[order]
        bins = [part for part in np.array_split(left, _BINS) if len(part)]
        errors.append(sum(abs(b.mean()) * len(b) for b in bins) / len(left))
        # The mean magnitude of a normal variable is 0.798 standard deviations.
        noises.append(sum(0.798 * b.std() / np.sqrt(len(b)) * len(b) for b in bins) / len(left))
    return float(np.mean(errors)), float(np.mean(noises))


def to_dict(report: ModelsReport) -> dict[str, Any]:
    """The report as plain JSON, without the curves' choices."""
    return {
        "name": report.name,
        "prompts": report.prompts,
        "protocol": report.protocol,
        "folds": report.folds,
        "best_single": report.best_single,
        "cheapest": report.cheapest,
        "singles": {
            model: {"usd": report.single_usd[model], "quality": report.single_quality[model]}
            for model in report.single_usd
        },
        "singles_aiq": report.singles_aiq,
        "random": {"usd": report.random_usd, "quality": report.random_quality},
        "methods": [
            {
                "name": m.name, "aiq": m.aiq, "quality": m.quality, "usd": m.usd,
                "gain": {"value": m.gain.value, "low": m.gain.low, "high": m.gain.high},
                "oracle_gap": m.oracle_gap, "equal_usd": m.equal_usd, "ece": m.ece,
                "ece_noise": m.ece_noise,
                "curve": {"usd": m.curve.usd.tolist(), "quality": m.curve.quality.tolist()},
            }
            for m in report.methods
        ],
    }  # fmt: skip


def _interval(values: Float64Array, resamples: int, seed: int) -> Estimate:
    mean = float(values.mean())
    if not resamples:
        return Estimate(mean)
    random = default_rng(seed)
    n = len(values)
    means = [float(values[random.integers(0, n, n)].mean()) for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return Estimate(mean, low, high)


def _dollars(table: GradeTable, candidates: Sequence[Candidate]) -> Float64Array:
    by_name = {candidate.name: candidate for candidate in candidates}
    graded = ~np.isnan(table.grades)
    unknown = [
        model
        for j, model in enumerate(table.models)
        if model not in by_name and np.isnan(table.usd[graded[:, j], j]).any()
    ]
    if unknown:
        raise InvalidInputError(
            f"no price for {', '.join(unknown[:5])}{', ...' if len(unknown) > 5 else ''}: add a "
            "[[candidates]] table for each model to the file of --candidates, or costs to the rows"
        )
    tokens = np.array([len(p.encode("utf-8", "surrogatepass")) for p in table.prompts])
    priced = np.array(
        [
            [by_name[m].dollars(t) if m in by_name else np.nan for m in table.models]
            for t in (tokens / BYTES_PER_TOKEN).tolist()
        ]
    )
    usd: Float64Array = np.where(np.isnan(table.usd), priced, table.usd)
    return np.where(np.isnan(usd), 0.0, usd)


def _held_out(table: GradeTable, protocol: Protocol, folds: int, seed: int) -> IntArray:
    """The fold of each prompt; equal prompts are in one fold."""
    if protocol == "leave-one-dataset-out":
        names, found = np.unique(table.datasets, return_inverse=True)
        if len(names) < 2:
            raise InvalidInputError(
                f"the grades are of one dataset, {names[0]!r}; leave-one-dataset-out needs two"
            )
        return found.astype(np.intp)
    folds = check_integer("folds", folds, 2)
    distinct = {prompt: i for i, prompt in enumerate(dict.fromkeys(table.prompts))}
    if len(distinct) < folds:
        raise InvalidInputError(f"{len(distinct)} distinct prompts can't fill {folds} folds")
    dealt = default_rng(seed).permutation(len(distinct)) % folds
    return np.array([dealt[distinct[prompt]] for prompt in table.prompts], dtype=np.intp)
