"""The figures of a replayed cascade as text: a sentence, a table, and what its columns mean."""

from __future__ import annotations

import math
import textwrap

from fastroute.evaluation.evidence_replay import AGREEMENT, Replay
from fastroute.evaluation.metrics.bootstrap import Estimate

_WIDTH = 100
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
    priced = any(p.usd is not None for p in replay.policies)
    head = ["policy", "APGR", "strong calls", "quality", "parity: strong calls"]
    head += ["parity: cost", "usd/1,000"] if priced else []
    rows = [head]
    for p in replay.policies:
        row = [p.name, _estimate(p.apgr), _share(p.strong_share), _number(p.quality)]
        row.append(_estimate(p.parity_share))
        if priced:
            row.append(_estimate(p.parity_cost))
            row.append("" if p.usd is None else f"{1000 * p.usd:.4g}")
        rows.append(row)
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    outcomes = ", ".join(f"{count:,} {name}" for name, count in replay.outcomes.items())
    latency = []
    if replay.median_latency_s is not None:
        median, most = replay.median_latency_s, replay.p99_latency_s
        latency = [f"Latency of the rule of agreement: median {median:.2f} s, p99 {most:.2f} s."]
    notes = [
        conclusion(replay),
        "",
        *lines,
        "",
        *textwrap.wrap(_LEGEND, _WIDTH),
        f"Answers: {outcomes}. Sent on acceptance by the last cascade: {replay.served}.",
        f"Calibration error of P(accept): {replay.calibration_error:.3f}, {replay.folds} folds.",
        *latency,
        *(f"Note: {note}." for note in replay.notes),
    ]
    return "\n".join(notes) + "\n"


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4f}"


def _share(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.1%}"


def _estimate(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.value):
        return ""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} ({estimate.low:.3f} to {estimate.high:.3f})"
