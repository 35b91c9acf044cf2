"""How often ``fastroute tune`` says "use" where there is something to learn, and where not.

``python bench/tune_verdicts.py --data FOLDER --draws 200`` draws prompts of each pair, tunes, and
counts verdicts: with their own grades, and with grades shuffled over the prompts.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter

import numpy as np

from fastroute.learning import Goal, tune_router
from tune_data import add_folders, benchmarks, export_of


def main() -> None:
    """Print a line a pair and kind of grades."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_folders(parser)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=1000, help="of a draw; at most all")
    parser.add_argument("--target-quality", type=float, default=0.95)
    parser.add_argument("--grades", nargs="+", choices=("own", "shuffled"),
                        default=["own", "shuffled"])  # fmt: skip
    options = parser.parse_args()
    goal = Goal("quality", options.target_quality, 0.95)
    for benchmark in benchmarks(options):
        count = min(options.prompts, len(benchmark))
        for kind in options.grades:
            verdicts: Counter[str] = Counter()
            began = time.perf_counter()
            for seed in range(options.draws):
                rng = np.random.default_rng(seed)
                rows = rng.permutation(len(benchmark))[:count]
                grades = rng.permutation(rows) if kind == "shuffled" else None
                found = tune_router(export_of(benchmark, rows, grades), goal, seed=seed)
                verdicts[found.verdict] += 1
            took = (time.perf_counter() - began) / options.draws
            print(
                f"{benchmark.name}, {count:,} prompts, {kind} grades: use in {verdicts['use']}, "
                f"do_not_use in {verdicts['do_not_use']} of {options.draws}; {took:.1f} s each",
                flush=True,
            )


if __name__ == "__main__":
    main()
