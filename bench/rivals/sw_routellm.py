"""RouteLLM's sw_ranking: its own functions, without the network and the data sets around them.

Ratings, tiers and the refit for every prompt are RouteLLM's code. Its router class can't be
imported without torch, transformers and datasets, so the three lines between the embedding and
the refit are written out here: cosine similarity by NumPy over float64 rows, with the rows'
lengths computed again for every prompt, and the weights. RouteLLM gets its embeddings as lists
of Python floats and so keeps float64; so does this.

Its tiers may be cut elsewhere than at the least cost: the ratings that it cuts come from a fit
that stops early, up to an Elo point or two from the optimum. ``with_tiers`` is the same router on
given tiers, which is what answers can be compared on.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data import NUM_TIERS, Battles
from rivals import missing_packages

NAME = "routellm"

#: How far its win rates are from the optimum at most: its refit stops at a loose tolerance.
TOLERANCE = 5e-4


@dataclass(frozen=True)
class Router:
    refit: Any
    frame: Any
    embeddings: npt.NDArray[np.float64]
    model_tiers: dict[str, int]
    strong: int
    weak: int


def missing() -> str | None:
    return missing_packages("routellm", "openai", "pandas", "sklearn")


def fit(battles: Battles, *, strict: bool = True) -> Router:
    if not strict:
        raise ValueError("RouteLLM's code is what strict means; there is no other")
    with warnings.catch_warnings():
        # It uses arguments that its dependencies have deprecated since.
        warnings.simplefilter("ignore")
        # It builds an OpenAI client when it is imported; nothing is sent.
        os.environ.setdefault("OPENAI_API_KEY", "unused")
        import pandas as pd
        from routellm.routers.similarity_weighted import utils

        frame = pd.DataFrame(
            {"model_a": battles.model_a, "model_b": battles.model_b, "winner": battles.winner}
        )
        ratings = utils.compute_elo_mle_with_tie(frame)
        model_tiers = utils.compute_tiers(ratings, num_tiers=NUM_TIERS)
    router = Router(
        utils.compute_elo_mle_with_tie, frame, battles.embeddings.astype(np.float64), {}, -1, -1
    )
    return with_tiers(router, battles, model_tiers)


def with_tiers(router: Router, battles: Battles, model_tiers: Mapping[str, int]) -> Router:
    """Return the router with these tiers of the models instead of its own."""
    frame = router.frame.copy()
    frame["model_a"] = [model_tiers[model] for model in battles.model_a]
    frame["model_b"] = [model_tiers[model] for model in battles.model_b]
    return replace(
        router,
        frame=frame,
        model_tiers={str(model): int(tier) for model, tier in model_tiers.items()},
        strong=model_tiers[battles.strong_model],
        weak=model_tiers[battles.weak_model],
    )


def save(_: Router, battles: Battles, folder: Path) -> None:
    """Keep the battles: RouteLLM saves no fitted router, and fits whenever it starts."""
    np.save(folder / "embeddings.npy", battles.embeddings)
    np.save(folder / "queries.npy", battles.queries)
    rest = [battles.model_a, battles.model_b, battles.winner]
    (folder / "battles.json").write_text(
        json.dumps([*rest, battles.strong_model, battles.weak_model])
    )


def load_saved(folder: Path) -> Router:
    model_a, model_b, winner, strong, weak = json.loads((folder / "battles.json").read_text())
    return fit(
        Battles(
            embeddings=np.load(folder / "embeddings.npy"),
            queries=np.load(folder / "queries.npy"),
            model_a=model_a,
            model_b=model_b,
            winner=winner,
            strong_model=strong,
            weak_model=weak,
        )
    )


def tiers(router: Router) -> dict[str, int]:
    """Tier of every model, 0 the best."""
    return router.model_tiers


def route_embedding(router: Router, x: npt.NDArray[np.float32]) -> float:
    query = x.astype(np.float64)
    lengths = np.linalg.norm(router.embeddings, axis=1) * np.linalg.norm(query)
    similarities = np.dot(router.embeddings, query) / lengths
    weights = 10 * 10 ** (similarities / np.max(similarities))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as in fit
        elo = router.refit(router.frame, sample_weight=weights)
    return float(1.0 - 1.0 / (1.0 + 10 ** ((elo[router.strong] - elo[router.weak]) / 400)))


def route_embeddings(router: Router, X: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.array([route_embedding(router, x) for x in X])
