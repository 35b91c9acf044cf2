"""Thresholds with a guarantee, by risk control: Learn then Test (Angelopoulos et al. 2021,
arXiv 2110.01052).

A goal says of each prompt and each threshold how far it is missed: a loss whose mean must not be
above 0. At each threshold the hypothesis "the mean loss is above 0" is tested on graded prompts
that took no part in learning; the p-value is by betting (Waudby-Smith and Ramdas 2023,
arXiv 2010.09686, one-sided, with Ville's inequality), valid for any number of prompts. Thresholds
are tested in a fixed order, from the safest, and testing stops at the first that is not rejected
(fixed sequence testing). So the probability that the threshold which is chosen misses the goal is
at most 1 - confidence, over the draw of the prompts. The promise is of the mean over the traffic
that the prompts are drawn from. The mean over the next requests varies around it, so the level is
that at which it holds there too, from ``_FUTURE`` times as many requests on (in the normal limit).

That no prompt needs the safe model is a hypothesis without anything learnt, so all prompts with
grades test it, those that were learnt from too, with a part ``_OF_END`` of the error (Bonferroni).
Where nothing tells prompts apart, the sequence stops early or has too few prompts.

Losses of a policy that sends prompt i to the weak (w) or the strong (s) model, grades on 0..1:

quality >= q times the strong model's:  q s_i - (the chosen grade), in [-1, q]
share <= p of strong calls:             [strong] - p, in [-p, 1 - p]
spend <= b dollars a prompt:            cost_i - b, in [-b, c - b], where c bounds every cost
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.random import default_rng

from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array

GoalKind = Literal["quality", "share", "spend"]
Bools = npt.NDArray[np.bool_]

# A bet of more than this part of what may be lost at once would make one prompt decide.
_BOLDEST = 0.9
# The variance that is assumed before any prompt is seen, for losses of span 1, counts as much as so
# many prompts.
_PRIOR_PROMPTS, _PRIOR_VARIANCE = 20.0, 0.01
_FUTURE = 5.0
_OF_END = 0.2
# With so much power a certificate is called sufficiently likely.
_POWER = 0.9
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Goal:
    """What is promised.

    Attributes:
        kind: "quality", "share" or "spend".
        target: the least part of the strong model's quality, 0..1; the greatest share of strong
            calls, 0..1; or the greatest mean cost, in dollars per 1,000 requests.
        confidence: probability that the promise is kept, over the draw of the prompts.
    """

    kind: GoalKind
    target: float
    confidence: float

    def __post_init__(self) -> None:
        most = math.inf if self.kind == "spend" else 1.0
        if not 0.0 < self.target < most:
            ends = "above 0" if self.kind == "spend" else "between 0 and 1"
            raise InvalidInputError(f"target {self.kind} must be {ends}, got {self.target!r}")
        if not 0.5 <= self.confidence < 1.0:
            raise InvalidInputError(
                f"confidence must be from 0.5 to below 1, got {self.confidence!r}"
            )

    @property
    def from_strong(self) -> bool:
        """Whether sending everything to the strong model is the safe end."""
        return self.kind == "quality"

    @property
    def level(self) -> float:
        """The level of the tests, at most 1 - confidence."""
        z = _NORMAL.inv_cdf(self.confidence)
        return 1.0 - _NORMAL.cdf(z * math.sqrt(1.0 + 1.0 / _FUTURE))

    def losses(self, graded: Graded, strong: Bools) -> tuple[Float64Array, float, float]:
        """The loss of each prompt under decisions bool[..., n], and its bounds."""
        if self.kind == "share":
            return strong.astype(np.float64) - self.target, -self.target, 1.0 - self.target
        cost = None
        if graded.cost_weak is not None and graded.cost_strong is not None:
            cost = np.where(strong, graded.cost_strong, graded.cost_weak)
        kept = np.where(strong, graded.strong, graded.weak)
        return self.losses_of(kept, graded.strong, cost, graded.most_cost)

    def losses_of(
        self,
        grades: Float64Array,
        reference: Float64Array,
        cost: Float64Array | None,
        most_cost: float,
    ) -> tuple[Float64Array, float, float]:
        """The same of any choice's grades and dollars, float64[..., n]; ``reference``, float64[n],
        has the grades of the model whose quality is to be kept."""
        if self.kind == "quality":
            missed: Float64Array = self.target * reference - grades
            return missed, -1.0, self.target
        if self.kind == "share":
            raise InvalidInputError(
                "a target of share needs a pair of models; give a quality or a spend"
            )
        if cost is None:
            raise InvalidInputError(
                "a target of spend needs costs: give prices (--price), or a column of costs"
            )
        budget = self.target / 1000.0
        over: Float64Array = np.minimum(cost, most_cost) - budget
        return over, -budget, most_cost - budget


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """n graded prompts to test on.

    Attributes:
        weak, strong: float64[n], grades on 0..1.
        cost_weak, cost_strong: float64[n], dollars, or None.
        units: int64[n], the near-duplicate group of each; a group counts as one prompt.
        most_cost: what no answer costs more than, in dollars.
    """

    weak: Float64Array
    strong: Float64Array
    cost_weak: Float64Array | None
    cost_strong: Float64Array | None
    units: npt.NDArray[np.int64]
    most_cost: float = 0.0

    def by_unit(self, values: Float64Array) -> Float64Array:
        """Means of float64[..., n] by group: float64[..., groups], in the order of first rows."""
        return means_by_unit(self.units, values)


def means_by_unit(units: npt.NDArray[np.int64], values: Float64Array) -> Float64Array:
    """Means of float64[..., n] by group, int64[n]; see ``Graded.by_unit``."""
    _, first, index = np.unique(units, return_index=True, return_inverse=True)
    if len(first) == len(units):
        return values
    place = np.empty(len(first), dtype=np.int64)
    place[np.argsort(first, kind="stable")] = np.arange(len(first))
    index = place[index]
    order = np.argsort(index, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(index[order]) != 0])
    sums = np.add.reduceat(values[..., order], starts, axis=-1)
    means: Float64Array = sums / np.bincount(index)
    return means


@dataclass(frozen=True, slots=True)
class Certificate:
    """The least safe threshold that is certified, and what was tested.

    Attributes:
        threshold: that threshold; None where none is.
        p_value: of it.
        tested: number of thresholds that were tested.
        prompts: distinct prompts that it was tested on.
    """

    threshold: float | None
    p_value: float
    tested: int
    prompts: int


def certify(
    goal: Goal,
    thresholds: Float64Array,
    win_rates: Float64Array,
    graded: Graded,
    everyone: Graded | None = None,
) -> Certificate:
    """Test ``thresholds`` in the given order, which must not depend on ``graded``, and stop at the
    first that can't be certified.

    Args:
        goal: what is promised.
        thresholds: float64[m], from the safest on; the last sends everything to the other model.
        win_rates: float64[n], of the prompts of ``graded``.
        graded: n prompts.
        everyone: these and others with grades, to test the last threshold on by itself too.
    """
    losses, low, high = goal.losses(graded, win_rates >= thresholds[:, None])
    by_unit = graded.by_unit(np.asarray(losses))
    if everyone is None:
        return certify_losses(goal, thresholds, by_unit, low, high)
    end = thresholds[-1:]
    losses, _, _ = goal.losses(everyone, np.zeros(len(everyone.weak)) >= end[:, None])
    alone = certify_losses(goal, end, everyone.by_unit(np.asarray(losses)), low, high, _OF_END)
    if alone.threshold is not None:
        return alone
    return certify_losses(goal, thresholds, by_unit, low, high, 1.0 - _OF_END)


def certify_losses(
    goal: Goal,
    points: Float64Array,
    losses: Float64Array,
    low: float,
    high: float,
    part: float = 1.0,
) -> Certificate:
    """The same for any policy with one number: ``points`` float64[m], and the losses of distinct
    prompts at each, float64[m, n] in [low, high]; with a part of the goal's error."""
    # An export may be sorted by time or topic. Bets need a random order: otherwise easy prompts at
    # its beginning would count for those after them.
    mixed = losses[:, default_rng(0).permutation(losses.shape[-1])]
    level = part * goal.level
    p = betting_p_values(mixed, low, high, level)
    failed = np.flatnonzero(p > level)
    passed = int(failed[0]) if len(failed) else len(p)
    best = None if passed == 0 else float(points[passed - 1])
    return Certificate(
        best,
        float(p[passed - 1 if passed else 0]),
        min(passed + 1, len(p)),
        int(losses.shape[-1]),
    )


def betting_p_values(losses: Float64Array, low: float, high: float, level: float) -> Float64Array:
    """P-values of "the mean loss is above 0", float64[m], of losses float64[m, n] in [low, high].

    The n losses must be in a random order.
    A gambler bets against the hypothesis at fair odds; the p-value is 1 over the most that a stake
    of 1 grew to (Ville). Stakes depend on the losses before, never on the present one: they are
    those that reach ``1 / level`` with the losses that are left, and 0 when that is reached
    (target-recalculating bets; Voracek and Orabona 2025, arXiv 2505.22422). So a p-value is about
    ``level`` or well above it, and is meant to be compared with ``level`` only.
    """
    m, n = losses.shape
    gains = np.ascontiguousarray(-losses.T)
    most = _BOLDEST / high  # a prompt can lose ``high``
    target = math.log(1.0 / level)
    capital, sums, squares = np.zeros((3, m))  # the first is a logarithm
    squares += _PRIOR_PROMPTS * _PRIOR_VARIANCE * (high - low) ** 2
    best = np.zeros(m)
    for i, gain in enumerate(gains):
        seen = _PRIOR_PROMPTS + i
        variance = np.maximum(squares / seen - (sums / seen) ** 2, 1e-9)
        left = np.maximum(target - capital, 0.0)
        stake = np.minimum(np.sqrt(2.0 * left / (variance * (n - i))), most)
        capital += np.log1p(stake * gain)
        np.maximum(best, capital, out=best)
        sums += gain
        squares += gain * gain
    p: Float64Array = np.exp(-best)
    return p


def rows_needed(goal: Goal, losses: Float64Array, high: float) -> float:
    """About how many distinct prompts a certificate would need if losses float64[n], at most
    ``high``, are typical: those of a normal test with a power of 0.9, and of the boldest bets.
    Infinite where their mean is not below 0.
    """
    mean, spread = float(losses.mean()), float(losses.std())
    if mean >= 0.0:
        return math.inf
    quantiles = _NORMAL.inv_cdf(1.0 - goal.level) + _NORMAL.inv_cdf(_POWER)
    boldest = math.log(1.0 / goal.level) / math.log1p(-mean * _BOLDEST / high)
    return max((quantiles * spread / mean) ** 2, boldest)
