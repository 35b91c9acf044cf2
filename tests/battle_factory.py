"""Synthetic battles: clustered embeddings, models of known skill, ties, battles within a tier."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reference import Battles

_WINNERS = {1: ("model_a",), -1: ("model_b",), 0: ("tie", "tie (bothbad)")}


@dataclass(frozen=True)
class SyntheticBattles:
    """Battles by number (for the reference) and by name (for the router), and some prompts."""

    by_number: Battles
    names: list[str]
    prompts: npt.NDArray[np.float32]

    @property
    def embeddings(self) -> npt.NDArray[np.float32]:
        return self.by_number.embeddings

    @property
    def model_a(self) -> list[str]:
        return [self.names[i] for i in self.by_number.a]

    @property
    def model_b(self) -> list[str]:
        return [self.names[i] for i in self.by_number.b]

    @property
    def winner(self) -> list[str]:
        return [
            _WINNERS[int(o)][i % len(_WINNERS[int(o)])]
            for i, o in enumerate(self.by_number.outcome)
        ]

    @property
    def strong(self) -> str:
        return self.names[0]

    @property
    def weak(self) -> str:
        return self.names[-1]


def make_battles(
    *, seed: int, count: int, dimensions: int, models: int, ties: float = 0.25
) -> SyntheticBattles:
    """Model 0 is the best. Embeddings are of any length; prompts lie near some battles."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, dimensions))
    embeddings = centres[rng.integers(0, 12, count)] + 0.7 * rng.normal(size=(count, dimensions))
    embeddings *= rng.uniform(0.1, 10.0, size=(count, 1))
    skill = np.sort(rng.normal(size=models))[::-1]
    a = rng.integers(0, models, count)
    b = (a + rng.integers(1, models, count)) % models
    a_wins = rng.random(count) < 1.0 / (1.0 + np.exp(skill[b] - skill[a]))
    outcome = np.where(rng.random(count) < ties, 0, np.where(a_wins, 1, -1))
    prompts = embeddings[:8] + 0.3 * rng.normal(size=(8, dimensions))
    return SyntheticBattles(
        Battles(embeddings.astype(np.float32), a, b, outcome),
        [f"model-{i:02d}" for i in range(models)],
        prompts.astype(np.float32),
    )
