"""False alarms and false promotions of canaries, and how long they take to notice a change.

``python bench/canary_runs.py`` simulates canaries whose router does what the old one does (200
runs), and others with a planted change: grades, errors, latency or dollars get worse or better by a
known amount, from the start or after a promotion. Conversations come one after another; half have a
grade.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from fastroute.rollout.canary import CANARY, Canary, Rules, Settled


@dataclass(frozen=True)
class Change:
    """What the canary's router changes: differences of quality and errors, factors of the rest;
    quality and errors only since the promotion where ``after`` is negative."""

    name: str
    quality: float = 0.0
    errors: float = 0.0
    latency: float = 1.0
    dollars: float = 1.0
    after: int = 0


CHANGES = (
    Change("none"),
    Change("quality -0.10", quality=-0.10),
    Change("quality -0.20", quality=-0.20),
    Change("errors +5 %", errors=0.05),
    Change("latency x 1.5", latency=1.5),
    Change("dollars x 1.5", dollars=1.5),
    Change("dollars x 0.6", dollars=0.6),
    Change("quality +0.10", quality=0.10),
    Change("dollars x 0.6, then quality -0.15", quality=-0.15, dollars=0.6, after=-1),
)


def run(change: Change, seed: int, most: int, rules: Rules | None = None) -> tuple[Canary, int]:
    """The canary at its end, and the number of conversations until then (for a change after the
    promotion, since that)."""
    rng = np.random.default_rng([seed, 18])
    canary = Canary(f"run {seed}", "new", 0.0, rules or Rules(max_conversations=most))
    began = 0
    for i in range(most):
        share = canary.share
        arm = canary.arm(str(i))
        is_bad = arm == CANARY and (change.after >= 0 or canary.status == "promoted")
        is_new = arm == CANARY
        canary.observe(
            Settled(
                float(i) + (canary.since if canary.since > i else 0.0),
                arm,
                share,
                float(rng.random() < 0.7 + (change.quality if is_bad else 0.0))
                if rng.random() < 0.5
                else None,
                float(rng.random() < 0.01 + (change.errors if is_bad else 0.0)),
                rng.lognormal(0.0, 0.6) * (change.latency if is_new else 1.0),
                0.001 * rng.lognormal(0.0, 1.0) * (change.dollars if is_new else 1.0),
            )
        )
        if canary.status == "reverted":
            return canary, i + 1 - began
        if canary.status == "promoted":
            if change.after >= 0:
                return canary, i + 1
            began = began or i + 1
    return canary, most


def main() -> None:
    """Print a line a change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--conversations", type=int, default=20_000)
    options = parser.parse_args()
    print(f"{'change':36s} {'promoted':>9s} {'alarms':>8s}  conversations: median, 90 %")
    for change in CHANGES:
        runs = options.runs if change.name == "none" else max(options.runs // 5, 1)
        most = options.conversations * (3 if change.after < 0 else 1)
        found = [run(change, seed, most) for seed in range(runs)]
        alarms = [c.status == "reverted" and "alarm" in c.events[-1].reason for c, _ in found]
        promoted = [any(e.what.startswith("share 95") for e in c.events) for c, _ in found]
        ended = [n for (_, n), a, p in zip(found, alarms, promoted, strict=True) if a or p]
        median, high = np.quantile(ended, [0.5, 0.9]) if ended else (np.nan, np.nan)
        print(
            f"{change.name:36s} {np.mean(promoted):9.1%} {np.mean(alarms):8.1%}  "
            f"{median:,.0f}, {high:,.0f}  ({runs} runs)",
            flush=True,
        )


if __name__ == "__main__":
    main()
