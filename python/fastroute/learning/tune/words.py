"""A tuning in words and numbers, for a terminal and the top of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.evaluation.report.tables import aligned_lines
from fastroute.learning.tune.guarantee import Goal
from fastroute.learning.tune.result import FinalCheck, Policy, TuneResult, Verdict

_NAMES = {
    "router": "this router",
    "always_strong": "always strong",
    "always_weak": "always weak",
    "random": "random, same share",
    "default": "bundled default",
    "length": "prompt length",
    "prompt_router": "prompt router",
    "cascade": "cascade by evidence",
}
_ADVICE = {"always_strong": "strong", "always_weak": "weak"}


def headline(found: TuneResult) -> str:
    """The verdict in one sentence."""
    if found.verdict == "do_not_use":
        model = getattr(found.pair, _ADVICE[found.recommendation])
        return f"Do not use this router: send every request to {model}."
    policy = found.policy
    return (
        f"Use this router: it sends {policy.strong_share.value:.0%} of the requests to "
        f"{found.pair.strong}, keeps {policy.quality.value:.1%} of its quality{and_saves(policy)}."
    )


def and_saves(policy: Policy) -> str:
    """The end of a headline: what is saved, where that is known."""
    saved = policy.saved_usd_per_1000
    return "" if saved is None else f" and saves ${money_of(saved.value)} per 1,000 requests"


@dataclass(frozen=True, slots=True)
class Account:
    """A tuning in words, for a terminal and a page.

    Attributes:
        verdict: "use" or "do_not_use".
        headline: that in a sentence.
        reasons, advice, details, understood: sentences.
        measured_on: what the table is of.
        table: cells, heads first.
    """

    verdict: Verdict
    headline: str
    reasons: Sequence[str]
    measured_on: str
    table: Sequence[Sequence[str]]
    advice: Sequence[str]
    details: Sequence[str]
    understood: Sequence[str]


def account(found: TuneResult) -> Account:
    """The tuning of a pair in words."""
    return Account(
        found.verdict, headline(found), reasons(found), measured_on(found.counts, found.goal),
        table(found), found.advice, details(found), found.export.understood,
    )  # fmt: skip


def lines(said: Account) -> list[str]:
    """The verdict, the reasons, a table, and what would change it."""
    found = [said.headline, "", *(f"- {reason}" for reason in said.reasons)]
    found += ["", said.measured_on, *aligned_lines(said.table)]
    for title, listed in (("What would change this", said.advice), ("Details", said.details)):
        if listed:
            found += ["", f"{title}:", *(f"- {line}" for line in listed)]
    return found


def measured_on(counts: Mapping[str, int], goal: Goal) -> str:
    """What the table is of."""
    return f"On {counts['tested_on']:,} test prompts, with {goal.confidence:.0%} intervals:"


def reasons(found: TuneResult) -> list[str]:
    """Why, in sentences."""
    if not found.certified:
        return list(found.reasons)
    if found.cascade is not None:
        asked = ", ".join([found.router.weak_model, *found.cascade.helpers])
        point = (
            f"{asked} are asked, and {found.pair.strong} too where P(accept) of their answers is "
            f"below {found.threshold:g}."
        )
    else:
        point = (
            f"{found.pair.strong} answers prompts with a win rate of {found.threshold:g} or more."
        )
    return [*found.reasons, f"Operating point: {point}"]


def details(found: TuneResult) -> list[str]:
    """Dollars a month, how well it ranks, the final check and notes, in sentences."""
    said = month_lines(found.policy, found.requests_per_month)
    winner = found.apgr.get("winner")
    if winner is not None and (tested := found.apgr["test"]) is not None:
        others = ", ".join(
            f"{name} {value:.3f}"
            for name, value in found.apgr.items()
            if name not in ("winner", "test") and value is not None
        )
        said += [
            (
                f"Ranking (APGR; random is 0.5): {tested:.3f} on the test prompts. By "
                f"cross-validation {others}; {winner:.3f} with the choice among them. Chosen: "
                f"{found.candidate}; another than head must be better by a standard error."
            )
        ]
    if found.final_check is not None:
        said.append(check_line(found.final_check, "strong calls"))
    return said + list(found.notes)


def month_lines(policy: Policy, requests: int | None) -> list[str]:
    """What is saved a month, where that is known."""
    saved = policy.saved_usd_per_1000
    if requests is None or saved is None:
        return []
    factor = requests / 1000.0
    ends = (None if end is None else end * factor for end in (saved.low, saved.high))
    monthly = Estimate(saved.value * factor, *ends)
    return [f"Saved per month at {requests:,} requests: ${dollars(monthly)}."]


def check_line(check: FinalCheck, share: str) -> str:
    """The final check in a sentence; ``share`` says what the share of strong calls is called."""
    drift = "have changed" if check.drift_p_value < 0.01 else "are as before"
    return (
        f"Final check, the last fifth of the time ({check.prompts:,} prompts): "
        f"{interval(check.policy.quality)} of the quality at "
        f"{check.policy.strong_share.value:.1%} {share}; the promise is "
        f"{'kept' if check.kept else 'MISSED'}; win rates {drift} (p = {check.drift_p_value:.2g})."
    )


def rows_of(found: TuneResult) -> list[tuple[str, Policy]]:
    """The router and its baselines, with their names."""
    named = {"router": found.policy, **found.baselines}
    return [(_NAMES[name], policy) for name, policy in named.items()]


def table(found: TuneResult) -> list[list[str]]:
    """Share, quality and dollars of the router and its baselines, a row each below the heads."""
    heads = table_heads("strong calls", costs=found.policy.cost_usd_per_1000 is not None)
    return [heads, *([name, *policy_cells(policy)] for name, policy in rows_of(found))]


def table_heads(share: str, *, costs: bool) -> list[str]:
    """The heads of a table whose rows are a name and ``policy_cells``."""
    return ["", share, "quality kept", *(["$ per 1,000", "saved per 1,000"] if costs else [])]


def policy_cells(policy: Policy) -> list[str]:
    """Share, quality, and dollars where they are known."""
    cells = [f"{policy.strong_share.value:.1%}", interval(policy.quality)]
    if policy.cost_usd_per_1000 is not None and policy.saved_usd_per_1000 is not None:
        cells += [dollars(policy.cost_usd_per_1000), dollars(policy.saved_usd_per_1000)]
    return cells


def interval(value: Estimate) -> str:
    """A share in percent, with its interval."""
    if value.low is None or value.high is None or value.low == value.high:
        return f"{value.value:.1%}"
    return f"{value.value:.1%} ({value.low:.1%} to {value.high:.1%})"


def dollars(value: Estimate) -> str:
    """Dollars, with their interval."""
    if value.low is None or value.high is None or value.low == value.high:
        return money_of(value.value)
    return f"{money_of(value.value)} ({money_of(value.low)} to {money_of(value.high)})"


def money_of(usd: float) -> str:
    """An amount in dollars: cents, and three digits of less than a dollar."""
    if abs(usd) >= 1000.0:
        return f"{usd:,.0f}"
    return f"{usd:.2f}" if abs(usd) >= 1.0 else f"{usd:.3g}"
