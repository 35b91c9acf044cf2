"""Estimates of a policy that did not run: inverse propensity, self-normalised, doubly robust.

For request i the policy that ran chose model a_i with probability p_i(a_i), given its choices
before in the conversation; the target policy would choose model m with probability t_i(m). With
outcome y_i, an outcome model q_i(m) that was fitted on the other conversations, and the weight w_i,
the product of t_j(a_j) / p_j(a_j) over the conversation's requests up to i::

    inverse propensity   mean of w_i y_i
    self-normalised      sum of w_i y_i / sum of w_i
    doubly robust        mean of  sum_m t_i(m) q_i(m) + w_i (y_i - q_i(a_i))

(Horvitz and Thompson 1952; Precup et al. 2000 for the product; Swaminathan and Joachims 2015;
Dudik, Langford and Li 2011, arXiv 1103.4601; cross-fitting after Chernozhukov et al. 2018, arXiv
1608.00060.) Where shadows were asked, they stand in for what was not sent, weighted by 1 over the
probability that they were asked, and w_i is t_i(a_i); or only for what could not be sent,
p_i(m) = 0, and w_i is t_i(a_i) / p_i(a_i): whichever has the smaller weights. Where only some
answers are graded, each counts for 1 over the graded share of its model's answers. It is taken that
what a user writes does not depend on which model answered before.

Requests of one conversation are one unit. Intervals are by the studentised bootstrap over
conversations (Hall 1992), which follows the skew that large weights bring, and not narrower than
Student's at the effective number of conversations. What has no support, up to a limit, is left to
the outcome model, and the interval is wider by its typical error there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from numpy.random import Generator, default_rng

from fastroute.learning.replay.log import Log, Outcomes
from fastroute.types import Float64Array

#: Units of evidence (effective conversations) below which nothing is estimated.
LEAST_EFFECTIVE = 40.0
#: The greatest share of the target's choices that the log may have no support for.
MOST_UNSUPPORTED = 0.05
_FOLDS = 5
_RESAMPLES = 1000
# More conversations are put together at random: an interval needs no more units than that.
_MOST_UNITS = 1000
_RIDGE = 1.0
# A choice that the target makes so many times as often as the policy that ran is a rare one.
_RARE = 2.0
# Shadows cover what they should if their weights sum to about the requests that they stand for.
_LEAST_COVERED = 0.5


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean a request.

    Attributes:
        value: the estimate.
        low, high: ends of the interval.
        effective: effective sample size, in conversations: (sum w)^2 / sum w^2.
        refusal: why there is none; value and ends are NaN then. "" where there is one.
    """

    value: float
    low: float
    high: float
    effective: float
    refusal: str = ""


@dataclass(frozen=True, eq=False)
class Terms:
    """An estimate with the influence of each conversation on it, float64[G], and what its interval
    is wider by on either side."""

    value: float
    influence: Float64Array
    effective: float
    refusal: str = ""
    allowance: float = 0.0

    def interval(self, confidence: float, seed: int = 0) -> Estimate:
        """The interval at ``confidence``."""
        if self.refusal:
            return Estimate(np.nan, np.nan, np.nan, self.effective, self.refusal)
        low, high = studentised_interval(self.influence, confidence, seed, self.effective)
        low, high = low - self.allowance, high + self.allowance
        return Estimate(self.value, self.value - high, self.value - low, self.effective)

    def minus(self, other: Terms) -> Terms:
        """The difference of two estimates from one log."""
        return Terms(
            self.value - other.value,
            self.influence - other.influence,
            min(self.effective, other.effective),
            self.refusal or other.refusal,
            self.allowance + other.allowance,
        )


def estimate(log: Log, target: Float64Array, name: str, method: str = "doubly_robust") -> Terms:
    """The mean outcome ``name`` (grade, latency_ms, output_tokens, cost_usd) under a target policy.

    Args:
        target: float64[n, K], the probability with which it chooses each model.
        method: ``inverse_propensity``, ``self_normalised`` or ``doubly_robust``.
    """
    return _Estimator(log, target, name).terms(method)


class _Estimator:
    def __init__(self, log: Log, target: Float64Array, name: str) -> None:
        self.log, self.target, self.name = log, target, name
        _, self.units = np.unique(log.conversation, return_inverse=True)
        self.parts = (log.sent, log.shadows)
        could = True if log.eligible is None else log.eligible
        self.uncovered: Float64Array = np.where(could, 0.0, target).mean(axis=0)
        self.weights = self._weights()
        self.rare = [weight > _RARE for weight in self.weights]
        self.outcomes = [np.array(getattr(part, name), dtype=np.float64) for part in self.parts]
        self._count_observed()

    def _weights(self) -> list[Float64Array]:
        """Of the answers that were sent, and of shadows."""
        log, t, n = self.log, self.target, len(self.log)
        row, model = log.shadows.row, log.shadows.model
        was_sent = np.zeros_like(t, dtype=np.bool_)
        was_sent[np.arange(n), log.sent.model] = True
        possible = log.probabilities > 0.0
        step = (t / np.where(possible, log.probabilities, 1.0))[was_sent]
        # Either the answer is the model's, or a shadow may be: always, or where the model could not
        # be chosen. Whatever came before in the conversation does not matter then.
        best: list[Float64Array] = []
        for sent, missing in (
            (t[was_sent], np.where(was_sent, 0.0, t)),
            (step, np.where(possible, 0.0, t)),
        ):
            shadow = missing[row, model] * log.shadows.weight
            asked = np.bincount(model, shadow, minlength=t.shape[1])
            if (asked >= _LEAST_COVERED * missing.sum(axis=0)).all():
                squares = [float((w**2).sum()) for w in (*best, sent, shadow)]
                if not best or sum(squares[2:]) < sum(squares[:2]):
                    best = [sent, shadow]
        if best:
            return best
        # Too few shadows for an unbiased estimate serve the outcome model only, and a request
        # counts if the log went the target's way up to it. Where it can't, it is taken up again
        # after that.
        missing = np.where(possible, 0.0, t)
        onward = step + missing.sum(axis=1)
        before = np.ones(n)
        for i in np.flatnonzero(log.previous >= 0):  # in the order of time
            before[i] = before[log.previous[i]] * onward[log.previous[i]]
        self.uncovered = np.maximum(self.uncovered, (before[:, None] * missing).mean(axis=0))
        return [before * step, np.zeros(len(row))]

    def _count_observed(self) -> None:
        """Weights of what was observed, times 1 over the share that was, by model."""
        for part, weight, outcome in zip(self.parts, self.weights, self.outcomes, strict=True):
            seen = np.isfinite(outcome)
            for k in np.unique(part.model):
                here = part.model == k
                share = seen[here].mean()
                weight[here] *= seen[here] / share if share else 0.0
            outcome[~seen] = 0.0

    def _refusal(self, effective: float, uncovered: Float64Array) -> str:
        """Why nothing can be said of the target; "" where something can."""
        if uncovered.sum() > MOST_UNSUPPORTED:
            k = int(np.argmax(uncovered))
            return (
                f"no support: the policy sends {uncovered[k]:.1%} of the requests to "
                f"{self.log.models[k]} where the one that ran never did and no shadow was asked; "
                "log with exploration or shadows"
            )
        if effective < LEAST_EFFECTIVE:
            what = "grades" if self.name == "grade" else "choices"
            return (
                f"too little support: the logged {what} that agree with the policy are worth "
                f"{effective:.0f} conversations, and {LEAST_EFFECTIVE:.0f} are needed"
            )
        return ""

    def terms(self, method: str) -> Terms:
        """The estimate by ``method``."""
        n = len(self.log)
        uncovered = self.uncovered
        weight = self._by_unit(self.weights, (1.0, 1.0))
        # Where the policies agree, weights are near 1; what is known of the rest limits the whole,
        # less so where that is a small part.
        rare = [np.where(r, w, 0.0) for r, w in zip(self.rare, self.weights, strict=True)]
        effective = _effective(weight)
        part = 4.0 * float(sum(w.sum() for w in rare)) / n
        if part > 0.0:
            few = _effective(self._by_unit(rare, (1.0, 1.0)))
            effective = min(effective, few / min(part, 1.0))
        refusal = self._refusal(effective, uncovered)
        if refusal:
            return Terms(np.nan, np.zeros(len(weight)), effective, refusal)
        allowance = 0.0
        predicted, residuals = None, []
        if uncovered.any() or method == "doubly_robust":
            predicted = self._predictions()
            residuals = [
                outcome - predicted[part.row, part.model]
                for part, outcome in zip(self.parts, self.outcomes, strict=True)
            ]
            seen = np.concatenate(residuals)[np.concatenate(self.weights) > 0.0]
            allowance = float(uncovered.sum() * seen.std())
            method = "doubly_robust"  # others have nothing to say of what has no support
        if predicted is not None:
            direct = (self.target * predicted).sum(axis=1)
            sums = self._by_unit(self.weights, residuals)
            sums += np.bincount(self.units, direct, minlength=len(sums))
        else:
            sums = self._by_unit(self.weights, self.outcomes)
        counts = np.bincount(self.units, minlength=len(sums)).astype(np.float64)
        if method == "self_normalised":
            counts = weight
        value = float(sums.sum() / counts.sum())
        scale = len(sums) / counts.sum()
        return Terms(value, (sums - value * counts) * scale, effective, allowance=allowance)

    def _by_unit(
        self, weights: Sequence[Float64Array], values: Sequence[float | Float64Array]
    ) -> Float64Array:
        total = np.zeros(int(self.units.max()) + 1)
        for part, weight, value in zip(self.parts, weights, values, strict=True):
            np.add.at(total, self.units[part.row], weight * value)
        return total

    def _predictions(self) -> Float64Array:
        """The outcome model, float64[n, K]: ridge regression by model, fitted on the conversations
        of other folds."""
        log = self.log
        fold = default_rng(0).integers(_FOLDS, size=int(self.units.max()) + 1)[self.units]
        X = _standardised(log.features)
        row = np.r_[log.sent.row, log.shadows.row]
        model = np.r_[log.sent.model, log.shadows.model]
        y = np.r_[self.outcomes[0], self.outcomes[1]]
        seen = np.r_[self._seen(log.sent), self._seen(log.shadows)]
        found = np.empty((len(log), len(log.models)))
        for i in range(_FOLDS):
            here = fold == i
            for k in range(len(log.models)):
                learn = seen & ~here[row]
                own = learn & (model == k)
                learn = own if own.any() else learn
                found[here, k] = _ridge(X[row[learn]], y[learn], X[here])
        if self.name == "grade":
            np.clip(found, 0.0, 1.0, out=found)
        return found

    def _seen(self, part: Outcomes) -> npt.NDArray[np.bool_]:
        return np.isfinite(np.asarray(getattr(part, self.name), dtype=np.float64))


def _effective(weight: Float64Array) -> float:
    return float(weight.sum() ** 2 / max((weight**2).sum(), 1e-300))


def _standardised(X: Float64Array) -> Float64Array:
    X = np.where(np.isfinite(X), X, 0.0)
    found: Float64Array = (X - X.mean(axis=0)) / np.maximum(X.std(axis=0), 1e-9)
    return found


def _ridge(X: Float64Array, y: Float64Array, at: Float64Array) -> Float64Array:
    if not len(y):
        return np.zeros(len(at))
    centre, level = X.mean(axis=0), y.mean()
    C = X - centre
    A = C.T @ C + _RIDGE * np.eye(X.shape[1])
    found: Float64Array = level + (at - centre) @ np.linalg.solve(A, C.T @ (y - level))
    return found


def studentised_interval(
    influence: Float64Array, confidence: float, seed: int, effective: float
) -> tuple[float, float]:
    """Ends of the error of a mean whose units have ``influence`` float64[G], of mean 0, of which
    ``effective`` count."""
    rng = default_rng(seed)
    units = influence
    if len(units) > _MOST_UNITS:
        group = rng.permutation(len(units)) % _MOST_UNITS
        sums = np.bincount(group, influence).astype(np.float64)
        units = np.multiply(sums, _MOST_UNITS / len(influence))
    G = len(units)
    spread = float(units.std(ddof=1)) / np.sqrt(G)
    if spread == 0.0:
        return 0.0, 0.0
    ratios = np.concatenate(list(_ratios(units, rng)))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(ratios, [tail, 1.0 - tail])
    z = NormalDist().inv_cdf(1.0 - tail)
    t = z + (z**3 + z) / (4.0 * max(min(effective, G) - 1.0, 1.0))  # Student's, to first order
    return min(float(low), -t) * spread, max(float(high), t) * spread


def _ratios(units: Float64Array, rng: Generator) -> Iterator[Float64Array]:
    """Studentised means of resamples, in blocks of bounded size."""
    G = len(units)
    centred = units - units.mean()
    for _ in range(0, _RESAMPLES, 100):
        drawn = centred[rng.integers(G, size=(100, G))]
        spread = drawn.std(axis=1, ddof=1) / np.sqrt(G)
        yield drawn.mean(axis=1) / np.maximum(spread, 1e-12 * np.abs(centred).max())


def warm(log: Log, target: Float64Array) -> Float64Array:
    """Probability, float64[n, K], that a policy which chooses each request's model by itself sends
    a request and the one before it in the conversation to the same model."""
    found: Float64Array = np.where(log.previous[:, None] >= 0, target * target[log.previous], 0.0)
    return found


def dollars(
    log: Log,
    target: Float64Array,
    prices: Float64Array,
    method: str = "doubly_robust",
    stays: Float64Array | None = None,
) -> Terms:
    """Mean dollars a request under a target policy, prompt caches included.

    The bill at full input price does not depend on the turns before; it is estimated as any other
    outcome. What the provider's cache takes off is the cached share of input tokens, of turns that
    stay with the model and of others, measured in the log for each model, where the target policy
    stays (``stays``, float64[n, K]; by default ``warm``) and where it does not.
    """
    stays = warm(log, target) if stays is None else stays
    prices = np.where(np.isfinite(prices), prices, 0.0)
    full = _at_full_price(log, prices)
    bill = estimate(full, target, "cost_usd", method)
    if bill.refusal:
        return bill
    _, units = np.unique(log.conversation, return_inverse=True)
    n, G = len(log), len(bill.influence)
    kept = log.previous >= 0
    kept[kept] = log.sent.model[kept] == log.sent.model[log.previous[kept]]
    off = prices[:, 0] - prices[:, 1]
    value, influence = bill.value, bill.influence.copy()
    counts = np.bincount(units, minlength=G)
    for share, among in ((stays, kept), (target - stays, ~kept)):
        for k in np.flatnonzero(off):
            tokens = share[:, k] * log.input_tokens * off[k]
            rows = among & (log.sent.model == k)
            base = log.input_tokens[rows].sum()
            if not base or not tokens.any():
                continue
            ratio = log.cached_tokens[rows].sum() / base
            saved = ratio * tokens
            value -= saved.sum() / n
            errors = (log.cached_tokens[rows] - ratio * log.input_tokens[rows]) / base
            moved = np.bincount(units, saved, minlength=G) - counts * (saved.sum() / n)
            moved += tokens.sum() * np.bincount(units[rows], errors, minlength=G)
            influence -= moved * (G / n)
    return Terms(float(value), influence, bill.effective, allowance=bill.allowance)


def _at_full_price(log: Log, prices: Float64Array) -> Log:
    """The log with bills as they were without a cache."""

    def priced(part: Outcomes) -> Outcomes:
        price = prices[part.model]
        cost = price[:, 0] * log.input_tokens[part.row] + price[:, 2] * part.output_tokens
        return replace(part, cost_usd=cost)

    return replace(log, sent=priced(log.sent), shadows=priced(log.shadows))
