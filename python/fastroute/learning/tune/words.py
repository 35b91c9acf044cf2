"""A tuning in words and numbers, for a terminal and the top of the page."""

from __future__ import annotations

from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.learning.tune.result import Policy, TuneResult

_NAMES = {
    "router": "this router",
    "always_strong": "always strong",
    "always_weak": "always weak",
    "random": "random, same share",
    "default": "bundled default",
    "length": "prompt length",
}
_ADVICE = {"always_strong": "strong", "always_weak": "weak"}


def headline(found: TuneResult) -> str:
    """The verdict in one sentence."""
    policy = found.policy
    if found.verdict == "do_not_use":
        model = getattr(found.pair, _ADVICE[found.recommendation])
        return f"Do not use this router: send every request to {model}."
    saved = policy.saved_usd_per_1000
    money = "" if saved is None else f" and saves ${money_of(saved.value)} per 1,000 requests"
    return (
        f"Use this router: it sends {policy.strong_share.value:.0%} of the requests to "
        f"{found.pair.strong}, keeps {policy.quality.value:.1%} of its quality{money}."
    )


def lines(found: TuneResult) -> list[str]:
    """The verdict, the reasons, a table, and what would change it."""
    said = [headline(found), "", *(f"- {reason}" for reason in reasons(found))]
    said += ["", measured_on(found), *table(found)]
    for title, listed in (("What would change this", found.advice), ("Details", details(found))):
        if listed:
            said += ["", f"{title}:", *(f"- {line}" for line in listed)]
    return said


def measured_on(found: TuneResult) -> str:
    """What the table is of."""
    return (
        f"On {found.counts['tested_on']:,} test prompts, with {found.goal.confidence:.0%} "
        "intervals:"
    )


def reasons(found: TuneResult) -> list[str]:
    """Why, in sentences."""
    if not found.certified:
        return list(found.reasons)
    point = f"{found.pair.strong} answers prompts with a win rate of {found.threshold:g} or more."
    return [*found.reasons, f"Operating point: {point}"]


def details(found: TuneResult) -> list[str]:
    """Dollars a month, how well it ranks, the final check and notes, in sentences."""
    said = []
    month = found.requests_per_month
    saved = found.policy.saved_usd_per_1000
    if month is not None and saved is not None:
        factor = month / 1000.0
        ends = (None if end is None else end * factor for end in (saved.low, saved.high))
        monthly = Estimate(saved.value * factor, *ends)
        said += [f"Saved per month at {month:,} requests: ${dollars(monthly)}."]
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
    check = found.final_check
    if check is not None:
        drift = "have changed" if check.drift_p_value < 0.01 else "are as before"
        said += [
            (
                f"Final check, the last fifth of the time ({check.prompts:,} prompts): "
                f"{interval(check.policy.quality)} of the quality at "
                f"{check.policy.strong_share.value:.1%} strong calls; the promise is "
                f"{'kept' if check.kept else 'MISSED'}; win rates {drift} "
                f"(p = {check.drift_p_value:.2g})."
            )
        ]
    return said + list(found.notes)


def rows_of(found: TuneResult) -> list[tuple[str, Policy]]:
    """The router and its baselines, with their names."""
    named = {"router": found.policy, **found.baselines}
    return [(_NAMES[name], policy) for name, policy in named.items()]


def table(found: TuneResult) -> list[str]:
    """Share, quality and dollars of the router and its baselines, as aligned text."""
    heads = ["", "strong calls", "quality kept"]
    costs = found.policy.cost_usd_per_1000 is not None
    if costs:
        heads += ["$ per 1,000", "saved per 1,000"]
    cells = [heads]
    for name, policy in rows_of(found):
        row = [name, f"{policy.strong_share.value:.1%}", interval(policy.quality)]
        if policy.cost_usd_per_1000 is not None and policy.saved_usd_per_1000 is not None:
            row += [dollars(policy.cost_usd_per_1000), dollars(policy.saved_usd_per_1000)]
        cells.append(row)
    widths = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


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
