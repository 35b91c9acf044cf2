"""The figures of a replayed cascade as text: a table, its terms, and the conclusion."""

from __future__ import annotations

import math

from fastroute.evaluation.evidence_replay import AGREEMENT, Replay
from fastroute.evaluation.metrics.bootstrap import Estimate
from fastroute.evaluation.report.tables import (
    Column,
    aligned,
    cell,
    percent,
    three_digits,
    wrapped,
)

_LEGEND = (
    "APGR: share of the quality gap between the weak and the strong model that is recovered, "
    "averaged over all shares of strong calls (random routing: 0.5; 95 % intervals). Strong calls, "
    "quality and dollars are at the policy's own point. Parity: the least share of strong calls, "
    "and the least cost as a share of the strong model's own, that reach its quality; every call "
    "is counted. Learned policies are scored out of fold."
)


def conclusion(replay: Replay) -> str:
    """The result in one sentence."""
    rule = next(p for p in replay.policies if p.name == AGREEMENT)
    strong = next(p for p in replay.policies if p.name == replay.strong)
    cost = ""
    if rule.usd is not None and strong.usd:
        cost = f" at {rule.usd / strong.usd:.0%} of its cost"
    against = "above" if rule.quality > strong.quality else "below"
    return (
        f"Asking {replay.strong} only where {replay.weak} and {', '.join(replay.helpers)} do not "
        f"agree ({rule.strong_share:.0%} of {replay.prompts:,} prompts) scores {rule.quality:.4f}, "
        f"{against} {replay.strong} alone ({strong.quality:.4f}){cost}."
    )


def to_text(replay: Replay) -> str:
    """The figures for a terminal."""
    policies = replay.policies
    columns = [
        Column("policy", [(p.name, "") for p in policies]),
        Column("APGR", [cell(p.apgr, three_digits) for p in policies]),
        Column("strong calls", [cell(Estimate(p.strong_share), percent) for p in policies]),
        Column("quality", [cell(Estimate(p.quality), "{:.4f}".format) for p in policies]),
        Column("parity: strong calls", [cell(p.parity_share, three_digits) for p in policies]),
    ]
    if any(p.usd is not None for p in policies):
        nothing = Estimate(math.nan)
        costs = [cell(p.parity_cost or nothing, three_digits) for p in policies]
        dollars = [("" if p.usd is None else f"{1000 * p.usd:.4g}", "") for p in policies]
        columns += [Column("parity: cost", costs), Column("usd/1,000", dollars)]
    outcomes = ", ".join(f"{count:,} {name}" for name, count in replay.outcomes.items())
    latency = []
    if replay.median_latency_s is not None:
        median, most = replay.median_latency_s, replay.p99_latency_s
        latency = [f"Latency of the rule of agreement: median {median:.2f} s, p99 {most:.2f} s."]
    notes = [
        *aligned(columns),
        "",
        wrapped([_LEGEND]),
        f"Answers: {outcomes}. Sent on acceptance by the last cascade: {replay.served}.",
        f"Calibration error of P(accept): {replay.calibration_error:.3f}, {replay.folds} folds.",
        *latency,
        *(f"Note: {note}." for note in replay.notes),
        "",
        wrapped([conclusion(replay)]),
    ]
    return "\n".join(notes) + "\n"
