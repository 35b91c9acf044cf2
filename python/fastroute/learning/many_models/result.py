"""What the tuning of a choice among models found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastroute.candidates import Candidate
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.guarantee import Goal
from fastroute.learning.tune.result import SCHEMA, FinalCheck, Policy, Verdict
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


@dataclass(frozen=True, eq=False)
class ModelsResult:
    """The outcome of ``tune_models``.

    Attributes:
        verdict: "use" or "do_not_use".
        recommendation: "router", or "single_model" for one model for everything.
        recommended_model: that model; None for the router.
        reasons, advice: why, and what would change it, in sentences.
        goal: what was asked for.
        best, cheapest: the model of the greatest mean grade and that of the least expected dollars,
            on the prompts that were learnt from. Quality is a part of the best model's.
        router: the ``models`` router, whether it should be used or not.
        candidates: prices and lengths of answers that the choice is made by.
        quality_per_usd: the operating point: what a dollar must buy, for ``best_value``.
        certified: whether the promise holds there with the confidence of the goal.
        p_value: of that test.
        information_p_value: of "choices are no better than at random with the same shares", over
            all prices of money.
        policy: what the router does on the test rows; its ``strong_share`` is that of the best
            model.
        shares: of the requests, by model.
        baselines: "best_model", "cheapest_model", "random" (the router's shares) and "mixture" (of
            two models, chosen on the prompts that were learnt from, for the router's dollars).
        singles: what each model alone does on the test rows.
        held: "models", "knn", "clusters" and "oracle" by nested folds.
        counts: as of ``TuneResult``.
        labels_needed: about how many graded prompts would do; None where no number would.
        final_check: on the last fifth, where times are known.
        notes: what else is to be said.
        export: what was read.
        curve: float64[k, 2], dollars per 1,000 requests and quality at each price that was tried.
        test: the test rows.
        chosen: int[n], the model of each.
        probability: float64[n, m], P(success) there.
        requests_per_month: for dollars a month.
        folder: where it was saved, if it was.
    """

    verdict: Verdict
    recommendation: Literal["router", "single_model"]
    recommended_model: str | None
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    goal: Goal
    best: str
    cheapest: str
    router: ModelsRouter
    candidates: tuple[Candidate, ...]
    quality_per_usd: float
    certified: bool
    p_value: float
    information_p_value: float
    policy: Policy
    shares: Mapping[str, float]
    baselines: Mapping[str, Policy]
    singles: Mapping[str, Policy]
    held: Mapping[str, Held]
    counts: Mapping[str, int]
    labels_needed: int | None
    final_check: FinalCheck | None
    notes: tuple[str, ...]
    export: Export
    curve: Float64Array
    test: Export
    chosen: IntArray
    probability: Float64Array
    requests_per_month: int | None = None
    folder: Path | None = None

    @property
    def choice_policy(self) -> str:
        """The policy as ``fastroute.candidates.parse_policy`` reads it."""
        return f"best_value={self.quality_per_usd:g}"

    @property
    def quality_lower_bound(self) -> float | None:
        """The part of the best model's quality that is promised; None without a promise."""
        return self.goal.target if self.certified and self.goal.kind == "quality" else None

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values; docs/tune.md describes the keys."""
        month = self.requests_per_month
        check = self.final_check
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "recommendation": self.recommendation,
            "recommended_model": self.recommended_model,
            "reasons": list(self.reasons),
            "advice": list(self.advice),
            "router": "models",
            "output": None if self.folder is None else str(self.folder),
            "operating_point": self.quality_per_usd if self.certified else None,
            "policy": self.choice_policy,
            "goal": {
                "kind": self.goal.kind,
                "target": self.goal.target,
                "confidence": self.goal.confidence,
                "certified": self.certified,
                "p_value": self.p_value,
            },
            "best_model": self.best,
            "cheapest_model": self.cheapest,
            "models": {
                name: {"share": self.shares[name], **self.singles[name].to_dict(month)}
                for name in self.shares
            },
            **self.policy.to_dict(month),
            "quality_lower_bound": self.quality_lower_bound,
            "baselines": {name: policy.to_dict(month) for name, policy in self.baselines.items()},
            "held_out": {
                name: {"aiq": held.aiq, "quality": held.quality, "gain": held.gain}
                for name, held in self.held.items()
            },
            "information_p_value": self.information_p_value,
            "n": self.counts["graded"],
            "counts": dict(self.counts),
            "labels_needed": self.labels_needed,
            "final_check": None if check is None else check.to_dict(month),
            "notes": list(self.notes),
            "understood": list(self.export.understood),
        }
