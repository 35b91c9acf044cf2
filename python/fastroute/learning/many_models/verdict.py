"""Whether to use the choice among models, why, and what would change it."""

from __future__ import annotations

from dataclasses import replace

from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.tune.verdict import (
    LEVEL,
    labels_needed,
    look_at_final_check,
    not_promised,
    promised,
)

_NO_LABELS = (
    "No number of labels would change that at this target with these estimates. Give another "
    "target, or other models."
)


def decided(found: ModelsResult, *, certified_singles: tuple[str, ...]) -> ModelsResult:
    """``found`` with its verdict; ``certified_singles`` keep the promise, from the cheapest."""
    goal, policy = found.goal, found.policy
    against: list[str] = []
    advice: list[str] = []
    recommended = found.recommended_model
    tested = found.counts["tested_on"]
    only = max(found.shares, key=lambda name: found.shares[name])
    if not found.certified:
        against.append(not_promised(found, promise(found)))
        advice.append(labels_needed(found, _NO_LABELS))
    elif found.shares[only] == 1.0:
        recommended = only
        against.append(f"The choice is {only} for every test prompt: no router is needed.")
    if found.certified and found.information_p_value > LEVEL:
        against.append(
            "The choice is not better than one at random with the same shares of the models "
            f"(p = {found.information_p_value:.2g} on {tested:,} test prompts)."
        )
    mixture = found.baselines["mixture"].quality.value
    if found.certified and not against and not policy.quality.value > mixture:
        against.append(
            f"It keeps {policy.quality.value:.1%} of the quality, and a fixed mixture of two "
            f"models for the same dollars {mixture:.1%}."
        )
    if certified_singles and goal.kind == "quality" and (against or _is_cheaper(
        found, certified_singles[0]
    )):  # fmt: skip
        recommended = certified_singles[0]
        against.append(f"{recommended} alone keeps the promise, for every prompt.")
    elif found.certified and goal.kind == "spend" and not against and recommended is not None:
        best = max(
            (name for name, single in found.singles.items() if _within(found, name)),
            key=lambda name: found.singles[name].quality.value, default=None,
        )  # fmt: skip
        if best is not None and found.singles[best].quality.value >= policy.quality.value:
            recommended = best
            against.append(f"{best} alone costs no more, and is at least as good.")
    saved = policy.saved_usd_per_1000
    if goal.kind == "quality" and not against and saved is not None and saved.value <= 0.0:
        recommended = found.best
        against.append(f"It saves nothing, next to {found.best} for every prompt.")
    look_at_final_check(found, against, advice)
    if against:
        return replace(
            found, verdict="do_not_use", recommendation="single_model",
            recommended_model=recommended, reasons=tuple(against), advice=tuple(advice),
        )  # fmt: skip
    reasons = (
        promised(found, promise(found)),
        (
            "The choice is better than one at random with the same shares of the models "
            f"(p = {found.information_p_value:.2g})."
        ),
    )
    return replace(
        found, verdict="use", recommendation="router", recommended_model=None, reasons=reasons,
        advice=tuple(advice),
    )  # fmt: skip


def promise(found: ModelsResult) -> str:
    """The goal in words."""
    goal = found.goal
    if goal.kind == "quality":
        return f"At least {goal.target:.4g} of the quality of {found.best}"
    return f"At most {goal.target:.4g} dollars per 1,000 requests"


def _is_cheaper(found: ModelsResult, name: str) -> bool:
    single, own = found.singles[name].cost_usd_per_1000, found.policy.cost_usd_per_1000
    return single is not None and own is not None and single.value <= own.value


def _within(found: ModelsResult, name: str) -> bool:
    cost = found.singles[name].cost_usd_per_1000
    return cost is not None and cost.value <= found.goal.target and _is_cheaper(found, name)
