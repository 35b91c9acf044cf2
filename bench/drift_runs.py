"""False alarms of the drift monitor, and how long it takes to notice a change.

``python bench/drift_runs.py`` simulates 200 series of conversations in which nothing changes, and
others with a planted change after 1,000 and after 10,000 conversations: a new kind of prompt, a
model that gets better or worse (half of its answers have a grade), answers that get longer.
"""

from __future__ import annotations

import argparse

import numpy as np

from fastroute.rollout.drift import Drift

CHANGES = ("none", "30 % new prompts", "100 % new prompts", "quality -0.15", "quality +0.15",
           "answers 30 % longer")  # fmt: skip


def run(change: str, seed: int, after: int, most: int) -> tuple[int, int]:
    """False alarms before the change, and conversations from the change to an alarm, or -1."""
    rng = np.random.default_rng([seed, 19])
    drift = Drift()
    early = 0
    for i in range(after + most):
        new = i >= after and change != "none"
        hard = new and "prompts" in change and rng.random() < float(change.split()[0]) / 100
        drift.observe("win_rate", rng.beta(8, 3) if hard else rng.beta(2, 4), i)
        for model, p in (("weak", 0.6), ("strong", 0.8)):
            if new and model == "weak" and "quality" in change:
                p += float(change.split()[1])
            if rng.random() < 0.25:
                drift.observe(f"quality of {model}", float(rng.random() < p), i)
            tokens = rng.lognormal(5.0, 0.7)
            longer = 1.3 if new and "longer" in change and model == "weak" else 1.0
            if rng.random() < 0.5:
                drift.observe(f"output tokens of {model}", tokens * longer, i)
        if drift.alarms:
            if not new:
                early += 1
                drift.alarms.clear()
            else:
                return early, i + 1 - after
    return early, -1


def main() -> None:
    """Print a line a change."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=200)
    options = parser.parse_args()
    for after in (1000, 10_000):
        for change in CHANGES:
            runs = options.runs if change == "none" else options.runs // 10
            most = 5000
            found = [run(change, seed, after, most) for seed in range(runs)]
            false = np.mean([early > 0 for early, _ in found])
            delays = [delay for _, delay in found if delay >= 0]
            median = np.median(delays) if delays else np.nan
            print(
                f"after {after:6,}: {change:22s} {runs} runs, false alarms in {false:5.1%}, "
                f"noticed in {len(delays) / runs:6.1%}, after {median:,.0f} conversations (median)",
                flush=True,
            )


if __name__ == "__main__":
    main()
