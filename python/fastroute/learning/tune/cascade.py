"""A cascade by evidence as a candidate: the weak model and helpers answer, and where their answers
are not likely to be as good as the strong model's, that is asked too.

P(accept) is learnt from the answers in the export (``fastroute.evidence``), and the threshold from
which a cheap answer is sent is certified as a router's is. Every cheap call is paid for, for every
prompt. Answers that can't be compared, such as essays, are decided by the prompt's router.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastroute.artifacts import hash_prompts
from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.answers import RecordedAnswers
from fastroute.evaluation.evidence_replay import AnswerTable
from fastroute.evidence import Answer
from fastroute.evidence.acceptance import AcceptanceModel, fit_acceptance, out_of_fold
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.guarantee import (
    Bools,
    Goal,
    Graded,
    certify_losses,
    means_by_unit,
)
from fastroute.learning.tune.measure import (
    measure_choice,
    measure_policy,
    p_value_of_mean,
    smirnov_p_value,
)
from fastroute.learning.tune.result import FinalCheck, Policy, TunedCascade, TuneResult
from fastroute.learning.tune.selection import rank_terms
from fastroute.learning.tune.split import Split, labels_needed
from fastroute.provenance import OperatingPoint, Provenance
from fastroute.types import Float64Array

#: Answers must be there for this share of the prompts.
_LEAST_ANSWERED = 0.9
#: Certificates that move less than this share of the prompts are not looked for.
_LEAST_MOVED = 0.1


@dataclass(frozen=True, eq=False)
class Evidence:
    """What the cheap answers to n prompts show, and what they cost.

    Attributes:
        signals: float64[n, signals].
        grades: float64[n], of the answer that is sent where one is accepted.
        weak: float64[n], grades of the weak model.
        strong: float64[n], grades of the strong model.
        comparable: bool[n], whether the answers can be compared.
        cheap_usd, strong_usd: float64[n], dollars of all cheap calls, and of the strong model's;
            None where not known.
    """

    signals: Float64Array
    grades: Float64Array
    weak: Float64Array
    strong: Float64Array
    comparable: Bools
    cheap_usd: Float64Array | None
    strong_usd: Float64Array | None

    @classmethod
    def of(cls, rows: Export) -> Evidence:
        """The evidence of rows that are ``answered``."""
        cheap = [rows.models[0], *rows.models[2:]]
        column = [0, *range(2, len(rows.models))]
        recorded = RecordedAnswers(
            rows.prompts,
            {m: tuple(Answer(answers[m]) for answers in rows.answers) for m in cheap},
            {m: rows.grades[:, j] for m, j in zip(cheap, column, strict=True)},
            tokens={}, latency_s={}, dropped=0, estimated_tokens=True,
        )  # fmt: skip
        table = AnswerTable(recorded, cheap)
        first = table.served(plurality=True, model=0)
        comparable: Bools = table.outcomes != "incomparable"
        sent = rows.grades[:, column][np.arange(len(rows)), first]
        return cls(
            table.signals(first), sent, rows.weak, rows.strong, comparable,
            None if rows.usd is None else rows.usd[:, column].sum(axis=1), rows.cost_strong,
        )  # fmt: skip

    @property
    def cheap(self) -> Float64Array:
        """Grades of what is sent where the strong model is not asked, float64[n]."""
        sent: Float64Array = np.where(self.comparable, self.grades, self.weak)
        return sent

    def escalated(self, probability: Float64Array, threshold: float, router: Bools) -> Bools:
        """Which prompts the strong model answers, bool[n]; ``router`` says so of answers that can't
        be compared."""
        asked: Bools = np.where(self.comparable, probability < threshold, router)
        return asked

    def chosen(self, escalated: Bools) -> tuple[Float64Array, Float64Array | None]:
        """Grades of what is sent and dollars, float64[..., n], of decisions bool[..., n]."""
        grades = np.where(escalated, self.strong, self.cheap)
        if self.cheap_usd is None or self.strong_usd is None:
            return grades, None
        return grades, self.cheap_usd + np.where(escalated, self.strong_usd, 0.0)

    def losses(
        self, goal: Goal, escalated: Bools, most_usd: float
    ) -> tuple[Float64Array, float, float]:
        """The losses of decisions bool[..., n], and their bounds."""
        if goal.kind == "share":
            return escalated.astype(np.float64) - goal.target, -goal.target, 1.0 - goal.target
        grades, usd = self.chosen(escalated)
        return goal.losses_of(grades, self.strong, usd, most_usd)


@dataclass(frozen=True, eq=False)
class Learnt:
    """A cascade that was learnt.

    Attributes:
        model: P(accept).
        evidence: of the rows that it was learnt from.
        held_out: float64[n], P(accept) there by models without the row.
        thresholds: to test, from the safest.
    """

    model: AcceptanceModel
    evidence: Evidence
    held_out: Float64Array
    thresholds: Float64Array


def answered(rows: Export) -> Bools:
    """Which rows have answers and grades of every cheap model, and a grade of the strong one."""
    cheap = [rows.models[0], *rows.models[2:]]
    known = (~np.isnan(rows.grades)).all(axis=1)
    return np.array([all(m in a for m in cheap) for a in rows.answers], dtype=np.bool_) & known


def learn_cascade(learn: Export, test: Export, goal: Goal, seed: int) -> Learnt | str:
    """A cascade learnt from ``learn``, or why there is none, in a sentence."""
    for rows in (learn.select(learn.has_all), test):
        share = float(answered(rows).mean()) if len(rows) else 0.0
        if share < _LEAST_ANSWERED:
            return (
                f"No cascade: {share:.0%} of the prompts have answers and grades of the weak model "
                f"and all helpers, where {_LEAST_ANSWERED:.0%} are needed."
            )
    rows = learn.select(answered(learn))
    evidence = Evidence.of(rows)
    usable = evidence.comparable
    accepted = (evidence.grades >= evidence.strong).astype(np.float64)[usable]
    signals = evidence.signals[usable]
    count = len(rows.models) - 1
    held_out = np.zeros(len(rows))
    try:
        model = fit_acceptance(signals, accepted, cheap_models=count, seed=seed)
        held_out[usable], _ = out_of_fold(signals, accepted, cheap_models=count, seed=seed)
    except InvalidInputError as error:
        return f"No cascade: {error}."
    levels = np.quantile(held_out[usable], np.arange(1, 100) / 100)
    between = np.unique(np.round(levels, 5))
    between = between[(between > 0.0) & (between < 1.0)]
    # A high threshold asks the strong model more often.
    thresholds = np.append(between[::-1], 0.0) if goal.from_strong else np.append(between, 1.0)
    model = replace(model, provenance=Provenance(trained_on=hash_prompts(rows.prompts)))
    return Learnt(model, evidence, held_out, thresholds)


def with_cascade(
    found: TuneResult,
    learn: Export,
    split: Split,
    *,
    helpers: Sequence[str],
    router_estimate: tuple[float, float],
    most_usd: float,
    z: float,
    seed: int,
) -> TuneResult:
    """``found``, a tuned router, or the cascade where it is the better one on the prompts that were
    learnt from; the other one is among the baselines.

    Args:
        found: the router, before its verdict.
        learn: rows to learn from.
        split: of the export.
        helpers: their names at their providers.
        router_estimate: what the router reaches on ``learn``, as ``_merit`` has it of a cascade.
        most_usd: what no choice costs more than, for a promise of spend.
        z: half width of the intervals, in standard errors.
        seed: of the folds.
    """
    goal = found.goal
    learnt = learn_cascade(learn, found.test, goal, seed)
    if isinstance(learnt, str):
        return replace(found, notes=(*found.notes, learnt))
    kept = answered(found.test)
    rows = found.test.select(kept)
    units = split.groups.ids[split.test][kept]
    evidence = Evidence.of(rows)
    router = found.escalated[kept] if found.certified else np.ones(len(rows), dtype=np.bool_)
    probability = learnt.model.probabilities(evidence.signals)
    asked = np.array([
        evidence.escalated(probability, threshold, router) for threshold in learnt.thresholds
    ])  # fmt: skip
    losses, low, high = evidence.losses(goal, asked, most_usd)
    by_unit = means_by_unit(units, np.asarray(losses))
    certificate = certify_losses(goal, learnt.thresholds, by_unit, low, high)
    merit, estimated = _merit(learnt, goal, most_usd)
    at = certificate.threshold if certificate.threshold is not None else estimated
    escalated = evidence.escalated(probability, at, router)
    policy = _measured(evidence, escalated, units, z)
    if merit <= router_estimate:
        return replace(found, baselines={**found.baselines, "cascade": policy})
    how = f"target {goal.kind} {goal.target:g} at {goal.confidence:.0%} confidence"
    word = "certified" if certificate.threshold is not None else "estimated"
    point = OperatingPoint(at, None, f"{how}, {word} on {certificate.prompts:,} prompts")
    model = replace(
        learnt.model, provenance=replace(learnt.model.provenance, operating_point=point)
    )
    need = np.where(evidence.comparable, 1.0 - probability, router)
    terms = rank_terms(need, evidence.strong - evidence.cheap)
    everyone = np.ones(len(rows))
    random = Graded(
        evidence.weak, evidence.strong, rows.cost_weak, rows.cost_strong, units, most_usd
    )
    tried = asked[(~asked if goal.from_strong else asked).mean(axis=1) >= _LEAST_MOVED]
    useful = np.asarray(evidence.losses(goal, tried, most_usd)[0])
    return replace(
        found,
        candidate="cascade",
        cascade=TunedCascade(tuple(helpers), model, at),
        threshold=at,
        certified=certificate.threshold is not None,
        router_certified=found.certified,
        p_value=certificate.p_value,
        information_p_value=p_value_of_mean(means_by_unit(units, terms)),
        policy=policy,
        baselines={
            **found.baselines,
            "random": measure_policy(random, policy.strong_share.value * everyone, z),
            "prompt_router": found.policy,
        },
        counts={**found.counts, "tested_on": certificate.prompts},
        labels_needed=labels_needed(goal, (means_by_unit(units, row) for row in useful), high),
        final_check=_final_check(found, split, learnt.model, at, z, probability),
        win_rates=need,
        escalated=escalated,
        cheap=evidence.cheap,
        test=rows,
    )


def _merit(learnt: Learnt, goal: Goal, most_usd: float) -> tuple[tuple[float, float], float]:
    """What the cascade reaches on held-out folds at the last threshold that meets the goal there
    (whether any does, and how good it is), and that threshold."""
    evidence = learnt.evidence
    router = np.full(len(learnt.held_out), goal.from_strong)
    asked = np.array([
        evidence.escalated(learnt.held_out, threshold, router) for threshold in learnt.thresholds
    ])  # fmt: skip
    losses, _, _ = evidence.losses(goal, asked, most_usd)
    met = np.flatnonzero(np.asarray(losses).mean(axis=1) <= 0.0)
    i = int(met[-1]) if len(met) else 0
    grades, usd = evidence.chosen(asked[i])
    return merit(goal, bool(len(met)), grades, usd, asked[i]), float(learnt.thresholds[i])


def merit(
    goal: Goal, is_met: bool, grades: Float64Array, usd: Float64Array | None, strong: Bools
) -> tuple[float, float]:
    """How good a policy is, to be compared with others': whether the goal is met, and then the
    dollars that are not spent (or the strong calls that are not made, where these are not known),
    or the quality where dollars or calls are limited."""
    if goal.from_strong:
        return float(is_met), -float(strong.mean() if usd is None else usd.mean())
    return float(is_met), float(grades.mean())


def _measured(
    evidence: Evidence, escalated: Bools, units: npt.NDArray[np.int64], z: float
) -> Policy:
    grades, usd = evidence.chosen(escalated)
    share = escalated.astype(np.float64)
    return measure_choice(units, share, grades, evidence.strong, usd, evidence.strong_usd, z)


def _final_check(
    found: TuneResult,
    split: Split,
    model: AcceptanceModel,
    threshold: float,
    z: float,
    before: Float64Array,
) -> FinalCheck | None:
    rows = found.export.select(split.final)
    kept = answered(rows) if len(rows) else np.zeros(0, dtype=np.bool_)
    if not kept.any():
        return None
    rows, units = rows.select(kept), split.groups.ids[split.final][kept]
    evidence = Evidence.of(rows)
    router = np.ones(len(rows), dtype=np.bool_)
    if found.certified:
        router = found.router.win_rates(rows.prompts) >= found.threshold
    probability = model.probabilities(evidence.signals)
    escalated = evidence.escalated(probability, threshold, router)
    losses, _, _ = evidence.losses(found.goal, escalated, math.inf)
    by_unit = means_by_unit(units, np.asarray(losses))
    return FinalCheck(
        len(by_unit), _measured(evidence, escalated, units, z),
        smirnov_p_value(before, probability), bool(by_unit.mean() <= 0.0),
    )  # fmt: skip
