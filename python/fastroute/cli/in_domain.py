"""How ``fastroute evaluate --protocol in-domain`` trains routers on the other folds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastroute.errors import InvalidInputError, MissingDependencyError

if TYPE_CHECKING:
    from fastroute.evaluation.benchmarks.routellm import Benchmark
    from fastroute.evaluation.run import Trainer
    from fastroute.routers.base import Router
    from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter


def untrained_router(name: str, config: dict[str, Any]) -> Router | None:
    """A router that needs no battles of its own, because it is trained on folds; else None."""
    if name != "sw_ranking":
        return None
    from fastroute.embedders.static import StaticEmbedder
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter

    useless = {"battles", "num_tiers", "strong_model", "weak_model"} & set(config)
    if useless:
        raise InvalidInputError(
            f"--router sw_ranking: {', '.join(sorted(useless))} has no use in-domain, where the "
            "battles are those between the two models on the other folds"
        )
    try:
        return SimilarityWeightedRouter(**config, embedder=StaticEmbedder.load_default())
    except TypeError as error:
        if isinstance(error, InvalidInputError):
            raise
        raise InvalidInputError(f"config of router 'sw_ranking': {error}") from error


def trainer(router: Router, seed: int) -> Trainer | None:
    """How to train a router like ``router``, or None if it can't be trained (length, random)."""
    from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter

    if isinstance(router, MatrixFactorizationRouter):
        mf = router
        return lambda part: _train_mf(mf, part, seed)
    if isinstance(router, SimilarityWeightedRouter):
        sw = router
        return lambda part: _fit_sw_ranking(sw, part)
    return None


def _train_mf(router: MatrixFactorizationRouter, part: Benchmark, seed: int) -> Router:
    from fastroute.evaluation.metrics.calibration_metrics import outcomes

    try:
        from fastroute.training.heads import train_mf
    except ImportError as error:
        raise MissingDependencyError(
            f'training mf needs {error.name}; pip install "fastroute[train]"'
        ) from error
    if router.embedder is None:
        raise InvalidInputError("router 'mf' has no embedder, so it can't be trained on text")
    targets = outcomes(part.weak, part.strong)
    return train_mf(part.prompts, targets, embedder=router.embedder, seed=seed)


def _fit_sw_ranking(router: SimilarityWeightedRouter, part: Benchmark) -> Router:
    """Battles between the two models, one a prompt; equal scores are ties."""
    from fastroute.routers.sw_ranking.router import SimilarityWeightedRouter

    strong, weak = part.pair
    embedder = router.embedder
    assert embedder is not None  # untrained_router gives one
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
