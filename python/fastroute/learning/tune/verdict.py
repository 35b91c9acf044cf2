"""Whether to use the router, why, and what would change it."""

from __future__ import annotations

import math
from dataclasses import replace

from fastroute.learning.tune.result import Recommendation, TuneResult, Tuning
from fastroute.types import Float64Array

#: The router must rank better than a coin at this level, whatever the confidence of the goal: where
#: there is nothing to learn, it is the share of tunings that say "use" if much can be certified.
LEVEL = 0.025
# Sum of the normal quantiles of a test at LEVEL that succeeds in four of five cases.
_POWER = 1.960 + 0.842
_NOTHING = (
    "Nothing in these prompts tells which model answers better; another pair of models may differ "
    "more."
)


def decided(found: TuneResult, *, terms: Float64Array) -> TuneResult:
    """``found`` with its verdict; ``terms`` are ``rank_terms`` of the distinct test prompts."""
    goal, policy = found.goal, found.policy
    against: list[str] = []
    advice: list[str] = []
    recommendation: Recommendation = "always_strong" if goal.from_strong else "always_weak"
    other = found.pair.weak if goal.from_strong else found.pair.strong
    tested = found.counts["tested_on"]
    share = policy.strong_share.value
    if not found.certified:
        against.append(not_promised(found, promise(found)))
        advice.append(_labels(found))
    elif share in (0.0, 1.0) and (share == 0.0) == goal.from_strong:
        recommendation = "always_weak" if goal.from_strong else "always_strong"
        against.append(f"No router is needed: {other} alone keeps the promise, for every prompt.")
    elif share in (0.0, 1.0):
        safe = found.pair.strong if goal.from_strong else found.pair.weak
        against.append(
            f"Only a threshold that sends every test prompt to {safe} is certified: the router "
            "changes nothing."
        )
        advice.append(_labels(found))
    if found.information_p_value > LEVEL:
        against.append(
            "The router does not rank prompts better than a coin "
            f"(p = {found.information_p_value:.2g} on {tested:,} test prompts): at the same share "
            "of strong calls, random routing does as well."
        )
        advice.append(_labels_to_rank(found, terms))
    elif found.certified and not against:
        random = found.baselines["random"].quality.value
        if not policy.quality.value > random:
            against.append(
                f"At its operating point the router keeps {policy.quality.value:.1%} of the "
                f"quality, and random routing at the same share {random:.1%}."
            )
    saved = policy.saved_usd_per_1000
    if saved is not None and not against and goal.from_strong and saved.value <= 0.0:
        what = "asking the cheap models costs as much as it saves"
        if found.cascade is None:
            what = f"{found.pair.weak} is not cheaper on the prompts that it would get"
        against.append(f"It saves nothing: {what}.")
    look_at_final_check(found, against, advice)
    if against:
        return replace(
            found, verdict="do_not_use", recommendation=recommendation, reasons=tuple(against),
            advice=tuple(filter(None, advice)),
        )  # fmt: skip
    reasons = (
        promised(found, promise(found)),
        f"The router ranks prompts better than a coin (p = {found.information_p_value:.2g}).",
    )
    return replace(
        found, verdict="use", recommendation="router", reasons=reasons, advice=tuple(advice)
    )


def promised(found: Tuning, promise: str) -> str:
    """That the promise, in words, is made."""
    return (
        f"{promise} is promised with {found.goal.confidence:.0%} confidence, for traffic like the "
        f"{found.counts['tested_on']:,} test prompts."
    )


def not_promised(found: Tuning, promise: str) -> str:
    """That it can't be."""
    return (
        f"{promise} can't be promised with {found.goal.confidence:.0%} confidence on "
        f"{found.counts['tested_on']:,} test prompts."
    )


def look_at_final_check(found: Tuning, against: list[str], advice: list[str]) -> None:
    """Add what a final check that is missed says to the reasons and the advice."""
    check = found.final_check
    if check is None or check.kept:
        return
    advice.append(
        f"On the last fifth of the time the promise is missed ({check.prompts:,} prompts): traffic "
        "or grades have changed. Grade recent prompts and tune again."
    )
    if not against:
        against.append("The promise held before, but not on the last fifth of the time.")


def labels_needed(found: Tuning, none: str) -> str:
    """About how many labels would change the verdict; ``none`` where no number would."""
    if found.labels_needed is None:
        return none
    return (
        f"About {found.labels_needed:,} graded prompts would do, where there are "
        f"{found.counts['graded']:,}, if they are like these; fastroute tune --suggest says which "
        "to grade."
    )


def promise(found: TuneResult) -> str:
    """The goal in words."""
    goal = found.goal
    if goal.kind == "quality":
        return f"At least {goal.target:.4g} of the quality of {found.pair.strong}"
    if goal.kind == "share":
        return f"At most {goal.target:.1%} of the requests to {found.pair.strong}"
    return f"At most {goal.target:.4g} dollars per 1,000 requests"


def _labels(found: TuneResult) -> str:
    return labels_needed(
        found,
        "No number of graded prompts would change that: with a tenth of the prompts to the other "
        "model the target is missed already. Give another target, or other models than "
        f"{found.pair.strong} and {found.pair.weak}.",
    )


def _labels_to_rank(found: TuneResult, terms: Float64Array) -> str:
    mean, spread = float(terms.mean()), float(terms.std())
    if mean <= 0.0 or spread == 0.0:
        return _NOTHING
    tests = (_POWER * spread / mean) ** 2
    graded = found.counts["graded"] * tests / max(found.counts["tested_on"], 1)
    if graded > 1e6:
        return _NOTHING
    digits = 10 ** max(int(math.log10(max(graded, 10.0))) - 1, 0)
    rounded = math.ceil(graded / digits) * digits
    return f"If what it found is real, about {rounded:,} graded prompts would show it."
