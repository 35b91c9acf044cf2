"""How often ``fastroute tune`` keeps what it promises, and how many strong calls that takes.

``python bench/tune_coverage.py --data FOLDER`` takes MMLU, GSM8K and MMLU-Pro as traffic, certifies
a threshold of the bundled router (0.95 of the quality, confidence 0.95; the weak model for
everything is tested on the same prompts), and measures twice:

- The promise is of the mean of the traffic that the prompts are drawn from. 2,000 prompts are drawn
  with replacement: is the quality kept on all the traffic, and how many strong calls are made,
  against the threshold of an oracle that knows all grades?
- Further requests vary around that mean, and the promise holds for them too from five times as many
  on. At most a sixth of the prompts is drawn: is the quality kept on the others? ``--half`` draws
  half, so that the others are too few.

``--whole N`` runs all of ``tune_router`` in N splits as well.
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
    parser.add_argument("--prompts", type=int, default=2000, help="drawn")
    parser.add_argument("--half", action="store_true", help="draw half of the prompts")
    options = parser.parse_args()
    options.only = options.only or ["mmlu", "gsm8k", "mmlu_pro"]
    router = create_router("mf")
    for benchmark in benchmarks(options):
        rates = router.win_rates(benchmark.prompts)
        weak, strong = np.asarray(benchmark.weak), np.asarray(benchmark.strong)
        n = len(rates)
        thresholds = grid(rates, _GOAL)
        found = []
        for seed in range(options.splits):
            some = np.random.default_rng(seed).integers(0, n, options.prompts)
            graded = Graded(weak[some], strong[some], None, None, np.arange(len(some)))
            threshold = certify(_GOAL, thresholds, rates[some], graded, graded).threshold or 0.0
            found.append((True, *_outcome(rates, threshold, weak, strong)))
        kept, share, oracle = np.array(found, dtype=np.float64).T[1:]
        print(
            f"{benchmark.name}, {options.prompts:,} prompts drawn from {n:,}, {len(found):,} "
            f"times: kept in {kept.mean():.1%}; strong calls {share.mean():.3f}, oracle "
            f"{oracle.mean():.3f}, ratio {share.mean() / oracle.mean():.3f}",
            flush=True,
        )
        count = min(options.prompts, n // (2 if options.half else 6))
        found = []
        for seed in range(options.splits):
            order = np.random.default_rng(seed).permutation(n)
            some, rest = order[:count], order[count:]
            graded = Graded(weak[some], strong[some], None, None, np.arange(count))
            threshold = certify(_GOAL, thresholds, rates[some], graded, graded).threshold or 0.0
            kept_on_all = _keeps(rates >= threshold, weak, strong)
            found.append((kept_on_all, *_outcome(rates[rest], threshold, weak[rest], strong[rest])))
        _print(f"{benchmark.name}, {count:,} prompts and {n - count:,} others", found)
        found = []
        for seed in range(options.whole):
            order = np.random.default_rng(seed).permutation(n)
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
