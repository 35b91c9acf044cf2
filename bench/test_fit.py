"""From battles to a router that can score."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from contenders import SW, assert_sw_answers, contenders
from data import NUM_MODELS, Battles
from rivals import sw_numpy, sw_routellm


@contenders(SW, "fit")
def test_fit_sw_ranking(benchmark: Any, rival: ModuleType, battles: Battles) -> None:
    benchmark.group = f"fit: sw_ranking, {len(battles)}x{battles.dimensions}"
    router = benchmark.pedantic(rival.fit, (battles,), {"strict": True}, rounds=2)
    best = sw_numpy.fit(battles, strict=True)
    tiers = rival.tiers(router)
    assert len(tiers) == NUM_MODELS
    if rival is sw_routellm:  # it cuts ratings that are a little off
        least = sw_numpy.cost_of_tiers(best, best.model_tiers)
        assert sw_numpy.cost_of_tiers(best, tiers) <= 1.02 * least
    else:
        assert tiers == best.model_tiers
    assert_sw_answers(rival, battles, router, rival.route_embeddings(router, battles.queries))
