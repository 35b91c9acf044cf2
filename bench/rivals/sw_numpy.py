"""sw_ranking in plain NumPy, as a careful user would write it: float32 rows, collapsed cells.

The likelihood depends on the battles only through the summed weight of each kind of battle, so a
prompt costs one product of matrix and vector, one power and two ``bincount``; then Newton's
method on ten ratings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data import NUM_TIERS, Battles

NAME = "numpy"

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]

_POINTS = {"model_a": 2.0, "tie": 1.0, "tie (bothbad)": 1.0, "model_b": 0.0}


@dataclass(frozen=True)
class Router:
    embeddings: npt.NDArray[np.float32]
    pairs: Int64
    points: Float64
    design: Float64
    model_ratings: dict[str, float]
    model_tiers: dict[str, int]
    strong: int
    weak: int


def missing() -> str | None:
    return None


def fit(battles: Battles, *, strict: bool) -> Router:
    models, numbers = np.unique([battles.model_a, battles.model_b], return_inverse=True)
    a, b = numbers.reshape(2, -1)
    points = np.array([_POINTS[winner] for winner in battles.winner])
    ratings = _rate(a * len(models) + b, points, np.ones(len(a)), _design(len(models), strict))
    order = np.argsort(-ratings, kind="stable")
    tiers = np.empty(len(models), dtype=np.int64)
    tiers[order] = cut_into_tiers(ratings[order], NUM_TIERS)
    model_tiers = {str(model): int(tier) for model, tier in zip(models, tiers, strict=True)}
    lengths = np.linalg.norm(battles.embeddings, axis=1, keepdims=True)
    return Router(
        battles.embeddings / lengths,
        tiers[a] * NUM_TIERS + tiers[b],
        points,
        _design(NUM_TIERS, strict),
        {str(model): float(rating) for model, rating in zip(models, ratings, strict=True)},
        model_tiers,
        model_tiers[battles.strong_model],
        model_tiers[battles.weak_model],
    )


def save(router: Router, _: Battles, folder: Path) -> None:
    np.save(folder / "embeddings.npy", router.embeddings)
    np.savez(folder / "rest.npz", pairs=router.pairs, points=router.points, design=router.design)
    rest = [router.model_ratings, router.model_tiers, router.strong, router.weak]
    (folder / "models.json").write_text(json.dumps(rest))


def load_saved(folder: Path) -> Router:
    rest = np.load(folder / "rest.npz")
    return Router(
        np.load(folder / "embeddings.npy", mmap_mode="r"),  # as ours: pages come when asked for
        rest["pairs"],
        rest["points"],
        rest["design"],
        *json.loads((folder / "models.json").read_text()),
    )


def tiers(router: Router) -> dict[str, int]:
    """Tier of every model, 0 the best."""
    return router.model_tiers


def cost_of_tiers(router: Router, model_tiers: Mapping[str, int]) -> float:
    """Sum over tiers of the variance of the ratings in them: what the cut minimises."""
    in_tier: dict[int, list[float]] = {}
    for model, tier in model_tiers.items():
        in_tier.setdefault(tier, []).append(router.model_ratings[model])
    return float(sum(np.var(ratings) for ratings in in_tier.values()))


def route_embedding(router: Router, x: npt.NDArray[np.float32]) -> float:
    similarities = router.embeddings @ x  # the length of x cancels
    weights = 10.0 ** (1.0 + similarities.astype(np.float64) / similarities.max())
    ratings = _rate(router.pairs, router.points, weights, router.design)
    return float(1.0 / (1.0 + np.exp(ratings[router.weak] - ratings[router.strong])))


def route_embeddings(router: Router, X: npt.NDArray[np.float32]) -> Float64:
    return np.array([route_embedding(router, x) for x in X])


def _design(players: int, strict: bool) -> Float64:
    """+1 in the column of the first, -1 in that of the second, a row for each ordered pair.

    A player against itself: nothing, or with ``strict`` -1, as RouteLLM's code leaves it.
    """
    eye = np.eye(players)
    design = (eye[:, None, :] - eye[None, :, :]).reshape(-1, players)
    if strict:
        design[:: players + 1] = -eye
    return design


def _rate(pairs: Int64, points: Float64, weights: Float64, design: Float64) -> Float64:
    """Maximum-likelihood ratings; a battle is worth two points, and a tie gives each side one."""
    total = np.bincount(pairs, 2.0 * weights, len(design))
    won = np.bincount(pairs, weights * points, len(design))
    ratings = np.zeros(design.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-design @ ratings))
        hessian = (design * (total * p * (1.0 - p))[:, None]).T @ design
        # Without strict, a constant added to all ratings changes nothing: the shortest step.
        step = np.linalg.lstsq(hessian, design.T @ (won - total * p), rcond=1e-12)[0]
        ratings += step
        if np.abs(step).max() < 1e-11:
            return ratings
    raise RuntimeError("Newton's method did not converge")


def cut_into_tiers(ratings: Float64, num_tiers: int) -> Int64:
    """Tiers of sorted ratings that minimise the summed variance, by dynamic programming."""
    n = len(ratings)
    variance = np.full((n, n + 1), np.inf)
    for i in range(n):
        for j in range(i + 1, n + 1):
            variance[i, j] = np.var(ratings[i:j])
    cost, starts = variance[0].copy(), []
    for _ in range(num_tiers - 1):
        candidates = cost[:n, None] + variance
        starts.append(np.argmin(candidates, axis=0))
        cost = candidates.min(axis=0)
    tiers, end = np.zeros(n, dtype=np.int64), n
    for tier in range(num_tiers - 1, 0, -1):
        begin = int(starts[tier - 1][end])
        tiers[begin:end] = tier
        end = begin
    return tiers
