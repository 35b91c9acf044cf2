"""How often the intervals of ``fastroute replay`` cover the true result of the policy.

``python bench/replay_coverage.py`` simulates conversations with two models and a prompt cache, logs
them under a policy that explores (or asks shadows), and estimates another policy. The truth is what
that policy gives on 400,000 other conversations. A row a setting: coverage of the 95 % intervals,
by outcome and method, of the runs that were not refused.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np

from fastroute.learning.replay.estimate import dollars, estimate
from loop_traffic import PRICES, draw

METHODS = ("doubly_robust", "self_normalised", "inverse_propensity")


@dataclass(frozen=True)
class Setting:
    """A log: how many conversations, what explores, what has grades."""

    name: str
    conversations: int
    explored: float
    graded: float = 1.0
    shadow: float = 0.0
    turns: float = 2.5


SETTINGS = (
    Setting("300 conversations, 80 % explored, 20 % shadows", 300, 0.8, 1.0, 0.2),
    Setting("1,000 conversations, 10 % explored, 10 % shadows, 50 % graded", 1000, 0.1, 0.5, 0.1),
    Setting("1,000 conversations, no exploration, 10 % shadows", 1000, 0.0, 1.0, 0.1),
    Setting("500 single turns, 50 % explored", 500, 0.5, turns=1.0),
    Setting("10,000 single turns, 3 % explored: weights of 66", 10_000, 0.03, turns=1.0),
)


def coverage(setting: Setting, runs: int) -> dict[tuple[str, str], tuple[float, int]]:
    """Share of runs covered and number not refused, by outcome and method."""
    world = draw(400_000, np.random.default_rng(1), turns=setting.turns)
    truth = world.outcome(world.sides(0.35))
    hits: dict[tuple[str, str], list[bool]] = {}
    for run in range(runs):
        rng = np.random.default_rng([run, setting.conversations])
        traffic = draw(setting.conversations, rng, turns=setting.turns)
        log = traffic.log(
            rng, explored=setting.explored, graded=setting.graded, shadow=setting.shadow
        )
        strong = traffic.sides(0.35)
        target = np.c_[~strong, strong].astype(float)
        for method in METHODS:
            for name in truth:
                found = (
                    dollars(log, target, PRICES, method)
                    if name == "cost_usd"
                    else estimate(log, target, name, method)
                ).interval(0.95, seed=run)
                if not found.refusal:
                    hit = found.low <= truth[name] <= found.high
                    hits.setdefault((name, method), []).append(hit)
    return {key: (float(np.mean(found)), len(found)) for key, found in hits.items()}


def main() -> None:
    """Print a table a setting."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=300)
    options = parser.parse_args()
    for setting in SETTINGS:
        print(f"\n{setting.name}")
        for (name, method), (share, runs) in coverage(setting, options.runs).items():
            print(f"  {name:12s} {method:20s} {share:6.1%} of {runs}")


if __name__ == "__main__":
    main()
