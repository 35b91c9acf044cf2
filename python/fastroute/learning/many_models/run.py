"""Tunes a choice among more than two models: learns, certifies, and says whether to use it.

The rows are split as for a pair (``tune.split``). From 40 % of the prompts a ``models`` router is
learnt (P(success) of each model), and compared by nested folds with the nearest graded prompts,
clusters and single models. The policy is ``best_value``, the greatest P(success) - price * dollars:
on the other 60 % its price of money is certified by risk control, from the safe end: 0, the best
quality, where a quality is promised; and the dearest price, the cheapest model, for a spend.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fastroute._checks import check_integer
from fastroute.artifacts import hash_prompts
from fastroute.candidates import Candidate
from fastroute.candidates.candidate import BYTES_PER_TOKEN
from fastroute.candidates.prices import Prices
from fastroute.data.grade_table import GradeTable
from fastroute.errors import InvalidInputError
from fastroute.evaluation.many_models.frontier import PRICES
from fastroute.evaluation.many_models.run import evaluate_models
from fastroute.learning.many_models.result import Held, ModelsResult
from fastroute.learning.many_models.verdict import decided
from fastroute.learning.tune.costs import Price
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.groups import folds_of_groups
from fastroute.learning.tune.guarantee import Goal, certify_losses, means_by_unit
from fastroute.learning.tune.measure import (
    critical_value,
    measure_choice,
    p_value_of_mean,
    smirnov_p_value,
)
from fastroute.learning.tune.result import FinalCheck, Policy
from fastroute.learning.tune.split import Split, labels_needed, split_rows
from fastroute.provenance import Provenance
from fastroute.routers import ModelsRouter
from fastroute.routers.many_models.fit import Fitted, fit_estimator
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.embedding import embed
from fastroute.training.with_tokens import with_tokens
from fastroute.types import Float64Array, IntArray

FOLDS = 5
_COST_ROOM = 2.0
#: Certificates that save less than this share of the best model's dollars are not looked for.
_LEAST_SAVED = 0.1


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows with all grades, what each answer cost, and what it was expected to cost.

    Attributes:
        export, units: the rows, and the near-duplicates among them.
        usd, expected: float64[n, m].
        best: the model that quality is compared with.
        z: half width of the intervals, in standard errors.
    """

    export: Export
    units: IntArray
    usd: Float64Array
    expected: Float64Array
    best: int
    z: float

    def by_unit(self, values: Float64Array) -> Float64Array:
        return means_by_unit(self.units, values)

    def of(self, shares: Float64Array) -> Policy:
        """The policy that gives row i to model j with probability shares[i, j]."""
        grades = (shares * self.export.grades).sum(axis=1)
        spent = (shares * self.usd).sum(axis=1)
        reference = self.export.grades[:, self.best], self.usd[:, self.best]
        return measure_choice(
            self.units, shares[:, self.best], grades, reference[0], spent, reference[1], self.z
        )

    def losses(
        self, goal: Goal, chosen: IntArray, most_usd: float
    ) -> tuple[Float64Array, float, float]:
        """By distinct prompt, of choices int[..., n]."""
        row = np.arange(len(self.units))
        losses, low, high = goal.losses_of(
            self.export.grades[row, chosen], self.export.grades[:, self.best],
            self.usd[row, chosen], most_usd,
        )  # fmt: skip
        return self.by_unit(np.asarray(losses)), low, high


def tune_models(
    export: Export,
    goal: Goal,
    *,
    names: Mapping[str, str] | None = None,
    prices: Mapping[str, Price] | None = None,
    requests_per_month: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> ModelsResult:
    """Tune a choice among the models of an export; see the module.

    Args:
        export: from ``read_export``, of more than two models.
        goal: a quality, as a part of the best model's, or a spend.
        names: models' names at their providers, by their names in the export where they differ.
        prices: dollars per million tokens by model of the export. A model without is expected to
            cost its mean dollars.
        requests_per_month: for dollars a month.
        seed: of the splits.
        progress: show a bar on a terminal.

    Raises InvalidInputError for a share as the goal, unknown dollars, fewer than 125 or so distinct
    prompts with all grades, or a model with too few of them.
    """
    check_integer("seed", seed, 0)
    if requests_per_month is not None:
        check_integer("requests_per_month", requests_per_month, 1)
    if goal.kind == "share":
        raise InvalidInputError(
            "a target of share needs a pair of models (weak, strong); give a quality or a spend"
        )
    if export.usd is None:
        raise InvalidInputError(
            f"{export.understood[-1]}; a choice among models needs the dollars of each: give "
            "prices, or columns of costs, or name the models to choose among (--models)"
        )
    default = MatrixFactorizationRouter.load_default()
    split = split_rows(export, default, seed)
    candidates = _candidates(export, names or {}, prices or {})
    learn = export.select(split.learn)
    router, fitted, held_out, notes = _learn(
        learn, split, candidates, default, seed, progress=progress
    )
    best = int(np.nanmean(learn.grades, axis=0).argmax())
    z = critical_value(goal.confidence)
    assert learn.usd is not None
    most_usd = _COST_ROOM * float(learn.usd.max())
    tried = _prices_to_try(goal, held_out, _expected(learn, candidates)[fitted])
    test = _rows(export.select(split.test), split.groups.ids[split.test], candidates, best, z)
    probability = router.estimate(test.export.prompts).probability
    choices = np.array([choose(probability, test.expected, price) for price in tried])
    losses, low, high = test.losses(goal, choices, most_usd)
    certificate = certify_losses(goal, tried, losses, low, high)
    price = certificate.threshold
    if price is None:
        price = float(tried[0])
    chosen = choices[int(np.flatnonzero(tried == price)[0])]
    share = np.bincount(chosen, minlength=len(candidates)) / len(chosen)
    one = np.eye(len(candidates))
    policy = test.of(one[chosen])
    random = np.tile(share, (len(chosen), 1))
    order = [candidate.name for candidate in candidates]
    cheapest = int(test.expected.mean(axis=0).argmin())
    mixture = _mixture(learn, float((test.usd[np.arange(len(chosen)), chosen]).mean()))
    found = ModelsResult(
        verdict="do_not_use",
        recommendation="single_model",
        recommended_model=order[best if goal.from_strong else cheapest],
        reasons=(),
        advice=(),
        goal=goal,
        best=order[best],
        cheapest=order[cheapest],
        router=replace_pair(router, order[best], order[cheapest]),
        candidates=candidates,
        quality_per_usd=price,
        certified=certificate.threshold is not None,
        p_value=certificate.p_value,
        information_p_value=p_value_of_mean(test.by_unit(_gains(choices, test.export.grades))),
        policy=policy,
        shares=dict(zip(order, share.tolist(), strict=True)),
        baselines={
            "best_model": test.of(np.tile(one[best], (len(chosen), 1))),
            "cheapest_model": test.of(np.tile(one[cheapest], (len(chosen), 1))),
            "random": test.of(random),
            "mixture": test.of(np.tile(mixture, (len(chosen), 1))),
        },
        singles={name: test.of(np.tile(one[j], (len(chosen), 1))) for j, name in enumerate(order)},
        held=_held(learn, split, candidates, seed),
        counts=split.counts(export, certificate.prompts),
        labels_needed=_labels_needed(goal, test, choices, losses, high),
        final_check=_final_check(goal, export, split, router, candidates, price, test, probability),
        notes=(*split.notes, *notes),
        export=export,
        curve=_curve(test, choices),
        test=test.export,
        chosen=chosen,
        probability=probability,
        requests_per_month=requests_per_month,
    )
    return decided(found, certified_singles=_certified_singles(goal, test, most_usd, order))


def choose(probability: Float64Array, usd: Float64Array, quality_per_usd: float) -> IntArray:
    """The model of each row as ``BestValue`` chooses it, int[n], of float64[n, m] each."""
    cheaper_first = np.argsort(usd, axis=1, kind="stable")
    value = probability - quality_per_usd * usd
    place = np.take_along_axis(value, cheaper_first, axis=1).argmax(axis=1)
    chosen: IntArray = cheaper_first[np.arange(len(usd)), place].astype(np.intp)
    return chosen


def replace_pair(router: ModelsRouter, strong: str, weak: str) -> ModelsRouter:
    """The router with another pair for ``--router models=FOLDER``, where they are two models."""
    if strong == weak:
        return router
    return ModelsRouter(
        router.estimator, strong_model=strong, weak_model=weak, embedder=router.embedder,
        provenance=router.provenance,
    )  # fmt: skip


def _candidates(
    export: Export, names: Mapping[str, str], prices: Mapping[str, Price]
) -> tuple[Candidate, ...]:
    """The models with their prices; one without costs its mean dollars, whatever is asked."""
    assert export.usd is not None
    for unknown in names.keys() - set(export.models):
        raise InvalidInputError(
            f"names: {unknown!r} is not one of the models, {', '.join(export.models)}"
        )
    found = []
    for j, model in enumerate(export.models):
        tokens = max(export.answer_tokens[model], 1.0)
        price = prices.get(model)
        if price is None:
            price = Price(0.0, 1e6 * float(export.usd[:, j].mean()) / tokens)
        found.append(Candidate(
            names.get(model, model), float(price.input_usd_per_mtok),
            float(price.output_usd_per_mtok), answer_tokens=round(tokens, 1),
        ))  # fmt: skip
    if len({candidate.name for candidate in found}) < len(found):
        raise InvalidInputError("two models have the same name at their providers")
    return tuple(found)


def _expected(rows: Export, candidates: tuple[Candidate, ...]) -> Float64Array:
    """Dollars that ``CandidateDecider`` expects, float64[n, m]."""
    prices = Prices(candidates)
    sizes = [len(p.encode("utf-8", "surrogatepass")) / BYTES_PER_TOKEN for p in rows.prompts]
    return np.array([prices.dollars(size) for size in sizes]).reshape(-1, len(candidates))


def _rows(
    rows: Export, units: IntArray, candidates: tuple[Candidate, ...], best: int, z: float
) -> _Rows:
    assert rows.usd is not None
    return _Rows(rows, units, rows.usd, _expected(rows, candidates), best, z)


def _learn(
    learn: Export,
    split: Split,
    candidates: tuple[Candidate, ...],
    default: MatrixFactorizationRouter,
    seed: int,
    *,
    progress: bool,
) -> tuple[ModelsRouter, IntArray, Float64Array, list[str]]:
    """The router, the rows that it was fitted to, their held-out P(success), and notes."""
    embedder = default.embedder
    assert embedder is not None
    X = embed(embedder, learn.prompts, progress=progress)
    said = with_tokens(X, embedder)
    folds = folds_of_groups(split.groups.ids[split.learn][said], FOLDS, seed)
    fitted: Fitted = fit_estimator(
        [candidate.name for candidate in candidates], np.ascontiguousarray(X[said]),
        learn.grades[said], folds, difficulty=default.direction if split.use_default else None,
    )  # fmt: skip
    router = ModelsRouter(
        fitted.estimator,
        embedder=embedder,
        provenance=Provenance(
            data=(Path(learn.file).name,), trained_on=hash_prompts(learn.prompts)
        ),
    )
    notes = []
    if not fitted.log_loss < fitted.level_log_loss - fitted.standard_error:
        notes.append(
            f"P(success) by prompt is hardly better than the models' mean grades on held-out "
            f"prompts (log-loss {fitted.log_loss:.4f}, theirs {fitted.level_log_loss:.4f})."
        )
    return router, np.flatnonzero(said), fitted.held_out, notes


def _prices_to_try(goal: Goal, probability: Float64Array, usd: Float64Array) -> Float64Array:
    """Prices of money to test, from the safest: those at which other models are chosen for held-out
    prompts than at the price before. Rounded as ``best_value`` is written."""
    scale = float(usd.mean()) or 1.0
    found: list[float] = []
    before: IntArray | None = None
    for price in PRICES:
        rounded = float(f"{price / scale:.4g}")
        chosen = choose(probability, usd, rounded)
        if before is None or (chosen != before).any():
            found.append(rounded)
        before = chosen
    return np.array(found if goal.from_strong else found[::-1])


def _mixture(learn: Export, usd: float) -> Float64Array:
    """Shares of one or two models that reach the most on the prompts that were learnt from, for
    ``usd`` a prompt: float64[m]."""
    assert learn.usd is not None
    quality, cost = np.nanmean(learn.grades, axis=0), learn.usd.mean(axis=0)
    m = len(cost)
    best = -math.inf
    shares: Float64Array = np.eye(m)[int(cost.argmin())]
    for i in range(m):
        for j in range(m):
            if cost[i] > usd or (i != j and cost[j] <= usd):
                continue
            dear = 0.0 if i == j else (usd - cost[i]) / (cost[j] - cost[i])
            value = float((1.0 - dear) * quality[i] + dear * quality[j])
            if value > best:
                best, shares = value, (1.0 - dear) * np.eye(m)[i] + dear * np.eye(m)[j]
    return shares


def _held(
    learn: Export, split: Split, candidates: tuple[Candidate, ...], seed: int
) -> dict[str, Held]:
    """The router and its rivals by nested folds, one prompt of each group of near-duplicates."""
    rows = np.flatnonzero(learn.has_all)
    _, first = np.unique(split.groups.ids[split.learn][rows], return_index=True)
    part = learn.select(rows[np.sort(first)])
    assert part.usd is not None
    order = np.argsort([candidate.name for candidate in candidates], kind="stable")
    table = GradeTable(
        part.prompts, ("export",) * len(part), tuple(candidates[j].name for j in order),
        part.grades[:, order], part.usd[:, order],
    )  # fmt: skip
    embedder = MatrixFactorizationRouter.load_default().embedder
    assert embedder is not None
    report = evaluate_models(table, candidates, embedder, folds=FOLDS, resamples=0, seed=seed)
    return {
        method.name: Held(method.aiq, method.quality, method.gain.value)
        for method in report.methods
    }


def _certified_singles(
    goal: Goal, test: _Rows, most_usd: float, order: list[str]
) -> tuple[str, ...]:
    """Models that keep the promise alone, from the cheapest; tested at a part of the level."""
    m = len(order)
    strict = replace(goal, confidence=1.0 - (1.0 - goal.confidence) / m)
    found = []
    for j in np.argsort(test.usd.mean(axis=0), kind="stable").tolist():
        losses, low, high = test.losses(goal, np.full((1, len(test.units)), j), most_usd)
        if certify_losses(strict, np.zeros(1), losses, low, high).threshold is not None:
            found.append(order[j])
    return tuple(found)


def _labels_needed(
    goal: Goal, test: _Rows, choices: IntArray, losses: Float64Array, high: float
) -> int | None:
    row = np.arange(len(test.units))
    spent = test.usd[row, choices].mean(axis=1)
    dearest = float(test.usd[:, test.best].mean())
    useful = spent <= (1.0 - _LEAST_SAVED) * dearest if goal.from_strong else spent > spent.min()
    return labels_needed(goal, losses[useful], high)


def _gains(choices: IntArray, grades: Float64Array) -> Float64Array:
    """What each row gains over a choice at random with the same shares, mean over the prices that
    were tried, float64[n]. The certified price alone would flatter: the test rows chose it."""
    m = grades.shape[1]
    shares = np.array([np.bincount(chosen, minlength=m) for chosen in choices]) / choices.shape[1]
    reached = grades[np.arange(len(grades)), choices].mean(axis=0)
    gains: Float64Array = reached - grades @ shares.mean(axis=0)
    return gains


def _curve(test: _Rows, choices: IntArray) -> Float64Array:
    row = np.arange(len(test.units))
    usd = test.by_unit(test.usd[row, choices]).mean(axis=1)
    quality = test.by_unit(test.export.grades[row, choices]).mean(axis=1)
    of_best = test.by_unit(test.export.grades[:, test.best]).mean()
    return np.stack([1000.0 * usd, quality / max(float(of_best), 1e-9)], axis=1)


def _final_check(
    goal: Goal,
    export: Export,
    split: Split,
    router: ModelsRouter,
    candidates: tuple[Candidate, ...],
    price: float,
    test: _Rows,
    before: Float64Array,
) -> FinalCheck | None:
    if not split.final.any():
        return None
    units = split.groups.ids[split.final]
    rows = _rows(export.select(split.final), units, candidates, test.best, test.z)
    probability = router.estimate(rows.export.prompts).probability
    chosen = choose(probability, rows.expected, price)
    losses, _, _ = rows.losses(goal, chosen, math.inf)
    # Drift of how hard the prompts are: the mean of the models' P(success).
    drift = smirnov_p_value(before.mean(axis=1), probability.mean(axis=1))
    policy = rows.of(np.eye(len(candidates))[chosen])
    return FinalCheck(len(losses), policy, drift, bool(losses.mean() <= 0.0))
