"""The far field of sw_ranking by what a user does, beside exact mode, NumPy and RouteLLM.

In the groups of the other benches, at the same sizes; each answer is held against plain NumPy's on
the same tiers, within what the far field promises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contenders import assert_sw_answers
from data import NUM_TIERS, Battles
from fastroute.routers import SimilarityWeightedRouter
from rivals import sw_numpy

INDEXES = [None, "Flat", "HNSW32"]
#: From 50,000 battles on; a few thousand are few, so that each weighs more.
TOLERANCE, TOLERANCE_OF_FEW = 1e-3, 4e-3


def _fit(battles: Battles, index: str | None, **options: Any) -> SimilarityWeightedRouter:
    router = SimilarityWeightedRouter(
        strong_model=battles.strong_model,
        weak_model=battles.weak_model,
        num_tiers=NUM_TIERS,
        mode="far_field",
        index=index,
        strict=True,
        **options,
    )
    return router.fit(battles.embeddings, battles.model_a, battles.model_b, battles.winner)


def _assert_answers(battles: Battles, answers: Any) -> None:
    wanted = sw_numpy.route_embeddings(sw_numpy.fit(battles, strict=True), battles.queries)
    tolerance = TOLERANCE if len(battles) >= 50_000 else TOLERANCE_OF_FEW
    np.testing.assert_allclose(answers, wanted, rtol=0, atol=tolerance)


def _group(action: str, battles: Battles) -> str:
    return f"{action} (sw_ranking, {len(battles)}x{battles.dimensions})"


@pytest.mark.parametrize("index", INDEXES, ids=str)
def test_route_one(benchmark: Any, battles: Battles, index: str | None) -> None:
    benchmark.group = _group("route_one: embedding", battles)
    router = _fit(battles, index)
    benchmark(router.win_rate_from_embedding, battles.queries[0])
    _assert_answers(battles, [router.win_rate_from_embedding(x) for x in battles.queries])


def test_route_batch(benchmark: Any, battles: Battles) -> None:
    benchmark.group = _group("route_batch: embeddings", battles)
    router = _fit(battles, None)
    _assert_answers(battles, benchmark(router.win_rates_from_embeddings, battles.queries))


def test_fit(benchmark: Any, battles: Battles) -> None:
    benchmark.group = _group("fit", battles)
    router = benchmark.pedantic(_fit, args=(battles, None), rounds=1)
    _assert_answers(battles, router.win_rates_from_embeddings(battles.queries))


@pytest.mark.parametrize("storage", ["float32", "float16", "int8"])
def test_exact_storage(benchmark: Any, battles: Battles, storage: str) -> None:
    benchmark.group = _group("route_one: embedding", battles)
    router = SimilarityWeightedRouter(
        strong_model=battles.strong_model,
        weak_model=battles.weak_model,
        num_tiers=NUM_TIERS,
        mode="exact",
        strict=True,
        storage=storage,
    ).fit(battles.embeddings, battles.model_a, battles.model_b, battles.winner)
    benchmark(router.win_rate_from_embedding, battles.queries[0])
    answers = router.win_rates_from_embeddings(battles.queries)
    if storage == "float32":
        assert_sw_answers(sw_numpy, battles, None, answers)
    else:
        _assert_answers(battles, answers)


def test_load(benchmark: Any, battles: Battles, tmp_path: Path) -> None:
    benchmark.group = _group("load", battles)
    router = _fit(battles, None)
    router.save(tmp_path / "router")

    def load_and_route() -> float:
        loaded = SimilarityWeightedRouter.load(tmp_path / "router")
        return loaded.win_rate_from_embedding(battles.queries[0])

    assert benchmark(load_and_route) == router.win_rate_from_embedding(battles.queries[0])
