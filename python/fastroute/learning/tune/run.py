"""Tunes a router for a pair of models: learns, tests, and says whether to use it.

1. Prompts that the bundled router was trained on are left out; where that would be more than a
   fifth, they stay, and the bundled router is neither candidate nor prior.
2. Where times are known, the last fifth is kept for a final check.
3. 40 % of the distinct prompts are learnt from: candidates are compared by nested cross-validation
   (``selection``), the winner is fitted to all of them, and thresholds to test are fixed.
4. On the other 60 % thresholds are certified (``guarantee``), and the router must rank prompts
   better than a coin does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastroute._checks import check_integer
from fastroute.artifacts import hash_prompts
from fastroute.errors import InvalidInputError
from fastroute.learning.tune import verdict
from fastroute.learning.tune.cascade import merit, with_cascade
from fastroute.learning.tune.costs import Price
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.guarantee import Certificate, Goal, Graded, certify
from fastroute.learning.tune.head import Parts, as_float64
from fastroute.learning.tune.judged import judged_vector
from fastroute.learning.tune.measure import (
    critical_value,
    measure_policy,
    p_value_of_mean,
    smirnov_p_value,
    strong_calls,
)
from fastroute.learning.tune.result import FinalCheck, Policy, TuneResult
from fastroute.learning.tune.selection import (
    LearningRows,
    Selection,
    apgr_of,
    rank_terms,
    select,
)
from fastroute.learning.tune.split import Split, labels_needed, split_rows
from fastroute.policy import calibrated
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.embedding import embed
from fastroute.training.heads import constant_vector, fit_scale, sigmoid
from fastroute.types import Float64Array

_WEIGHT_OF_ONE_GRADE = 0.5
_GRID = 100
#: Certificates that save less than this share of strong calls are not looked for.
_LEAST_WEAK_SHARE = 0.1
# Costs are bounded for a promise of spend: the greatest that is seen while learning, twice over.
_COST_ROOM = 2.0


def tune_router(
    export: Export,
    goal: Goal,
    *,
    strong_model: str | None = None,
    weak_model: str | None = None,
    names: Mapping[str, str] | None = None,
    prices: Mapping[str, Price] | None = None,
    requests_per_month: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> TuneResult:
    """Tune a router on an export; see the module.

    Args:
        export: from ``read_export``.
        goal: what is to be promised, and with which confidence.
        strong_model, weak_model: their names at their providers; by default those in the export.
        names: helpers' names at their providers, by their names in the export where they differ.
        prices: dollars per million tokens by model of the export, for the gateway's configuration.
        requests_per_month: for dollars a month.
        seed: of the splits.
        progress: show a bar on a terminal.

    Raises InvalidInputError for fewer than 40 distinct prompts with grades of both models, or a
    goal of spend without costs.
    """
    check_integer("seed", seed, 0)
    if requests_per_month is not None:
        check_integer("requests_per_month", requests_per_month, 1)
    if goal.kind == "spend" and export.cost_weak is None:
        raise InvalidInputError(
            "a target of spend needs costs: give prices (--price), or a column of costs"
        )
    default = MatrixFactorizationRouter.load_default()
    split = split_rows(export, default, seed)
    learn, test = export.select(split.learn), export.select(split.test)
    judged: Float64Array | None = None
    notes = split.notes
    if export.judged:
        assert default.embedder is not None
        unseen = export.select(split.test | split.final).prompts
        judged, said = judged_vector(export.judged, unseen, default.embedder, seed)
        notes = (*notes, said)
    chosen, router, held_out = _learn(
        learn, split.groups.ids[split.learn], default, split.use_default, judged, seed, progress,
        (strong_model or export.pair.strong, weak_model or export.pair.weak),
    )  # fmt: skip
    router = _recorded(router, export, learn, default if split.use_default else None)
    most_cost = 0.0
    if learn.usd is not None:
        most_cost = _COST_ROOM * float(learn.usd[:, :2].max())
    graded = _graded(test, split.groups.ids[split.test], most_cost)
    win_rates = router.win_rates(test.prompts)
    router = router.with_provenance(
        calibrated(
            router.provenance, win_rates, calibrated_on=f"{len(test):,} graded prompts held out"
        )
    )
    thresholds = grid(held_out, goal)
    everyone = (split.learn | split.test) & export.has_all
    certificate = certify(
        goal, thresholds, win_rates, graded,
        _graded(export.select(everyone), split.groups.ids[everyone], most_cost)
        if goal.from_strong else None,
    )  # fmt: skip
    threshold = certificate.threshold
    if threshold is None:
        threshold, _ = _estimated(goal, thresholds, held_out, learn)
    z = critical_value(goal.confidence)
    escalated = win_rates >= threshold
    policy = measure_policy(graded, escalated.astype(np.float64), z)
    gains = test.strong - test.weak
    terms = rank_terms(win_rates, gains)
    how = f"target {goal.kind} {goal.target:g} at {goal.confidence:.0%} confidence"
    router = router.with_provenance(
        replace(
            router.provenance,
            operating_point=OperatingPoint(
                threshold, None, f"{how}, {'certified' if certificate.threshold else 'estimated'} "
                f"on {certificate.prompts:,} prompts",
            ),
        )
    )  # fmt: skip
    found = TuneResult(
        verdict="do_not_use",
        recommendation="always_strong",
        reasons=(),
        advice=(),
        goal=goal,
        pair=export.pair,
        candidate=chosen.name,
        router=router,
        threshold=threshold,
        certified=certificate.threshold is not None,
        p_value=certificate.p_value,
        information_p_value=p_value_of_mean(graded.by_unit(terms)),
        policy=policy,
        baselines=_baselines(goal, graded, test, learn, policy, z, default, split.use_default),
        apgr={**chosen.apgr, "test": apgr_of(terms, gains)},
        counts=split.counts(export, graded.by_unit(terms).shape[-1]),
        labels_needed=_labels_needed(goal, thresholds, win_rates, graded),
        final_check=_final_check(goal, export, split, router, win_rates, threshold, z),
        notes=notes,
        export=export,
        prices=dict(prices or {}),
        win_rates=win_rates,
        escalated=escalated,
        cheap=test.weak,
        test=test,
        requests_per_month=requests_per_month,
    )
    if len(export.models) > 2:
        known = names or {}
        most_usd = 0.0 if learn.usd is None else _COST_ROOM * float(learn.usd.sum(axis=1).max())
        found = with_cascade(
            found, learn, split, helpers=[known.get(name, name) for name in export.models[2:]],
            router_estimate=_merit(goal, thresholds, held_out, learn), most_usd=most_usd, z=z,
            seed=seed,
        )  # fmt: skip
    return verdict.decided(found, terms=graded.by_unit(terms))


def _learn(
    learn: Export,
    groups: npt.NDArray[np.int64],
    default: MatrixFactorizationRouter,
    use_default: bool,
    judged: Float64Array | None,
    seed: int,
    progress: bool,
    names: tuple[str, str],
) -> tuple[Selection, MatrixFactorizationRouter, Float64Array]:
    """The winner, as a router, and its win rates on held-out folds of the learning rows."""
    embedder = default.embedder
    assert embedder is not None
    X = embed(embedder, learn.prompts, progress=progress)
    said = X.any(axis=1)
    own = dict(zip(default.models, default.vectors, strict=True))
    vector = (own[default.strong_model] - own[default.weak_model]).astype(np.float64)
    parts = Parts(vector if use_default else None, embedder.signals, judged)
    both = learn.has_all
    weak = np.where(np.isnan(learn.weak), np.nanmean(learn.weak[both]), learn.weak)
    strong = np.where(np.isnan(learn.strong), np.nanmean(learn.strong[both]), learn.strong)
    rows = LearningRows(
        as_float64(X[said]),
        (strong - weak)[said],
        np.where(both, 1.0, _WEIGHT_OF_ONE_GRADE)[said],
        both[said],
        groups[said],
    )
    if int(rows.has_both.sum()) < 10:
        raise InvalidInputError(
            f"{int(rows.has_both.sum())} of the prompts to learn from have a token that the "
            "embedder knows, where 10 are needed; the bundled one is for English"
        )
    chosen = select(rows, parts, seed=seed)
    constant = constant_vector(rows.X, rows.weights)
    fitted = rows.has_both
    F = np.stack([chosen.scores - chosen.scores[fitted].mean(), rows.X @ constant], axis=1)
    won = (1.0 + rows.gains) / 2.0
    slope, level = fit_scale(F[fitted], won[fitted], rows.weights[fitted])
    mean = float((rows.X[fitted] @ chosen.direction).mean())
    vector = slope * (chosen.direction - mean * constant) + level * constant
    half = (vector / 2.0).astype(np.float32)
    router = MatrixFactorizationRouter.of_vectors(
        names, np.stack([half, -half]), strong_model=names[0], weak_model=names[1],
        embedder=embedder,
    )  # fmt: skip
    return chosen, router, sigmoid(F[fitted] @ np.array([slope, level]))


def _recorded(
    router: MatrixFactorizationRouter,
    export: Export,
    learn: Export,
    prior: MatrixFactorizationRouter | None,
) -> MatrixFactorizationRouter:
    """The router with what it was trained on: these prompts, and those of its prior."""
    hashes = hash_prompts(learn.prompts)
    if prior is not None and prior.provenance.trained_on is not None:
        hashes = np.concatenate([hashes, prior.provenance.trained_on])
    return router.with_provenance(
        Provenance(data=(Path(export.file).name,), trained_on=np.unique(hashes))
    )


def grid(held_out: Float64Array, goal: Goal) -> Float64Array:
    """Thresholds to test, from the safest: percentiles of win rates on held-out folds, rounded,
    and last the one that sends everything to the other model."""
    levels = np.arange(1, _GRID) / _GRID
    between = np.unique(np.round(np.quantile(held_out, levels), 5))
    between = between[(between > 0.0) & (between < 1.0)]
    ordered: Float64Array = (
        np.append(between, 1.0) if goal.from_strong else np.append(between[::-1], 0.0)
    )
    return ordered


def _graded(rows: Export, units: npt.NDArray[np.int64], most_cost: float) -> Graded:
    return Graded(rows.weak, rows.strong, rows.cost_weak, rows.cost_strong, units, most_cost)


def _estimated(
    goal: Goal, thresholds: Float64Array, held_out: Float64Array, learn: Export
) -> tuple[float, bool]:
    """The last threshold at which the learning rows meet the goal, the safest where none does; and
    whether one does."""
    rows = learn.select(learn.has_all)
    if len(rows) != len(held_out):  # some have no token: which are these is of no consequence
        return float(thresholds[0]), False
    graded = _graded(rows, np.arange(len(rows)), math.inf)
    losses, _, _ = goal.losses(graded, held_out >= thresholds[:, None])
    met = np.flatnonzero(np.asarray(losses).mean(axis=1) <= 0.0)
    return float(thresholds[met[-1] if len(met) else 0]), bool(len(met))


def _merit(
    goal: Goal, thresholds: Float64Array, held_out: Float64Array, learn: Export
) -> tuple[float, float]:
    """What the router reaches on held-out folds of the learning rows, as ``merit`` has it."""
    threshold, is_met = _estimated(goal, thresholds, held_out, learn)
    rows = learn.select(learn.has_all)
    strong = np.ones(len(rows), dtype=np.bool_)
    if len(rows) == len(held_out):
        strong = held_out >= threshold
    usd = None
    if rows.cost_weak is not None and rows.cost_strong is not None:
        usd = np.where(strong, rows.cost_strong, rows.cost_weak)
    return merit(goal, is_met, np.where(strong, rows.strong, rows.weak), usd, strong)


def _labels_needed(
    goal: Goal, thresholds: Float64Array, win_rates: Float64Array, graded: Graded
) -> int | None:
    """About how many graded prompts a useful certificate takes; None where no number would do."""
    strong = win_rates >= thresholds[:, None]
    losses, _, high = goal.losses(graded, strong)
    moved = (~strong if goal.from_strong else strong).mean(axis=1) >= _LEAST_WEAK_SHARE
    useful = np.asarray(losses, dtype=np.float64)[moved]
    return labels_needed(goal, map(graded.by_unit, useful), high)


def _baselines(
    goal: Goal,
    graded: Graded,
    test: Export,
    learn: Export,
    policy: Policy,
    z: float,
    default: MatrixFactorizationRouter,
    use_default: bool,
) -> dict[str, Policy]:
    n = len(test)
    found = {
        "always_strong": measure_policy(graded, np.ones(n), z),
        "always_weak": measure_policy(graded, np.zeros(n), z),
        "random": measure_policy(graded, np.full(n, policy.strong_share.value), z),
    }
    rivals = {"length": [[length / (length + 300.0) for length in map(len, part.prompts)]
                         for part in (learn, test)]}  # fmt: skip
    if use_default:
        rivals["default"] = [list(default.win_rates(part.prompts)) for part in (learn, test)]
    for name, (before, now) in rivals.items():
        rates = np.array(now)
        own: Certificate = certify(goal, grid(np.array(before), goal), rates, graded)
        safe = 0.0 if goal.from_strong else 1.0
        threshold = safe if own.threshold is None else own.threshold
        found[name] = measure_policy(graded, strong_calls(rates, threshold), z)
    return found


def _final_check(
    goal: Goal,
    export: Export,
    split: Split,
    router: MatrixFactorizationRouter,
    before: Float64Array,
    threshold: float,
    z: float,
) -> FinalCheck | None:
    if not split.final.any():
        return None
    rows = export.select(split.final)
    graded = _graded(rows, split.groups.ids[split.final], math.inf)
    rates = router.win_rates(rows.prompts)
    strong = strong_calls(rates, threshold)
    losses, _, _ = goal.losses(graded, strong > 0.5)
    units = graded.by_unit(np.asarray(losses, dtype=np.float64))
    return FinalCheck(
        len(units),
        measure_policy(graded, strong, z),
        smirnov_p_value(before, rates),
        bool(units.mean() <= 0.0),
    )
