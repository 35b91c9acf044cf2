"""What the tuning of a choice among models found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from fastroute.candidates import Candidate
from fastroute.learning.tune.result import Policy, Tuning
from fastroute.routers import ModelsRouter
from fastroute.types import Float64Array, IntArray


@dataclass(frozen=True, slots=True)
class Held:
    """How a method did on held-out folds of the prompts that were learnt from.

    Attributes:
        aiq: RouterBench's mean quality over dollars.
        quality: at no more than the best model's dollars.
        gain: of that over the best model; 0 for the best model itself.
    """

    aiq: float
    quality: float
    gain: float


@dataclass(frozen=True, eq=False, kw_only=True)
class ModelsResult(Tuning):
    """The outcome of ``tune_models``, a ``Tuning``.

    Attributes:
        recommended_model: the model that is recommended for everything; None for the router.
        best, cheapest: the model of the greatest mean grade and that of the least expected dollars,
            on the prompts that were learnt from. Quality is a part of the best model's.
        router: the ``models`` router, whether it should be used or not.
        candidates: prices and lengths of answers that the choice is made by.
        quality_per_usd: the operating point: what a dollar must buy, for ``best_value``.
        information_p_value: of "choices are no better than at random with the same shares", over
            all prices of money.
        policy: its ``strong_share`` is that of the best model.
        shares: of the requests, by model.
        baselines: "best_model", "cheapest_model", "random" (the router's shares) and "mixture" (of
            two models, chosen on the prompts that were learnt from, for the router's dollars).
        singles: what each model alone does on the test rows.
        held: "models", "knn", "clusters" and "oracle" by nested folds.
        curve: float64[k, 2], dollars per 1,000 requests and quality at each price that was tried.
        chosen: int[n], the model of each test row.
        probability: float64[n, m], P(success) there.
    """

    recommended_model: str | None
    best: str
    cheapest: str
    router: ModelsRouter
    candidates: tuple[Candidate, ...]
    quality_per_usd: float
    shares: Mapping[str, float]
    singles: Mapping[str, Policy]
    held: Mapping[str, Held]
    curve: Float64Array
    chosen: IntArray
    probability: Float64Array

    @property
    def choice_policy(self) -> str:
        """The policy as ``fastroute.candidates.parse_policy`` reads it."""
        return f"best_value={self.quality_per_usd:g}"

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values; docs/tune.md describes the keys."""
        return self._document(
            self.quality_per_usd,
            recommended_model=self.recommended_model,
            router="models",
            policy=self.choice_policy,
            best_model=self.best,
            cheapest_model=self.cheapest,
            models={
                name: {"share": share, **self.singles[name].to_dict(self.requests_per_month)}
                for name, share in self.shares.items()
            },
            held_out={name: asdict(held) for name, held in self.held.items()},
        )
