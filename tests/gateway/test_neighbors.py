"""The page's similar battles are those of the router's own explanation."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fastroute.embedders.static import StaticEmbedder
from fastroute.gateway.config.settings import Config, RoutingConfig, SessionAffinityConfig
from fastroute.gateway.dashboard.pages import _Neighbors
from fastroute.gateway.gateway import Gateway
from fastroute.http import Endpoint, MockTransport
from fastroute.routers import SimilarityWeightedRouter


def _write_battles(path: Path, count: int) -> list[dict[str, str]]:
    chosen = random.Random(1)
    rows = []
    for i in range(count):
        a, b = chosen.sample(["a", "b", "c"], 2)
        winner = chosen.choice(["model_a", "model_b", "tie"])
        prompt = f"question number {i} about topic {i % 7} and word {chosen.random()}"
        rows.append({"prompt": prompt, "model_a": a, "model_b": b, "winner": winner})
    path.write_text("\n".join(map(json.dumps, rows)))
    return rows


def _gateway(battles: Path) -> Gateway:
    routing = RoutingConfig(
        strong_model="a",
        weak_model="b",
        router="sw_ranking",
        session_affinity=SessionAffinityConfig(by="none"),
    )
    pair = {"strong_model": "a", "weak_model": "b", "num_tiers": 2}
    config = Config(
        routing,
        endpoint=Endpoint("http://127.0.0.1:1/v1"),
        router_config={"sw_ranking": {"battles": str(battles), **pair}},
    )
    return Gateway(config, MockTransport())


def test_similar_battles_come_from_the_explanation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = _write_battles(tmp_path / "battles.jsonl", 80)
    gateway = _gateway(tmp_path / "battles.jsonl")
    router = gateway.decider.routers["sw_ranking"]
    assert isinstance(router, SimilarityWeightedRouter)
    embedded: list[int] = []
    embed_batch = StaticEmbedder.embed_batch

    def counted(self: StaticEmbedder, prompts: Sequence[str]) -> Any:
        embedded.append(len(prompts))
        return embed_batch(self, prompts)

    monkeypatch.setattr(StaticEmbedder, "embed_batch", counted)
    neighbors = _Neighbors()
    found = neighbors.find(gateway, "a question about topic 3")
    nearest = router.explain("a question about topic 3", len(found)).nearest
    assert len(found) >= 3
    assert embedded == []  # no battle is embedded again
    for row, near in zip(found, nearest, strict=True):
        assert row == {**rows[near.battle], "similarity": round(near.similarity, 4)}
    assert neighbors.find(gateway, "") == []  # it has no token, and is near nothing


def test_a_router_of_other_battles_shows_its_own(tmp_path: Path) -> None:
    neighbors = _Neighbors()
    path = tmp_path / "battles.jsonl"
    for count in (80, 60):
        prompts = {row["prompt"] for row in _write_battles(path, count)}
        found = neighbors.find(_gateway(path), "a question about topic 3")
        assert found
        assert {row["prompt"] for row in found} <= prompts
