"""The tuning of a choice among models in words and numbers."""

from __future__ import annotations

from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.tune.result import TuneResult
from fastroute.learning.tune.words import (
    Account,
    account,
    and_saves,
    check_line,
    measured_on,
    month_lines,
    policy_cells,
    table_heads,
)

_NAMES = {
    "random": "random, same shares",
    "mixture": "mixture, same dollars",
}


def headline(found: ModelsResult) -> str:
    """The verdict in one sentence."""
    if found.verdict == "do_not_use":
        return f"Do not use this router: send every request to {found.recommended_model}."
    policy = found.policy
    used = sum(share > 0 for share in found.shares.values())
    return (
        f"Use this router: next to {found.best} alone, a choice among {used} models keeps "
        f"{policy.quality.value:.1%} of the quality{and_saves(policy)}."
    )


def account_of(found: TuneResult | ModelsResult) -> Account:
    """Any tuning in words."""
    if isinstance(found, TuneResult):
        return account(found)
    return Account(
        found.verdict, headline(found), reasons(found), measured_on(found.counts, found.goal),
        table(found), found.advice, details(found), found.export.understood,
    )  # fmt: skip


def reasons(found: ModelsResult) -> list[str]:
    """Why, in sentences."""
    if not found.certified:
        return list(found.reasons)
    point = (
        f"Operating point: the model with the greatest P(success) - {found.quality_per_usd:g} x "
        f"its expected dollars answers (policy {found.choice_policy})."
    )
    return [*found.reasons, point]


def table(found: ModelsResult) -> list[list[str]]:
    """The router, its baselines and the models alone, a row each below the heads."""
    names = _NAMES | {
        "best_model": f"{found.best} (best)", "cheapest_model": f"{found.cheapest} (cheapest)"
    }  # fmt: skip
    rows = {
        "this router": found.policy,
        **{names[name]: policy for name, policy in found.baselines.items()},
    }
    cells = [table_heads("to the best", costs=True)]
    cells += [[name, *policy_cells(policy)] for name, policy in rows.items()]
    cells += [
        [name, *policy_cells(single)]
        for name, single in found.singles.items()
        if name not in (found.best, found.cheapest)
    ]
    return cells


def details(found: ModelsResult) -> list[str]:
    """Shares, dollars a month, rivals, the final check and notes, in sentences."""
    shares = sorted(found.shares.items(), key=lambda item: -item[1])
    said = ["Requests: " + ", ".join(f"{share:.1%} to {name}" for name, share in shares) + "."]
    said += month_lines(found.policy, found.requests_per_month)
    rivals = ", ".join(f"{name} {held.aiq:.4f}" for name, held in found.held.items())
    best = found.held["models"]
    said.append(
        f"By nested folds, mean quality over dollars (AIQ): {rivals}; at the dollars of "
        f"{found.best} the router gains {best.gain:+.4f}."
    )
    if found.final_check is not None:
        said.append(check_line(found.final_check, f"calls of {found.best}"))
    return said + list(found.notes)
