"""False alarms of the drift monitor, and how long it takes to notice a change.

``python bench/drift_runs.py`` simulates 200 series of conversations in which nothing changes, and
others with a planted change after 1,000 and after 10,000 conversations: a new kind of prompt, a
weak model that gets better or worse, answers that get longer. Scores below 0.31, about half, go to
the weak model, whose answers are good in 60 % on average, and in fewer where the score is higher.
Half of the answers have a grade; ``--shadows 0.1`` has a judge compare both models for a tenth of
the conversations instead, and with ``--known 0`` the score says nothing of the weak model's answer.
"""

from __future__ import annotations

import argparse

import numpy as np

from fastroute.rollout.drift import Drift

CHANGES = ("none", "30 % new prompts", "100 % new prompts", "quality -0.15", "quality +0.15",
           "answers 30 % longer")  # fmt: skip
#: The logit of the weak model's quality at the mean score, by its slope: 60 % in all.
LEVELS = {0.0: 0.41, 5.0: 0.5}


def run(
    change: str, seed: int, after: int, most: int, shadows: float = 0.0, known: float = 5.0
) -> tuple[int, int]:
    """False alarms before the change, and conversations from the change to an alarm, or -1."""
    rng = np.random.default_rng([seed, 19])
    drift = Drift()
    early = 0
    for i in range(after + most):
        new = i >= after and change != "none"
        hard = new and "prompts" in change and rng.random() < float(change.split()[0]) / 100
        score = rng.beta(8, 3) if hard else rng.beta(2, 4)
        drift.observe("win_rate", score, i)
        weak = 1.0 / (1.0 + np.exp(known * (score - 1 / 3) - LEVELS[known]))
        if new and "quality" in change:
            weak = min(max(weak + float(change.split()[1]), 0.0), 1.0)
        is_good = rng.random(2) < (weak, 0.8)
        k = int((score >= 0.31) != (rng.random() < 0.01))
        if rng.random() < shadows:
            verdict = (1.0 + is_good[0] - is_good[1]) / 2.0
            drift.observe_grade("weak", "judge", score, verdict, i)
            drift.observe_grade("strong", "judge", score, 1.0 - verdict, i)
        elif rng.random() < 0.5:
            drift.observe_grade(("weak", "strong")[k], "user", score, float(is_good[k]), i)
        longer = 1.3 if new and "longer" in change and k == 0 else 1.0
        tokens = rng.lognormal(5.0, 0.7) * longer
        drift.observe(f"output tokens of {('weak', 'strong')[k]}", tokens, i)
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
    parser.add_argument("--shadows", type=float, default=0.0, help="share that is judged")
    parser.add_argument("--known", type=float, choices=LEVELS, default=5.0)
    parser.add_argument("--change", choices=CHANGES, action="append", help="default: all")
    parser.add_argument("--after", type=int, nargs="+", default=[1000, 10_000], metavar="N")
    options = parser.parse_args()
    for after in options.after:
        for change in options.change or CHANGES:
            runs = options.runs if change == "none" else options.runs // 4
            most = 5000
            found = [
                run(change, seed, after, most, options.shadows, options.known)
                for seed in range(runs)
            ]
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
