"""Routers that are trained on the other folds of a benchmark: evaluation in-domain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastroute._extras import needed_for
from fastroute.embedders.static import StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.metrics.calibration_metrics import outcomes
from fastroute.evaluation.run import Trainer
from fastroute.routers.base import Router
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.routers.registry import create_router
from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter


def mf(config: Mapping[str, Any], seed: int) -> tuple[Router, Trainer]:
    """An ``mf`` router whose head is trained on the other folds."""
    router = create_router("mf", **config)
    assert isinstance(router, MatrixFactorizationRouter)
    return router, lambda part: _train_mf(router, part, seed)


def sw_ranking(config: Mapping[str, Any], _seed: int) -> tuple[Router, Trainer]:
    """An ``sw_ranking`` router of battles between the two models on the other folds.

    Raises InvalidInputError for settings that have no use there.
    """
    useless = {"battles", "num_tiers", "strong_model", "weak_model"} & set(config)
    if useless:
        raise InvalidInputError(
            f"router sw_ranking: {', '.join(sorted(useless))} has no effect in-domain, where the "
            "battles are those between the two models on the other folds"
        )
    if "checkpoint_path" in config:
        router = create_router("sw_ranking", **config)
        assert isinstance(router, SimilarityWeightedRouter)
    else:
        router = SimilarityWeightedRouter(**config, embedder=StaticEmbedder.load_default())
    return router, lambda part: _fit_sw_ranking(router, part)


def _train_mf(router: MatrixFactorizationRouter, part: Benchmark, seed: int) -> Router:
    with needed_for("training mf"):
        from fastroute.training.heads import train_mf
    if router.embedder is None:
        raise InvalidInputError("router 'mf' has no embedder, so it can't be trained on text")
    targets = outcomes(part.weak, part.strong)
    return train_mf(part.prompts, targets, embedder=router.embedder, seed=seed)


def _fit_sw_ranking(router: SimilarityWeightedRouter, part: Benchmark) -> Router:
    """Battles between the two models, one a prompt; equal scores are ties."""
    strong, weak = part.pair
    embedder = router.embedder
    assert embedder is not None  # sw_ranking gives one
    X = embedder.embed_batch(part.prompts)
    usable = np.flatnonzero(X.any(axis=1))  # a prompt without tokens resembles nothing
    gains = np.sign(part.strong - part.weak)[usable]
    winner = [{1.0: "model_a", -1.0: "model_b"}.get(gain, "tie") for gain in gains.tolist()]
    fitted = SimilarityWeightedRouter(
        strong_model=strong,
        weak_model=weak,
        num_tiers=2,
        strict=router.strict,
        embedder=embedder,
        num_threads=router.num_threads,
    )
    count = len(usable)
    return fitted.fit(np.ascontiguousarray(X[usable]), [strong] * count, [weak] * count, winner)
