"""Bootstrap: intervals and paired p-values, from resampled prompts.

A resample draws n of the n prompts with replacement. All routers see the same resamples, so a
difference between two of them is paired. Intervals are percentiles (Efron and Tibshirani 1993,
chapter 13); the p-value is the two-sided achieved significance level of "no difference".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import default_rng

from fastroute._checks import check_number, check_resampling
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.metrics.curve import (
    Method,
    apgr,
    auc,
    check_columns,
    cpt,
    curve,
    dollars_saved,
)
from fastroute.types import Float64Array

# Numbers in memory at a time, for each of a handful of arrays: 4 MB.
_NUMBERS_PER_CHUNK = 500_000

#: PGR is undefined in resamples in which the strong model is not better. With a greater share of
#: them than this there is no interval.
MOST_UNDEFINED = 0.05

#: With fewer prompts or resamples than these, a report warns that intervals are unreliable.
FEWEST_PROMPTS = 30
FEWEST_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, with its interval where it was resampled.

    Attributes:
        value: measured on all prompts.
        low, high: ends of the percentile interval, or None.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Resampled:
    """A router's metrics on each of b resamples; NaN where the strong model was not better.

    Attributes:
        apgr: float64[b].
        auc: float64[b], mean quality.
        cpt: float64[b, targets].
        pgr: float64[b, grid], performance gap recovered at the shares of the grid.
        bill: float64[b, targets], ``metrics.dollars_saved``, or None without costs.
    """

    apgr: Float64Array
    auc: Float64Array
    cpt: Float64Array
    pgr: Float64Array
    bill: Float64Array | None = None


def resample_counts(n: int, resamples: int, seed: int) -> Iterator[Float64Array]:
    """How often each of n prompts was drawn: chunks float64[b, n], ``resamples`` rows in all."""
    resamples, seed = check_resampling(resamples, seed, least=1)
    rng = default_rng(seed)
    rows = max(1, _NUMBERS_PER_CHUNK // n)
    for start in range(0, resamples, rows):
        b = min(rows, resamples - start)
        drawn = rng.integers(0, n, (b, n))
        drawn += np.arange(b)[:, np.newaxis] * n
        counts = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
        yield counts.astype(np.float64)


def resample_curves(
    win_rates: Mapping[str, Float64Array],
    weak: Float64Array,
    strong: Float64Array,
    cost_weak: Float64Array | None = None,
    cost_strong: Float64Array | None = None,
    *,
    method: Method = "exact",
    targets: Sequence[float] = (),
    grid: Float64Array | None = None,
    resamples: int = 1000,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Resampled]:
    """Metrics of each router on the same resamples.

    Args:
        win_rates: float64[n] by router.
        weak, strong, cost_weak, cost_strong, method: as for ``metrics.curve``.
        targets: PGR levels of CPT.
        grid: shares, rising, at which the gap recovered is wanted.
        resamples: their number, b.
        seed: of the draws; equal seeds give equal resamples.
        advance: called with the number of resamples that were just done.
    """
    for rates in win_rates.values():
        check_columns(rates, weak, strong, cost_weak, cost_strong)
    shares = np.empty(0) if grid is None else grid
    columns = (weak, strong, cost_weak, cost_strong)
    routers = {name: Ranked(rates, *columns) for name, rates in win_rates.items()}
    chunks: dict[str, list[Resampled]] = {name: [] for name in routers}
    for counts in resample_counts(len(weak), resamples, seed):
        for name, ranked in routers.items():
            measure = ranked.exact if method == "exact" else ranked.one_by_one
            chunks[name].append(measure(counts, targets, shares, method))
        if advance is not None:
            advance(len(counts))
    return {
        name: Resampled(
            np.concatenate([part.apgr for part in parts]),
            np.concatenate([part.auc for part in parts]),
            np.concatenate([part.cpt for part in parts]),
            np.concatenate([part.pgr for part in parts]),
            None
            if cost_weak is None
            else np.concatenate([part.bill for part in parts if part.bill is not None]),
        )
        for name, parts in chunks.items()
    }


def interval(samples: Float64Array, confidence: float = 0.95) -> tuple[float, float] | None:
    """Percentile interval of float64[b]; None if too many of the resamples are undefined."""
    check_confidence(confidence)
    _check_samples("samples", samples)
    undefined = np.isnan(samples)
    if undefined.mean() > MOST_UNDEFINED:
        return None
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(samples[~undefined], [tail, 1.0 - tail])
    return float(low), float(high)


def check_confidence(confidence: float) -> None:
    """Raise InvalidInputError if ``confidence`` is not between 0 and 1."""
    if not 0.0 < check_number("confidence", confidence) < 1.0:
        raise InvalidInputError(f"confidence must be between 0 and 1, got {confidence!r}")


def estimate(value: float, samples: Float64Array | None, confidence: float = 0.95) -> Estimate:
    """``value`` with the percentile interval of ``samples``, if there are any."""
    ends = None if samples is None else interval(samples, confidence)
    return Estimate(value) if ends is None else Estimate(value, *ends)


def paired_p_value(a: Float64Array, b: Float64Array) -> float:
    """Two-sided p-value of "a and b are equal" from paired resamples, float64[n] each.

    Twice the share of resamples on the other side of 0, counting the observed one, so never 0.
    Pairs with NaN (undefined resamples) are left out; InvalidInputError if no pair is left.
    """
    _check_samples("a", a)
    _check_samples("b", b)
    if a.shape != b.shape:
        raise InvalidInputError(f"paired samples have shapes {a.shape} and {b.shape}")
    difference = (a - b)[~np.isnan(a - b)]
    if not len(difference):
        raise InvalidInputError("a and b have no pair without NaN, so there is no p-value")
    least = min(int((difference <= 0).sum()), int((difference >= 0).sum()))
    return min(1.0, 2.0 * (least + 1) / (len(difference) + 1))


def cautions(prompts: int, resamples: int) -> list[str]:
    """Warnings about intervals from too few prompts or resamples."""
    few = []
    if prompts < FEWEST_PROMPTS:
        few.append(f"{prompts} prompt{'s' if prompts != 1 else ''} (fewer than {FEWEST_PROMPTS})")
    if resamples < FEWEST_RESAMPLES:
        plural = "s" if resamples != 1 else ""
        few.append(f"{resamples} resample{plural} (fewer than {FEWEST_RESAMPLES})")
    if not few or not resamples:
        return []
    return [f"Intervals and p-values are unreliable: they are from {' and '.join(few)}."]


def _check_samples(name: str, value: object) -> None:
    if not isinstance(value, np.ndarray) or value.dtype != np.float64:
        kind = getattr(value, "dtype", type(value).__name__)
        raise InvalidTypeError(f"{name} must be a float64 array, got {kind}")
    if value.ndim != 1 or not len(value):
        raise InvalidInputError(
            f"{name} must be samples float64[b], b at least 1, got shape {value.shape}"
        )


class Ranked:
    """Prompts by falling win rate of a router, for resampling."""

    def __init__(
        self,
        win_rates: Float64Array,
        weak: Float64Array,
        strong: Float64Array,
        cost_weak: Float64Array | None,
        cost_strong: Float64Array | None,
    ) -> None:
        self.order = np.argsort(-win_rates, kind="stable")
        falling = win_rates[self.order]
        self.last = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
        self.columns = [
            None if c is None else c[self.order]
            for c in (win_rates, weak, strong, cost_weak, cost_strong)
        ]
        self.weak = weak[self.order]
        self.gain = (strong - weak)[self.order]
        self.cost_weak: Float64Array | None = None
        self.extra: Float64Array | None = None
        if cost_weak is not None and cost_strong is not None:
            self.cost_weak = cost_weak[self.order]
            self.extra = (cost_strong - cost_weak)[self.order]

    def exact(
        self, counts: Float64Array, targets: Sequence[float], grid: Float64Array, _: Method
    ) -> Resampled:
        """``metrics`` by method="exact", for all rows of ``counts`` at once."""
        ranked = counts[:, self.order]
        gain = self.at_group_ends(ranked * self.gain)
        x = self.at_group_ends(ranked if self.extra is None else ranked * self.extra)
        weak = ranked @ self.weak / ranked.shape[1]
        gap, total = gain[:, -1].copy(), x[:, -1].copy()
        undefined = ~((gap > 0) & (total > 0))
        gap[undefined] = total[undefined] = np.nan
        x /= total[:, np.newaxis]
        gain /= gap[:, np.newaxis]  # now PGR
        area = np.einsum("bg,bg->b", np.diff(x, axis=1), gain[:, 1:] + gain[:, :-1]) / 2.0
        gap /= ranked.shape[1]
        at_targets = (
            np.stack([least_share(x, gain, target) for target in targets], axis=1)
            if targets
            else np.empty((len(x), 0))
        )
        at_grid = np.empty((len(x), len(grid)))
        for row in range(len(x)) if len(grid) else ():
            at_grid[row] = np.interp(grid, x[row], gain[row])
        bill: Float64Array | None = None
        if self.cost_weak is not None:
            cheap = (ranked @ self.cost_weak)[:, np.newaxis]
            extra = total[:, np.newaxis]
            bill = 1.0 - (cheap + at_targets * extra) / (cheap + extra)
        return Resampled(area, weak + area * gap, at_targets, at_grid, bill)

    def one_by_one(
        self, counts: Float64Array, targets: Sequence[float], grid: Float64Array, method: Method
    ) -> Resampled:
        """The same through ``metrics``, one resample at a time."""
        b = len(counts)
        result = Resampled(
            np.full(b, np.nan),
            np.full(b, np.nan),
            np.full((b, len(targets)), np.nan),
            np.full((b, len(grid)), np.nan),
            None if self.extra is None else np.full((b, len(targets)), np.nan),
        )
        for row in range(b):
            index = np.repeat(np.arange(counts.shape[1]), counts[row, self.order].astype(np.intp))
            w, weak, strong, cost_weak, cost_strong = (
                None if c is None else c[index] for c in self.columns
            )
            assert w is not None
            assert weak is not None
            assert strong is not None
            if not strong.mean() > weak.mean():
                continue
            if (
                cost_weak is not None
                and cost_strong is not None
                and not cost_strong.mean() > cost_weak.mean()
            ):
                continue
            points = curve(w, weak, strong, cost_weak, cost_strong, method=method)
            result.apgr[row], result.auc[row] = apgr(points), auc(points)
            result.cpt[row] = [cpt(points, target, method=method) for target in targets]
            result.pgr[row] = np.interp(grid, points.share, points.pgr)
            if result.bill is not None:
                result.bill[row] = [dollars_saved(points, t, method=method) for t in targets]
        return result

    def at_group_ends(self, values: Float64Array) -> Float64Array:
        """Running sums of float64[b, n], ranked, at the points of the curve: float64[b, points]."""
        sums = np.cumsum(values, axis=1)
        ends = np.zeros((len(values), len(self.last) + 1))
        ends[:, 1:] = sums if len(self.last) == values.shape[1] else sums[:, self.last]
        return ends


def least_share(x: Float64Array, pgr: Float64Array, target: float) -> Float64Array:
    """CPT of each row: the least x at which the piecewise straight curve reaches ``target``."""
    reached = pgr >= target - 1e-12
    if (np.diff(x, axis=1) >= 0).all():
        i = np.maximum(np.argmax(reached, axis=1), 1)[:, np.newaxis]
        x0, x1 = (np.take_along_axis(x, j, 1)[:, 0] for j in (i - 1, i))
        y0, y1 = (np.take_along_axis(pgr, j, 1)[:, 0] for j in (i - 1, i))
        with np.errstate(invalid="ignore", divide="ignore"):
            part = np.clip((target - y0) / (y1 - y0), 0.0, 1.0)
            least = np.where(reached[:, 0], 0.0, x0 + part * (x1 - x0))
        return np.where(np.isnan(pgr[:, -1]), np.nan, least)
    # With costs x may step back: look at every point and every crossing.
    least = np.where(reached, x, np.inf).min(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.clip((target - pgr[:, :-1]) / np.diff(pgr, axis=1), 0.0, 1.0)
        crossing = np.where(
            reached[:, 1:] != reached[:, :-1], x[:, :-1] + part * np.diff(x, axis=1), np.inf
        )
    least = np.minimum(least, crossing.min(axis=1))
    return np.where(np.isnan(pgr[:, -1]), np.nan, least)
