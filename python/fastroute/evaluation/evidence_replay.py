"""Replay recorded answers: which prompts a cascade by evidence sends to the strong model.

Every prompt is answered by the weak model and the helpers. The cascade sends one of their answers,
or asks the strong model. It is compared with prompt routers, which make one call per
prompt, on two axes: the share of strong calls, and dollars, with every call counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastroute._checks import check_integer, check_resampling
from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.answers import RecordedAnswers
from fastroute.evaluation.metrics.bootstrap import (
    Estimate,
    Ranked,
    estimate,
    least_share,
    resample_counts,
)
from fastroute.evaluation.plain import plain
from fastroute.evidence.acceptance import fold_numbers, out_of_fold
from fastroute.evidence.comparison import compare
from fastroute.evidence.kinds import Expectation
from fastroute.evidence.signals import SIGNALS, signals
from fastroute.types import BoolArray, Float64Array, IntArray

AGREEMENT = "agreement"
LEARNED = "agreement and signals, learned"
LEARNED_ANY = "the same, sending the best cheap answer"

_AGREEING = SIGNALS.index("agreeing")


@dataclass(frozen=True)
class Policy:
    """Figures of one policy, with 95 % intervals."""

    name: str  #: of the policy
    #: mean performance gap recovered over the share of strong calls, against the weak model alone;
    #: NaN for a single model.
    apgr: Estimate
    quality: float  #: mean score at its operating point (single models, and the rule of agreement)
    strong_share: float  #: the share of strong calls at that point
    usd: float | None  #: dollars per prompt at that point, None without prices
    #: the least share of strong calls with the strong model's quality; NaN for none.
    parity_share: Estimate
    #: the least cost with the strong model's quality, as a share of the strong model's own cost,
    #: every call counted; None without prices, NaN where it isn't reached.
    parity_cost: Estimate | None


@dataclass(frozen=True)
class Replay:
    """The figures of ``replay``."""

    prompts: int  #: how many there are
    #: weak, strong: the pair.
    weak: str
    strong: str
    helpers: tuple[str, ...]  #: the models asked beside the weak one
    policies: tuple[Policy, ...]  #: the cascade's and its rivals' figures
    outcomes: Mapping[str, int]  #: how many prompts' answers agree, disagree, or can't be compared
    #: what the learned cascade sends when it accepts: one model's answer, or that of the largest
    #: group of equal answers, and of one model where groups are equally large. Chosen in each fold
    #: on the others; this is the most frequent choice.
    served: str
    #: mean absolute difference of predicted and observed acceptance in ten equally filled bins, out
    #: of fold.
    calibration_error: float
    folds: int  #: in how many the acceptance model was fitted and scored
    #: median_latency_s, p99_latency_s: of the rule of agreement; None without recorded times.
    median_latency_s: float | None = None
    p99_latency_s: float | None = None
    #: what a reader must know to interpret the figures, such as estimated token counts.
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON; NaN becomes None."""

        found: dict[str, Any] = plain(self)
        return found


def replay(
    recorded: RecordedAnswers,
    *,
    weak: str,
    strong: str,
    helpers: Sequence[str],
    prices: Mapping[str, tuple[float, float]] | None = None,
    prompt_win_rates: Mapping[str, Float64Array] | None = None,
    folds: int = 5,
    resamples: int = 1000,
    seed: int = 0,
) -> Replay:
    """Measure a cascade on recorded answers.

    Args:
        recorded: from ``read_answers``.
        weak, strong, helpers: models in it; a helper may be a second run of the weak model.
        prices: dollars per million tokens, in and out, of every model; without them no dollars.
        prompt_win_rates: by router, float64[m]: prompt routers to compare with.
        folds: the acceptance model that scores a fold is fitted on the others.
        resamples: bootstrap resamples of the intervals.
        seed: of folds and resamples.

    Raises InvalidInputError for an unknown model, a model used twice, a missing price, or a strong
    model that isn't better than the weak one.
    """
    check_integer("folds", folds, 2, 100)
    check_resampling(resamples, seed)
    models = [weak, *helpers, strong]
    recorded.check_models(models)
    if len(set(models)) < len(models):
        raise InvalidInputError(
            f"weak, strong and helpers must be different models, got {', '.join(models)}"
        )
    if prices is not None and (missing := [m for m in models if m not in prices]):
        raise InvalidInputError(f"no price for {', '.join(missing)}; give one for every model")
    w, s = recorded.pair_scores(weak, strong)
    cheap = [weak, *helpers]
    table = AnswerTable(recorded, cheap)
    costs = _costs(recorded, models, prices)
    counts = list(resample_counts(len(w), resamples, seed)) if resamples else []
    measure = _Measure(w, s, None if costs is None else costs[strong], counts)
    once = None if costs is None else costs[weak]
    every = None if costs is None else np.sum([costs[m] for m in cheap], axis=0)

    grades = np.column_stack([recorded.scores[m] for m in cheap])
    of_weak = _learned(table, cheap[:1], grades, s, folds, seed)
    learned = _learned(table, cheap, grades, s, folds, seed) if helpers else of_weak
    agree = table.outcomes == "agree"
    first = table.served(plurality=True, model=0)
    agreed = np.where(agree, grades[np.arange(len(w)), first], w)
    agreeing = table.signals(first)[:, _AGREEING]
    policies = [
        measure.single(name, recorded.scores[m], None if costs is None else costs[m], m == strong)
        for name, m in [(weak, weak), *((f"{h} (helper)", h) for h in helpers), (strong, strong)]
    ]
    policies += [
        measure.cascade(AGREEMENT, 1 - agreeing * agree, agreed, every, ~agree),
        measure.cascade(LEARNED, of_weak.score, of_weak.quality, every),
        measure.cascade(LEARNED_ANY, learned.score, learned.quality, every),
    ]
    prompt_routers = {
        **(prompt_win_rates or {}),
        "length": np.array([float(len(p)) for p in recorded.prompts]),
        "random": np.zeros(len(w)),
        "oracle": s - w,
    }
    policies += [measure.prompt_router(name, x, w, once) for name, x in prompt_routers.items()]
    latency = _latency(recorded, cheap, strong, table)
    notes = []
    if recorded.estimated_tokens and prices is not None:
        notes.append("token counts are estimated at 4 characters per token")
    if recorded.dropped:
        notes.append(f"{recorded.dropped} rows have no match in every file and are left out")
    return Replay(
        len(w),
        weak,
        strong,
        tuple(helpers),
        tuple(policies),
        {
            name: int((table.outcomes == name).sum())
            for name in ("agree", "disagree", "incomparable")
        },
        learned.served,
        learned.calibration_error,
        folds,
        None if latency is None else latency[0],
        None if latency is None else latency[1],
        tuple(notes),
    )


class AnswerTable:
    """What the answers of the cheap models show, before any grade is looked at."""

    def __init__(self, recorded: RecordedAnswers, cheap: Sequence[str]) -> None:
        self._prompts = recorded.prompts
        self._answers = list(zip(*(recorded.answers[model] for model in cheap), strict=True))
        self._expectations = [Expectation.from_prompt(prompt) for prompt in recorded.prompts]
        found = [compare(a, e) for a, e in zip(self._answers, self._expectations, strict=True)]
        #: "agree", "disagree" or "incomparable", str[m].
        self.outcomes = np.array([comparison.outcome for comparison in found])
        #: int[m, n], the group of equal values of each model's answer, -1 for no value.
        self.groups = np.array([comparison.groups for comparison in found])
        self._signals: dict[bytes, Float64Array] = {}

    def served(self, *, plurality: bool, model: int) -> IntArray:
        """Which model's answer is sent, int[m]: ``model``'s, or one of the largest group, which is
        ``model``'s where it is among the largest."""
        if not plurality:
            return np.full(len(self.groups), model)
        sizes = (self.groups[:, :, None] == self.groups[:, None, :]).sum(2) * (self.groups >= 0)
        preferred: IntArray = sizes * 2 + (np.arange(sizes.shape[1]) == model)
        return np.asarray(preferred.argmax(axis=1), np.intp)

    def signals(self, first: IntArray) -> Float64Array:
        """float64[m, len(SIGNALS)], with the answer ``first`` of each prompt as the one to send."""
        key = first.tobytes()
        if key not in self._signals:
            rows = []
            for prompt, answers, expectation, i in zip(
                self._prompts, self._answers, self._expectations, first, strict=True
            ):
                places = [i, *(j for j in range(len(answers)) if j != i)]
                ordered = [answers[j] for j in places]
                rows.append(signals(prompt, ordered, expectation, places=places))
            self._signals[key] = np.array(rows)
        return self._signals[key]


@dataclass(frozen=True)
class _Learned:
    """Out-of-fold: scores (higher: ask the strong model), grades of what is sent otherwise."""

    score: Float64Array
    quality: Float64Array
    calibration_error: float
    served: str


def _learned(
    table: AnswerTable,
    senders: Sequence[str],
    grades: Float64Array,
    strong: Float64Array,
    folds: int,
    seed: int,
) -> _Learned:
    """The acceptance model, and what is sent on acceptance, each fold's chosen on the others: the
    answer of one of ``senders``, or of the largest group, and of a sender among equal groups."""
    m = len(strong)
    choices = {
        (f"plurality, else {name}" if plurality else name): table.served(
            plurality=plurality, model=i
        )
        for plurality in (False, True)
        for i, name in enumerate(senders)
    }
    qualities = {name: grades[np.arange(m), first] for name, first in choices.items()}
    predictions: dict[str, tuple[Float64Array, Float64Array]] = {}
    fold = fold_numbers(m, folds, seed)
    score, quality, predicted = np.empty((3, m))
    chosen = []
    for k in range(folds):
        rows = fold == k
        name = max(choices, key=lambda c: qualities[c][~rows].mean())
        if name not in predictions:
            accepted = (qualities[name] >= strong).astype(np.float64)
            predictions[name] = out_of_fold(
                table.signals(choices[name]),
                accepted,
                cheap_models=table.groups.shape[1],
                folds=folds,
                seed=seed,
            )
        probability, rank = predictions[name]
        quality[rows], predicted[rows] = qualities[name][rows], probability[rows]
        score[rows] = 1 - rank[rows]
        chosen.append(name)
    bins = np.array_split(np.argsort(predicted, kind="stable"), 10)
    good = quality >= strong
    error = sum(len(b) * abs(predicted[b].mean() - good[b].mean()) for b in bins) / m
    return _Learned(score, quality, float(error), max(set(chosen), key=chosen.count))


def _costs(
    recorded: RecordedAnswers,
    models: Sequence[str],
    prices: Mapping[str, tuple[float, float]] | None,
) -> dict[str, Float64Array] | None:
    """Dollars of each model's answer to each prompt."""
    if prices is None:
        return None
    return {m: recorded.tokens[m] @ np.array(prices[m], np.float64) / 1e6 for m in models}


def _latency(
    recorded: RecordedAnswers, cheap: Sequence[str], strong: str, table: AnswerTable
) -> tuple[float, float] | None:
    """Median and 99th percentile of seconds: the cheap models run side by side, the first two that
    agree end the wait, and the strong model is asked after the last of them."""
    if any(m not in recorded.latency_s for m in (*cheap, strong)):
        return None
    times = np.column_stack([recorded.latency_s[m] for m in cheap])
    seconds = np.empty(len(times))
    for i, (row, groups) in enumerate(zip(times, table.groups, strict=True)):
        pairs = [
            np.sort(row[groups == g])[1]
            for g in set(groups.tolist()) - {-1}
            if (groups == g).sum() > 1
        ]
        seconds[i] = min(pairs, default=row.max() + recorded.latency_s[strong][i])
    return float(np.median(seconds)), float(np.percentile(seconds, 99))


@dataclass(frozen=True)
class _Measure:
    """Figures of a policy on all prompts and on resamples of them."""

    weak: Float64Array
    strong: Float64Array
    strong_cost: Float64Array | None
    counts: Sequence[Float64Array]

    def single(
        self, name: str, quality: Float64Array, cost: Float64Array | None, strong: bool
    ) -> Policy:
        """One model for all prompts."""
        nothing = Estimate(float("nan"))
        usd = None if cost is None else float(cost.mean())
        parity = None if cost is None else nothing
        return Policy(name, nothing, float(quality.mean()), float(strong), usd, nothing, parity)

    def prompt_router(
        self, name: str, score: Float64Array, quality: Float64Array, cost: Float64Array | None
    ) -> Policy:
        """One call for each prompt; the strong model's in falling order of ``score``."""
        return self._policy(name, score, quality, cost, np.zeros(len(score)), None)

    def cascade(
        self,
        name: str,
        score: Float64Array,
        quality: Float64Array,
        cost: Float64Array | None,
        escalated: BoolArray | None = None,
    ) -> Policy:
        """Every cheap call is paid for every prompt, and the strong one in falling order of
        ``score``; ``quality`` is of what is sent otherwise."""
        always = np.zeros(len(score)) if cost is None else cost
        free = None if cost is None else np.zeros(len(score))
        return self._policy(name, score, quality, free, always, escalated)

    def _policy(
        self,
        name: str,
        score: Float64Array,
        quality: Float64Array,
        cost: Float64Array | None,
        always: Float64Array,
        escalated: BoolArray | None,
    ) -> Policy:
        costs = (None, None) if cost is None else (cost, self.strong_cost)
        points = Ranked(score, quality, self.strong, *costs)

        def figures(counts: Float64Array) -> Float64Array:
            """APGR, parity and its cost, float64[b, 3], of rows of counts, float64[b, n]."""
            n = counts.shape[1]
            ranked = counts[:, points.order]
            share = points.at_group_ends(ranked) / n
            gain = points.at_group_ends(ranked * points.gain) / n
            q = (ranked @ points.weak / n)[:, None] + gain
            weak, strong = counts @ self.weak / n, counts @ self.strong / n
            gap = np.where(strong > weak, strong - weak, np.nan)
            apgr = (np.trapezoid(q, share, axis=1) - weak) / gap
            parity = least_share(share, q - strong[:, None], 0.0)
            spent = np.full(len(counts), np.nan)
            if not (points.cost_weak is None or points.extra is None or self.strong_cost is None):
                extra = points.at_group_ends(ranked * points.extra) / n
                at_parity = [np.interp(*row) for row in zip(parity, share, extra, strict=True)]
                spent = np.array(at_parity) + ranked @ points.cost_weak / n + counts @ always / n
                spent /= counts @ self.strong_cost / n
            return np.stack([apgr, parity, spent], axis=1)

        samples = np.concatenate([figures(chunk) for chunk in self.counts] or [np.empty((0, 3))])
        apgr, parity, parity_cost = (
            Estimate(value)
            if not (len(samples) and np.isfinite(value))
            else estimate(float(value), samples[np.isfinite(samples[:, i]), i])
            for i, value in enumerate(figures(np.ones((1, len(score))))[0].tolist())
        )
        at_quality, at_share, usd = float("nan"), float("nan"), None
        if escalated is not None:
            at_quality = float(np.where(escalated, self.strong, quality).mean())
            at_share = float(escalated.mean())
            if cost is not None and self.strong_cost is not None:
                usd = float((always + np.where(escalated, self.strong_cost, cost)).mean())
        return Policy(
            name, apgr, at_quality, at_share, usd, parity, None if cost is None else parity_cost
        )
