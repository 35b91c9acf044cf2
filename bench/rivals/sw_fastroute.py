"""fastroute's sw_ranking in exact mode, one thread."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from data import NUM_TIERS, Battles
from fastroute.routers import SimilarityWeightedRouter

NAME = "fastroute"


def missing() -> str | None:
    return None


def fit(battles: Battles, *, strict: bool) -> SimilarityWeightedRouter:
    router = SimilarityWeightedRouter(
        strong_model=battles.strong_model,
        weak_model=battles.weak_model,
        num_tiers=NUM_TIERS,
        strict=strict,
        mode="exact",
        num_threads=1,
    )
    return router.fit(battles.embeddings, battles.model_a, battles.model_b, battles.winner)


def save(router: SimilarityWeightedRouter, _: Battles, folder: Path) -> None:
    router.save(folder)


def load_saved(folder: Path) -> SimilarityWeightedRouter:
    return SimilarityWeightedRouter.load(folder, num_threads=1)


def tiers(router: SimilarityWeightedRouter) -> dict[str, int]:
    """Tier of every model, 0 the best."""
    return dict(router.model_tiers_)


def route_embedding(router: SimilarityWeightedRouter, x: npt.NDArray[np.float32]) -> float:
    return router.win_rate_from_embedding(x)


def route_embeddings(
    router: SimilarityWeightedRouter, X: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    return router.win_rates_from_embeddings(X)
