"""What a tuning found: the verdict, and the figures that it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.learning.tune.costs import Price
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.guarantee import Goal
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.types import Float64Array, ModelPair

Verdict = Literal["use", "do_not_use"]
Recommendation = Literal["router", "always_weak", "always_strong", "single_model"]
#: Of ``TuneResult.to_dict``. It rises when a key changes its meaning or is removed.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Policy:
    """What one way of choosing does on the test rows.

    Attributes:
        strong_share: share of strong calls.
        quality: mean grade, as a part of the strong model's.
        cost_usd_per_1000: mean dollars per 1,000 requests; None where costs are not known.
        saved_usd_per_1000: the same, less than always-strong.
    """

    strong_share: Estimate
    quality: Estimate
    cost_usd_per_1000: Estimate | None = None
    saved_usd_per_1000: Estimate | None = None

    def to_dict(self, requests_per_month: int | None = None) -> dict[str, Any]:
        """Plain JSON: a number for each, and their intervals apart."""
        named = {
            "strong_share": self.strong_share,
            "quality": self.quality,
            "cost_usd_per_1000": self.cost_usd_per_1000,
            "saved_usd_per_1000": self.saved_usd_per_1000,
        }
        for kind in ("cost", "saved"):
            monthly = _times(named[f"{kind}_usd_per_1000"], requests_per_month)
            named[f"{kind}_usd_per_month"] = monthly
        return {
            **{name: None if e is None else _finite(e.value) for name, e in named.items()},
            "intervals": {
                name: None if e is None else [_finite(e.low), _finite(e.high)]
                for name, e in named.items()
            },
        }


@dataclass(frozen=True, slots=True)
class FinalCheck:
    """The operating point on the last fifth of the time, which took no part in anything.

    Attributes:
        prompts: distinct prompts.
        policy: what the router does there.
        drift_p_value: Kolmogorov and Smirnov's, of "win rates are distributed as before".
        kept: whether its estimate reaches the target.
    """

    prompts: int
    policy: Policy
    drift_p_value: float
    kept: bool

    def to_dict(self, requests_per_month: int | None = None) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "prompts": self.prompts,
            **self.policy.to_dict(requests_per_month),
            "drift_p_value": self.drift_p_value,
            "kept": self.kept,
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class Tuning:
    """What the tunings of a pair and of more models have in common.

    Attributes:
        verdict: "use" or "do_not_use".
        recommendation: what to do: use the router, or one of the models for everything.
        reasons: why, in sentences.
        advice: what would change it, in sentences.
        goal: what was asked for.
        certified: whether the promise holds at the operating point with the confidence of the goal.
        p_value: of that test.
        policy: what the router does at the operating point on the test rows.
        counts: "rows", "graded", "distinct", "learnt_on", "tested_on", "left_out_known".
        labels_needed: about how many graded prompts would do; None where no number would.
        final_check: on the last fifth, where times are known.
        notes: what else is to be said.
        export: what was read.
        test: the test rows.
        requests_per_month: for dollars a month.
        folder: where it was saved, if it was.
    """

    verdict: Verdict
    recommendation: Recommendation
    reasons: tuple[str, ...]
    advice: tuple[str, ...]
    goal: Goal
    certified: bool
    p_value: float
    information_p_value: float
    policy: Policy
    baselines: Mapping[str, Policy]
    counts: Mapping[str, int]
    labels_needed: int | None
    final_check: FinalCheck | None
    notes: tuple[str, ...]
    export: Export
    test: Export
    requests_per_month: int | None = None
    folder: Path | None = None

    @property
    def quality_lower_bound(self) -> float | None:
        """The part of the strong (best) model's quality that is promised; None without."""
        return self.goal.target if self.certified and self.goal.kind == "quality" else None

    def _document(self, operating_point: float, **own: Any) -> dict[str, Any]:
        """The result as plain JSON values, with those of the kind of tuning first."""
        month, check = self.requests_per_month, self.final_check
        return {
            "schema": SCHEMA,
            "verdict": self.verdict,
            "recommendation": self.recommendation,
            "reasons": list(self.reasons),
            "advice": list(self.advice),
            **own,
            "output": None if self.folder is None else str(self.folder),
            "operating_point": operating_point if self.certified else None,
            "goal": {
                **asdict(self.goal),
                "certified": self.certified,
                "p_value": self.p_value,
            },
            **self.policy.to_dict(month),
            "quality_lower_bound": self.quality_lower_bound,
            "baselines": {name: policy.to_dict(month) for name, policy in self.baselines.items()},
            "information_p_value": self.information_p_value,
            "n": self.counts["graded"],
            "counts": dict(self.counts),
            "labels_needed": self.labels_needed,
            "final_check": None if check is None else check.to_dict(month),
            "notes": list(self.notes),
            "understood": list(self.export.understood),
        }


@dataclass(frozen=True, eq=False)
class TunedCascade:
    """A cascade by evidence that was chosen.

    Attributes:
        helpers: the cheap models beside the weak one, by their names at their providers.
        model: P(accept) of the cheap answers.
        threshold: from this on a cheap answer is sent.
    """

    helpers: tuple[str, ...]
    model: AcceptanceModel
    threshold: float


@dataclass(frozen=True, eq=False, kw_only=True)
class TuneResult(Tuning):
    """The outcome of ``tune_router``, a ``Tuning``.

    Attributes:
        pair: the two models in the export.
        candidate: the candidate that was chosen.
        router: the router, whether it should be used or not; of a cascade, what decides where
            answers can't be compared.
        threshold: the operating point, a win rate or the P(accept) of a cascade; with ``certified``
            False only an estimate.
        information_p_value: of "the router ranks test prompts no better than a coin".
        baselines: "always_strong", "always_weak", "random" (at the router's share of strong calls),
            "default" and "length" (each at its own certified threshold), where there are such.
        apgr: by candidate, on rows that it was not fitted to; "winner" by nested folds, "test" of
            the router on the test rows. None where the strong model is not better.
        prices: by model name in the export.
        win_rates, escalated, cheap: of the test rows, for reports: the win rate (of a cascade,
            1 - P(accept)), whether the strong model is asked, and the grade of what is sent
            otherwise.
        cascade: the cascade, if one was chosen.
        router_certified: whether the router's own threshold is certified.
    """

    pair: ModelPair
    candidate: str
    router: MatrixFactorizationRouter
    threshold: float
    apgr: Mapping[str, float | None]
    prices: Mapping[str, Price]
    win_rates: Float64Array
    escalated: npt.NDArray[np.bool_]
    cheap: Float64Array
    cascade: TunedCascade | None = None
    router_certified: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The result as plain JSON values; docs/tune.md describes the keys."""
        return self._document(
            self.threshold,
            router=self.candidate,
            helpers=[] if self.cascade is None else list(self.cascade.helpers),
            strong_model=self.pair.strong,
            weak_model=self.pair.weak,
            apgr=dict(self.apgr),
        )


def _times(value: Estimate | None, requests: int | None) -> Estimate | None:
    """Dollars per 1,000 requests as dollars for so many."""
    if value is None or requests is None:
        return None
    factor = requests / 1000.0
    ends = (None if end is None else end * factor for end in (value.low, value.high))
    return Estimate(value.value * factor, *ends)


def _finite(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
