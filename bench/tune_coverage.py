"""How often ``fastroute tune`` keeps what it promises, and how many strong calls that takes.

``python bench/tune_coverage.py --data FOLDER`` draws prompts of MMLU, GSM8K and MMLU-Pro, certifies
a threshold of the bundled router on them (0.95 of the quality, confidence 0.95), and looks at the
others: is the quality kept, and how many strong calls are made, against the threshold of an oracle
that knows the others' grades. The promise is of the population; where the others are few, their own
quality differs from it by chance, so it is also said how often the quality is kept on all prompts,
drawn and others. ``--whole N`` runs all of ``tune_router`` in N splits as well.
"""

from __future__ import annotations

import argparse

import numpy as np

from fastroute.learning import Goal, tune_router
from fastroute.learning.tune.guarantee import Graded, certify
from fastroute.learning.tune.run import grid
from fastroute.routers import create_router
from tune_data import add_folders, benchmarks, export_of

_GOAL = Goal("quality", 0.95, 0.95)


def main() -> None:
    """Print a line a benchmark."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_folders(parser)
    parser.add_argument("--splits", type=int, default=1000)
    parser.add_argument("--whole", type=int, default=0)
    parser.add_argument("--prompts", type=int, default=2000, help="drawn; at most half of all")
    options = parser.parse_args()
    options.only = options.only or ["mmlu", "gsm8k", "mmlu_pro"]
    router = create_router("mf")
    for benchmark in benchmarks(options):
        rates = router.win_rates(benchmark.prompts)
        weak, strong = np.asarray(benchmark.weak), np.asarray(benchmark.strong)
        count = min(options.prompts, len(rates) // 2)
        thresholds = grid(rates, _GOAL)
        found = []
        for seed in range(options.splits):
            order = np.random.default_rng(seed).permutation(len(rates))
            some, rest = order[:count], order[count:]
            graded = Graded(weak[some], strong[some], None, None, np.arange(count))
            threshold = certify(_GOAL, thresholds, rates[some], graded).threshold or 0.0
            kept = _keeps(rates >= threshold, weak, strong)
            found.append((kept, *_outcome(rates[rest], threshold, weak[rest], strong[rest])))
        _print(f"{benchmark.name}, {count:,} prompts, bundled router", found)
        found = []
        for seed in range(options.whole):
            order = np.random.default_rng(seed).permutation(len(rates))
            some, rest = order[:count], order[count:]
            tuned = tune_router(export_of(benchmark, some), _GOAL, seed=seed)
            threshold = tuned.threshold if tuned.certified else 0.0
            own = tuned.router.win_rates(benchmark.prompts)
            kept = _keeps(own >= threshold, weak, strong)
            found.append((kept, *_outcome(own[rest], threshold, weak[rest], strong[rest])))
        if found:
            _print(f"{benchmark.name}, {count:,} prompts, tune", found)


def _keeps(to_strong: np.ndarray, weak: np.ndarray, strong: np.ndarray) -> bool:
    chosen = np.where(to_strong, strong, weak)
    return bool(chosen.mean() >= _GOAL.target * strong.mean())


def _outcome(
    rates: np.ndarray, threshold: float, weak: np.ndarray, strong: np.ndarray
) -> tuple[bool, float, float]:
    """Whether the quality is kept, the share of strong calls, and that of the oracle."""
    to_strong = rates >= threshold
    order = np.argsort(-rates, kind="stable")
    quality = (weak.sum() + np.append(0.0, np.cumsum((strong - weak)[order]))) / len(rates)
    least = int(np.argmax(quality >= _GOAL.target * strong.mean())) / len(rates)
    return _keeps(to_strong, weak, strong), float(to_strong.mean()), least


def _print(name: str, found: list[tuple[bool, bool, float, float]]) -> None:
    everywhere, kept, share, oracle = np.array(found, dtype=np.float64).T
    print(
        f"{name}, {len(found):,} splits: kept on all prompts in "
        f"{everywhere.mean():.1%}, on the others in {kept.mean():.1%}; strong calls "
        f"{share.mean():.3f}, oracle {oracle.mean():.3f}, ratio {share.mean() / oracle.mean():.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
