"""Slow, obvious float64 versions of everything that the compiled core computes.

Written from the published formulas (arXiv 2406.18665 and RouteLLM's description of its data), not
from the kernels, so that a misreading there is not repeated here. No shortcut of the kernels is
taken: no folding, no cells, no warm start, no dynamic programming.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]

LN_10 = math.log(10.0)


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-np.asarray(x, dtype=np.float64)))


def dot_rows(rows: Array, query: Array) -> Float64:
    """Dot product of every row with the query, each summed exactly and rounded once."""
    q = query.astype(np.float64)
    return np.array([math.fsum(row.astype(np.float64) * q) for row in rows])


def exp2_scaled(x: Array, scale: float) -> Float64:
    """2 ** (x * scale), the exponent clamped to what a normal float64 can hold."""
    return np.array([2.0 ** min(max(float(v) * scale, -1022.0), 1023.0) for v in x])


def token_bag(table: Array, scales: Array, ids: Sequence[int]) -> Float64:
    """Sum of scales[t] * table[t] over the tokens, divided by its length; zeros if it is zero."""
    total = np.zeros(table.shape[1])
    for token in ids:
        total += np.float64(scales[token]) * table[token].astype(np.float64)
    length = np.linalg.norm(total)
    return total / length if length > 0 else total


def token_bag_magnitude(table: Array, scales: Array, ids: Sequence[int]) -> Float64:
    """Sum of |scales[t] * table[t]|: what a rounding error of the sum is measured against."""
    return token_bag_sum(np.abs(table.astype(np.float64)), np.abs(scales), ids)


def token_bag_sum(table: Array, scales: Array, ids: Sequence[int]) -> Float64:
    total = np.zeros(table.shape[1])
    for token in ids:
        total += np.float64(scales[token]) * table[token].astype(np.float64)
    return total


def mf_delta(P: Array, W: Array, c: Array, model: int, q: Array) -> float:
    """delta(M, q) = c . (P_M / |P_M| * (W q)), in that order, for one model and one prompt."""
    embedding = P[model].astype(np.float64)
    embedding = embedding / np.linalg.norm(embedding)
    projected = W.astype(np.float64) @ q.astype(np.float64)
    return float(c.astype(np.float64) @ (embedding * projected))


def mf_win_rate(P: Array, W: Array, c: Array, strong: int, weak: int, q: Array) -> float:
    return float(sigmoid(mf_delta(P, W, c, strong, q) - mf_delta(P, W, c, weak, q)))


def mf_folded(P: Array, W: Array, c: Array) -> Float64:
    """f_M with delta(M, q) = f_M . q: row M is W' (c * P_M / |P_M|)."""
    unit = P.astype(np.float64) / np.linalg.norm(P.astype(np.float64), axis=1, keepdims=True)
    return (unit * c.astype(np.float64)) @ W.astype(np.float64)


def logistic_fit(X: Float64, y: Float64, weight: Float64) -> Float64:
    """Maximum-likelihood coefficients of P(y = 1) = sigmoid(X b), no intercept, no penalty.

    Newton's method on the rows as they are. Where only some combinations of coefficients are
    determined (pure Bradley-Terry: the differences), the shortest solution.
    """
    b = np.zeros(X.shape[1])

    def log_likelihood(b: Float64) -> float:
        z = np.where(y == 1.0, 1.0, -1.0) * (X @ b)
        return -float(weight @ np.logaddexp(0.0, -z))

    for _ in range(200):
        p = sigmoid(X @ b)
        gradient = X.T @ (weight * (y - p))
        hessian = (X * (weight * p * (1.0 - p))[:, None]).T @ X
        step = np.linalg.pinv(hessian, rcond=1e-13, hermitian=True) @ gradient
        size = np.abs(step).max()
        if size < 1e-13 * max(1.0, np.abs(b).max()):
            return b + step
        if size > 1e-6:  # near the optimum the likelihood is flat to rounding
            before, length = log_likelihood(b), 1.0
            while log_likelihood(b + length * step) < before:
                length /= 2.0
            step = length * step
        elif size < 1e-10:  # rounding noise from here on
            return b + step
        b = b + step
    raise AssertionError("the reference did not converge")


class Battles(NamedTuple):
    """n battles between models by number; outcome is +1 (a won), -1 (b won) or 0 (a tie)."""

    embeddings: Array
    a: npt.NDArray[np.int64]
    b: npt.NDArray[np.int64]
    outcome: npt.NDArray[np.int64]


def battle_ratings(
    a: Array, b: Array, outcome: Array, weight: Array, players: int, *, strict: bool
) -> Float64:
    """Ratings in natural logarithms of odds, each battle counted twice, a tie once a side.

    The design matrix has +ln 10 in the column of a and -ln 10 in that of b. Where a and b are
    one player: ``strict`` writes the second over the first, as RouteLLM's code does; otherwise
    the two cancel, and the row says nothing.
    """
    n = len(a)
    X = np.zeros((2 * n, players))
    rows = np.arange(2 * n)
    a2, b2 = np.concatenate([a, a]), np.concatenate([b, b])
    if strict:
        X[rows, a2] = LN_10
        X[rows, b2] = -LN_10
    else:
        np.add.at(X, (rows, a2), LN_10)
        np.add.at(X, (rows, b2), -LN_10)
    first_won = np.concatenate([outcome >= 0, outcome > 0])
    coefficients = logistic_fit(X, first_won.astype(np.float64), np.concatenate([weight, weight]))
    return LN_10 * coefficients


def difficulty_ratings(
    outcomes: Sequence[tuple[int, int, float]], count: int, ridge: float
) -> tuple[Float64, Float64]:
    """Elo ratings with mean 1000 of prompts, and their standard errors, from (a, b, how far b won).

    Gradient descent with a step for each coordinate on the penalised negative log-likelihood; the
    errors are of the inverse of its second derivatives, without the direction (1, ..., 1).
    """
    s = np.zeros(count)
    for _ in range(20_000):
        gradient, curve = ridge * s, np.full(count, ridge)
        for a, b, y in outcomes:
            p = 1.0 / (1.0 + np.exp(s[a] - s[b]))
            gradient[b] += p - y
            gradient[a] -= p - y
            curve[[a, b]] += 0.5
        s = s - gradient / curve
        if np.abs(gradient).max() < 1e-13:
            break
    second = ridge * np.eye(count)
    for a, b, _ in outcomes:
        p = 1.0 / (1.0 + np.exp(s[a] - s[b]))
        across = np.zeros(count)
        across[a], across[b] = -1.0, 1.0
        second += p * (1.0 - p) * np.outer(across, across)
    centre = np.eye(count) - 1.0 / count
    variance = np.diag(centre @ np.linalg.inv(second) @ centre)
    scale = 400.0 / np.log(10.0)
    return 1000.0 + scale * (s - s.mean()), scale * np.sqrt(variance)


def elo(ratings: Float64) -> Float64:
    """Elo from natural logarithms of odds: 400 points are a factor of ten."""
    return 400.0 / LN_10 * ratings + 1000.0


def tiers_cost(ratings: Sequence[float], starts: Sequence[int]) -> float:
    """Sum over tiers of the variance of the ratings in them."""
    edges = [*starts, len(ratings)]
    return sum(
        float(np.var(np.asarray(ratings[i:j], dtype=np.float64)))
        for i, j in itertools.pairwise(edges)
    )


def best_tiers_cost(ratings: Sequence[float], num_tiers: int) -> float:
    """The least cost of any cut of sorted ratings into that many tiers, by trying all."""
    return min(
        tiers_cost(ratings, (0, *cuts))
        for cuts in itertools.combinations(range(1, len(ratings)), num_tiers - 1)
    )


def rating_tiers(ratings: Sequence[float], num_tiers: int) -> npt.NDArray[np.int64]:
    """Tiers of sorted ratings: the cut of least cost."""
    cuts = min(
        itertools.combinations(range(1, len(ratings)), num_tiers - 1),
        key=lambda cuts: tiers_cost(ratings, (0, *cuts)),
    )
    return np.searchsorted(cuts, np.arange(len(ratings)), side="right")


def similarities(embeddings: Array, q: Array) -> Float64:
    """Cosine similarity of q to each row."""
    E, x = embeddings.astype(np.float64), q.astype(np.float64)
    return (E @ x) / (np.linalg.norm(E, axis=1) * np.linalg.norm(x))


def battle_weights(s: Float64) -> Float64:
    """w_i = 10 * 10^(s_i / max_j s_j)."""
    return 10.0 * 10.0 ** (s / s.max())


class SimilarityWeightedRanking:
    """The whole sw_ranking router, a prompt at a time."""

    def __init__(self, battles: Battles, models: int, num_tiers: int, *, strict: bool) -> None:
        ones = np.ones(len(battles.a))
        self.battles = battles
        self.num_tiers = num_tiers
        self.strict = strict
        self.model_elo = elo(
            battle_ratings(battles.a, battles.b, battles.outcome, ones, models, strict=False)
        )
        order = np.argsort(-self.model_elo, kind="stable")
        self.model_tiers = np.empty(models, dtype=np.int64)
        self.model_tiers[order] = rating_tiers(list(self.model_elo[order]), num_tiers)

    def ratings(self, weight: Float64) -> Float64:
        """Ratings of the tiers for given weights of the battles."""
        tier_a, tier_b = self.model_tiers[self.battles.a], self.model_tiers[self.battles.b]
        return battle_ratings(
            tier_a, tier_b, self.battles.outcome, weight, self.num_tiers, strict=self.strict
        )

    def win_rate(self, q: Array, strong: int, weak: int) -> float:
        weight = battle_weights(similarities(self.battles.embeddings, q))
        return self._preference(self.ratings(weight), strong, weak)

    def win_rate_at_equal_weights(self, strong: int, weak: int) -> float:
        ones = np.ones(len(self.battles.a))
        return self._preference(self.ratings(ones), strong, weak)

    def _preference(self, ratings: Float64, strong: int, weak: int) -> float:
        R = elo(ratings)
        difference = R[self.model_tiers[strong]] - R[self.model_tiers[weak]]
        return float(1.0 - 1.0 / (1.0 + 10.0 ** (difference / 400.0)))


def rating_gradient(
    cells: Sequence[tuple[int, int, int]],
    counts: Sequence[float],
    tiers: int,
    strong: int,
    weak: int,
    *,
    strict: bool,
) -> Float64:
    """Derivative of R_strong - R_weak by the weight of each kind (a, b, outcome) of battle.

    By central differences of the whole fit.
    """
    a, b, outcome = (np.array(column) for column in zip(*cells, strict=True))
    result = np.empty(len(cells))
    for c in range(len(cells)):
        ends = []
        for sign in (1.0, -1.0):
            weight = np.array(counts, dtype=np.float64)
            weight[c] *= 1.0 + sign * 1e-4
            ratings = battle_ratings(a, b, outcome, weight, tiers, strict=strict)
            ends.append(ratings[strong] - ratings[weak])
        result[c] = (ends[0] - ends[1]) / (2e-4 * counts[c])
    return result


class FarField:
    """The far-field approximation, battle by battle in float64: no moments, no low rank.

    Battles are (tier_a, tier_b, outcome) over unit embeddings; ``axes``, [axes, d], are
    orthonormal; the cells see squares along the first ``cell_axes`` and sums along ``line_axes``.
    ``gradient``, [n], has each battle's effect on R_strong - R_weak by its share of all weight;
    ``says``, [n], is 1 if a battle says something, ``clusters``, [n], the cluster of each.
    """

    def __init__(
        self,
        embeddings: Array,
        kinds: tuple[Array, Array, Array],
        tiers: int,
        pair: tuple[int, int],
        axes: Array,
        cell_axes: int,
        line_axes: int,
        clusters: Array,
        gradient: Array,
        says: Array,
        *,
        strict: bool,
    ) -> None:
        self.E = embeddings.astype(np.float64)
        self.kinds, self.tiers, self.pair, self.strict = kinds, tiers, pair, strict
        self.axes = axes.astype(np.float64)
        self.cell_axes, self.line_axes = cell_axes, line_axes
        self.gradient, self.says = gradient, says
        self.along = self.E @ self.axes.T
        self.members = [np.flatnonzero(clusters == k) for k in np.unique(clusters)]
        self.energies = (self.along**2).mean(axis=0)
        beyond = self.E.shape[1] - len(axes)
        self.spread = (1.0 - (self.along**2).sum(axis=1)).mean() / beyond if beyond else 0.0

    def win_rate(self, q: Array, near: Sequence[int]) -> float:
        q = q.astype(np.float64) / np.linalg.norm(q.astype(np.float64))
        s = self.E @ q
        largest, least = s[list(near)].max(), s[list(near)].min()
        p = self.axes @ q
        outside = max(1.0 - float(p @ p), 0.0) * self.spread
        s_axes = self.along @ p

        # Each cluster as three points with the weights 1, 4, 1.
        centred = self.along.copy()
        for members in self.members:
            centred[members] -= self.along[members].mean(axis=0)
        variances = (centred**2).mean(axis=0)
        points, weights, middles, steps = [], [], [], []
        for members in self.members:
            width = (centred[members] ** 2).sum(axis=1).mean() / variances.sum()
            step = math.sqrt(3.0 * (width * float(variances @ p**2) + outside))
            middle = s_axes[members].mean()
            points.append(np.minimum([middle - step, middle, middle + step], least))
            weights.append(len(members) * np.array([1.0, 4.0, 1.0]))
            middles.append(middle)
            steps.append(step)
        x = np.concatenate(points)
        fit = np.polynomial.Polynomial.fit(
            x, 10.0 ** (x / largest), 2, w=np.sqrt(np.concatenate(weights))
        )
        a = fit.convert().coef

        # The cells: a line along more axes than the square, the rest at its mean; near exactly.
        m = self.cell_axes
        missing = outside + float(self.energies[m:] @ p[m:] ** 2)
        s_cells = self.along[:, :m] @ p[:m]
        s_lines = self.along[:, : self.line_axes] @ p[: self.line_axes]
        weight = a[0] + a[1] * s_lines + a[2] * (s_cells**2 + missing)
        quadratic = a[0] + a[1] * s + a[2] * s**2
        for i in near:
            weight[i] += 10.0 ** (s[i] / largest) - quadratic[i]
        ratings = battle_ratings(*self.kinds, weight, self.tiers, strict=self.strict)

        # First order: what lies outside the cells' axes, and a line a cluster for what is left.
        change = a[1] * (s - s_lines) + a[2] * (s**2 - s_cells**2)
        for members, at, middle, step in zip(self.members, points, middles, steps, strict=True):
            left = 10.0 ** (at / largest) - fit(at)
            slope = (left[2] - left[0]) / (2.0 * step) if step > 1e-6 else 0.0
            mean = (left[0] + 4.0 * left[1] + left[2]) / 6.0
            for i in members:
                # A near battle's similarity is known whole, not along the axes only.
                change[i] += mean + slope * (s_axes[i] - middle)
                if i in near:
                    change[i] -= mean + slope * (s[i] - middle)
        shift = self.gradient @ change / (self.says @ weight)
        strong, weak = self.pair
        return float(sigmoid(ratings[strong] - ratings[weak] + shift))


def nearest(rows: Array, query: Array, count: int) -> list[int]:
    """The rows of greatest product with the query, of equal ones the lower first."""
    products = rows.astype(np.float64) @ query.astype(np.float64)
    return sorted(range(len(rows)), key=lambda i: (-products[i], i))[:count]


def success_estimate(parts: dict[str, Any], x: Array) -> tuple[Float64, bool]:
    """P(success), low and high of each model, float64[3, m], and whether it abstained.

    The formulas of ``csrc/kernels/success_estimate.hpp``, a model at a time.
    """
    m = len(parts["level"])
    away = x.astype(np.float64) - parts["centre"]
    stacked = parts["stacked"].astype(np.float64)
    spread = max(away @ away - sum((row @ away) ** 2 for row in stacked[m + 1 :]), 0.0)
    abstained = not x.any() or spread > parts["most_spread"]
    said = list(stacked[: m + 1] @ away)
    first_near: list[int] = []
    if parts["clusterings"]:
        k = len(parts["clusters"]) // parts["clusterings"]
        for first in range(0, len(parts["clusters"]), k):
            centres = parts["clusters"][first : first + k]
            near = nearest(centres, x, parts["nearest_clusters"])
            if first == 0 and parts["prompts"] is not None:
                first_near = nearest(centres, x, parts["prompts"]["scanned"])
            for j in range(m + 1):
                values = [float(parts["of_clusters"][first + c][j]) for c in near]
                said[j] += math.fsum(values) / len(values)
    graded = parts["prompts"]
    near = []
    if graded is not None:
        starts = graded["starts"]
        among = [r for c in first_near for r in range(starts[c], starts[c + 1])]
        among = among if len(starts) else list(range(len(graded["rows"])))
        of_those = nearest(graded["rows"][among], x - graded["centre"], graded["count"])
        near = [among[i] for i in of_those]
    out = np.empty((3, m))

    def mixed(part: float, values: list[float], count: float) -> float:
        known = [value for value in values if not math.isnan(value)]
        if not known or math.isinf(count):
            return part
        weight = len(known) / (len(known) + count)
        return (1 - weight) * part + weight * math.fsum(known) / len(known)

    for j in range(m):
        shared, own = said[m], said[j]
        if graded is not None:
            of_shared = [float(graded["shared"][i]) for i in near]
            of_own = [float(graded["own"][i][j]) for i in near]
            shared = mixed(shared, of_shared, graded["shared_count"])
            own = mixed(own, of_own, graded["own_count"][j])
        edge = parts["edge"]
        score = min(max(parts["level"][j] + shared + own, edge), 1 - edge)
        logit = math.log(score / (1 - score))
        p = sigmoid(parts["slope"][j] * logit + parts["offset"][j])
        variance = min(spread * parts["widening"][j], parts["widest"][j])
        if abstained:
            p, variance = parts["usual"][j], parts["widest"][j]
        half = 1.96 * math.sqrt(variance)
        out[:, j] = p, max(p - half, 0.0), min(p + half, 1.0)
    return out, abstained
