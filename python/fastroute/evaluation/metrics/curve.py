"""Cost-quality metrics of a router: pure functions of win rates and per-prompt scores.

A router that sends the prompts of highest win rate to the strong model traces a curve: quality
(mean score) against the share of strong calls. PGR, the performance gap recovered, is
``(quality - weak) / (strong - weak)``. APGR is its mean over shares 0 to 1; CPT(x) the least
share that reaches PGR x (Ong et al. 2024, section 3).

Two methods:

``"exact"``
    Every distinct win rate is a threshold. The router can't order prompts of equal
    win rate, so the curve is straight there: the mean over all orders. CPT is read
    off the monotone envelope, that is, at the first share where the curve reaches the target.
``"routellm"``
    As RouteLLM's evaluation does: thresholds at the 11 decile edges of the win rates
    (linear quantiles), ``win_rate >= threshold``, ``>`` at the last; trapezoids over the share; CPT
    by ``numpy.interp`` on quality even where the curve is not monotone. Where two decile
    edges are equal, RouteLLM stops with an error of pandas; here equal edges give equal points,
    which add nothing to the area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastroute._checks import GREATEST, check_column, check_number, check_same_length
from fastroute.errors import InvalidInputError
from fastroute.types import Float64Array, IntArray

Method = Literal["exact", "routellm"]
METHODS: tuple[Method, ...] = ("exact", "routellm")

#: The PGR levels that reports show.
CPT_TARGETS = (0.2, 0.5, 0.8, 0.95)


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality against the share of strong calls (or of the extra cost), by rising strong calls.

    Attributes:
        share: float64[m], share of strong calls, 0 first and 1 last. With costs: the share of
            the extra dollars, ``(cost - all weak) / (all strong - all weak)``, which can step
            back where the strong model's answer is the cheaper one.
        quality: float64[m], mean score.
        threshold: float64[m], the win rate from which prompts are strong calls; ``inf`` first
            (no strong calls).
        cost: float64[m], mean dollars per prompt, or None without costs.
    """

    share: Float64Array
    quality: Float64Array
    threshold: Float64Array
    cost: Float64Array | None = None

    @property
    def pgr(self) -> Float64Array:
        """Performance gap recovered at each point, float64[m]."""
        weak, strong = float(self.quality[0]), float(self.quality[-1])
        _check_gap(weak, strong)
        return (self.quality - weak) / (strong - weak)

    def quality_at(self, share: Float64Array | float) -> Float64Array:
        """Quality at a share of strong calls, by straight lines between the points."""
        return np.asarray(np.interp(share, self.share, self.quality), dtype=np.float64)


def curve(
    win_rates: Float64Array,
    weak: Float64Array,
    strong: Float64Array,
    cost_weak: Float64Array | None = None,
    cost_strong: Float64Array | None = None,
    *,
    method: Method = "exact",
) -> Curve:
    """The cost-quality curve of a router.

    Args:
        win_rates: float64[n], the router's score of each prompt; any finite numbers, only their
            order matters.
        weak, strong: float64[n], the two models' scores.
        cost_weak, cost_strong: float64[n] dollars; with both, ``share`` is of extra dollars.
        method: see the module.

    Raises InvalidInputError for different lengths, no prompts, NaN or infinity, or a strong model
    that is not more expensive in total.
    """
    check_method(method)
    check_columns(win_rates, weak, strong, cost_weak, cost_strong)
    n = len(win_rates)
    order = np.argsort(-win_rates, kind="stable")
    falling = win_rates[order]
    if method == "exact":
        # Vertices: no strong calls, then the end of each group of equal win rates.
        last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), n - 1)
        calls = np.append(0, last + 1)
        threshold = np.append(np.inf, falling[last])
    else:
        # Reversed, because strong calls rise as the threshold falls.
        threshold = decile_edges(win_rates)[::-1]
        calls = np.searchsorted(-falling, -threshold, side="right")
        calls[0] = 0  # above the greatest win rate, not at it
    quality = _mean_after(weak, strong, order, calls)
    if cost_weak is None or cost_strong is None:
        return Curve(calls / n, quality, threshold)
    cost = _mean_after(cost_weak, cost_strong, order, calls)
    cheap, dear = float(cost_weak.mean()), float(cost_strong.mean())
    if not dear > cheap:
        raise InvalidInputError(
            f"the strong model costs {dear} dollars per prompt and the weak one {cheap}: without a "
            "more expensive strong model there is nothing to save; swap the pair"
        )
    return Curve((cost - cheap) / (dear - cheap), quality, threshold, cost)


def decile_edges(win_rates: Float64Array) -> Float64Array:
    """The 11 edges of ten equally filled bins, rising: quantiles by linear interpolation.

    Positions are computed in integers, so an edge that falls on a prompt is exactly its win rate;
    versions of pandas round such an edge up or down by an ulp, and so move one prompt.
    """
    ranked = np.sort(win_rates)
    n = len(ranked)
    low, tenths = np.divmod((n - 1) * np.arange(11), 10)
    high = np.minimum(low + 1, n - 1)
    edges: Float64Array = ranked[low] + (ranked[high] - ranked[low]) * (tenths / 10.0)
    return edges


def auc(points: Curve) -> float:
    """Area under quality over the share, by trapezoids: the mean quality of the curve."""
    share, quality = points.share, points.quality
    return float(np.sum(np.diff(share) * (quality[1:] + quality[:-1])) / 2.0)


def apgr(points: Curve) -> float:
    """Mean performance gap recovered over shares 0 to 1; 0.5 is what random routing gets."""
    weak, strong = float(points.quality[0]), float(points.quality[-1])
    _check_gap(weak, strong)
    return (auc(points) - weak) / (strong - weak)


def cpt(points: Curve, target: float, *, method: Method = "exact") -> float:
    """Least share of strong calls (or extra dollars) that reaches PGR ``target``, 0..1."""
    check_method(method)
    if not 0.0 <= check_number("target", target) <= 1.0:
        raise InvalidInputError(f"target must be a PGR in 0..1, got {target!r}")
    weak, strong = float(points.quality[0]), float(points.quality[-1])
    _check_gap(weak, strong)
    goal = weak + target * (strong - weak)
    share, quality = points.share, points.quality
    if method == "routellm":
        return float(np.interp(goal, quality, share))
    # The slack is for the rounding of running sums, which may end an ulp below the goal.
    reached = quality >= goal - 1e-12 * (strong - weak)
    least = float(share[reached].min())
    # A segment that crosses the goal may do so at a smaller share than both kinds of its ends;
    # with costs the share is not monotone, so each crossing is looked at, not just the first.
    for i in np.flatnonzero(reached[1:] != reached[:-1]):
        part = (goal - quality[i]) / (quality[i + 1] - quality[i])
        least = min(least, float(share[i] + np.clip(part, 0.0, 1.0) * (share[i + 1] - share[i])))
    return least


def cost_saved(points: Curve, target: float, *, method: Method = "exact") -> float:
    """Share of strong calls (or extra dollars) saved against random routing of equal quality.

    ``1 - CPT(x) / x``, because random routing reaches PGR x with a share x of strong calls:
    RouteLLM's cost saving ratio r (section 5.3 of its paper) is ``r = 1 / (1 - saved)``. Below
    0, the router needs more strong calls than random routing.
    """
    if not 0.0 < check_number("target", target) <= 1.0:
        raise InvalidInputError(f"target must be a PGR above 0 and at most 1, got {target!r}")
    return 1.0 - cpt(points, target, method=method) / target


def dollars_saved(points: Curve, target: float, *, method: Method = "exact") -> float:
    """Share of the bill of always-strong that is saved while PGR ``target`` is reached.

    Needs a curve with costs. The share is of all dollars, not only of the extra ones.
    """
    if points.cost is None:
        raise InvalidInputError("dollars_saved needs a curve made with cost_weak and cost_strong")
    cheap, dear = float(points.cost[0]), float(points.cost[-1])
    spent = cheap + cpt(points, target, method=method) * (dear - cheap)
    return 1.0 - spent / dear


def random_curve(
    weak: Float64Array,
    strong: Float64Array,
    cost_weak: Float64Array | None = None,
    cost_strong: Float64Array | None = None,
) -> Curve:
    """Random routing, averaged over all its draws: the straight line from weak to strong."""
    return curve(np.zeros(len(check_column("weak", weak))), weak, strong, cost_weak, cost_strong)


def oracle_win_rates(
    weak: Float64Array,
    strong: Float64Array,
    cost_weak: Float64Array | None = None,
    cost_strong: Float64Array | None = None,
) -> Float64Array:
    """Scores of a router that knows the answers: the gain in quality, a dollar if costs are given.

    No order of the prompts gives a higher curve at any share of strong calls. With costs the
    order is by gain a dollar (the greedy order of the fractional knapsack), which is optimal
    where each strong answer is the more expensive one.
    """
    check_columns(None, weak, strong, cost_weak, cost_strong)
    gain: Float64Array = strong - weak
    if cost_weak is None or cost_strong is None:
        return gain
    extra = cost_strong - cost_weak
    least = np.min(extra[extra > 0], initial=np.inf)
    if not np.isfinite(least):
        raise InvalidInputError(
            "no strong answer is more expensive than the weak one; swap the pair"
        )
    # Strong answers that cost no more come first if they are better, and last if worse.
    # A ratio may overflow: only the order matters.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        free = np.sign(gain) * ((np.abs(gain).max() + 1.0) / (least * 0.5))
        ratio = np.where(extra > 0, gain / np.where(extra > 0, extra, 1.0), free)
    return np.nan_to_num(ratio)


def _mean_after(
    weak: Float64Array, strong: Float64Array, order: IntArray, calls: IntArray
) -> Float64Array:
    """Mean over all prompts when the first ``calls`` of ``order`` are strong calls."""
    # Running sums from both sides: exact for 0/1 scores, where a difference of means is not.
    strong_sum = np.append(0.0, np.cumsum(strong[order]))
    weak_sum = np.append(0.0, np.cumsum(weak[order[::-1]]))
    means: Float64Array = (strong_sum[calls] + weak_sum[len(order) - calls]) / len(order)
    return means


def check_columns(
    win_rates: Float64Array | None,
    weak: Float64Array,
    strong: Float64Array,
    cost_weak: Float64Array | None,
    cost_strong: Float64Array | None,
) -> None:
    """Raise InvalidInputError for columns that are not float64[n], finite and of one length.

    Scores and costs must be within 1e100 of 0; ``win_rates`` may be any finite numbers, or None.
    """
    if (cost_weak is None) != (cost_strong is None):
        raise InvalidInputError("give both of cost_weak and cost_strong, or none")
    columns = {} if win_rates is None else {"win_rates": check_column("win_rates", win_rates)}
    given = {"weak": weak, "strong": strong, "cost_weak": cost_weak, "cost_strong": cost_strong}
    for name, values in given.items():
        if values is not None or name in ("weak", "strong"):
            columns[name] = check_column(name, values, most=GREATEST)
    check_same_length(**columns)


def check_method(method: str) -> None:
    """Raise InvalidInputError if ``method`` is not one of METHODS."""
    if method not in METHODS:
        raise InvalidInputError(f"method must be 'exact' or 'routellm', got {method!r}")


def _check_gap(weak: float, strong: float) -> None:
    if not strong > weak:
        raise InvalidInputError(
            f"the strong model scores {strong} and the weak one {weak}: without a gap there is "
            "nothing to recover; swap the pair or choose other models"
        )
