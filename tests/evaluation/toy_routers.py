"""Routers whose win rates a test can see at a glance, and benchmarks for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastroute.embedders.base import Embedder
from fastroute.evaluation.benchmarks.protocols import prompt_hashes
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.provenance import Provenance
from fastroute.routers.base import Router
from fastroute.types import ModelPair


class Numbered(Router):
    """The win rate stands in the prompt: 0.3 for "0.3 what is this?"."""

    name = "numbered"

    def __init__(self, trained_on: Sequence[str] = (), checksum: str | None = None) -> None:
        self.asked: list[str] = []
        hashes = prompt_hashes(trained_on) if trained_on else None
        self._provenance = Provenance(trained_on=hashes, checksum=checksum)

    def win_rate(self, prompt: str) -> float:
        return float(prompt.split()[0])

    def win_rates(self, prompts: Sequence[str]) -> np.ndarray:
        self.asked += prompts
        return np.array([self.win_rate(prompt) for prompt in prompts], dtype=np.float64)


class Letters(Embedder):
    """Counts of a to h in a prompt."""

    name = "letters"
    dimensions = 8

    def embed(self, prompt: str) -> Any:
        return np.array([prompt.count(c) for c in "abcdefgh"], dtype=np.float32)

    def embed_batch(self, prompts: Sequence[str]) -> Any:
        return np.array([self.embed(p) for p in prompts], dtype=np.float32).reshape(-1, 8)


def toy_benchmark(
    n: int = 200, seed: int = 0, *, name: str = "toy", costs: bool = False
) -> Benchmark:
    """Prompts for ``Numbered``; the higher the number, the more the strong model is needed."""
    rng = np.random.default_rng(seed)
    rates = rng.integers(0, 1000, n) / 1000
    weak = (rng.random(n) > rates).astype(np.float64)
    strong = (rng.random(n) < 0.9).astype(np.float64)
    return Benchmark(
        name=name,
        prompts=tuple(
            f"{r:.3f} {'long ' * rng.integers(0, 9)}question {i}?" for i, r in enumerate(rates)
        ),
        weak=weak,
        strong=strong,
        pair=ModelPair(strong="big", weak="small"),
        ids=tuple(f"q{i}" for i in range(n)),
        cost_weak=rng.random(n) / 1000 if costs else None,
        cost_strong=0.001 + rng.random(n) / 100 if costs else None,
        scale=100.0,
        unit="% correct",
    )
