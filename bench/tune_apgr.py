"""APGR of tune's head after a few graded prompts, beside train_mf, kNN, the default and length.

``python bench/tune_apgr.py --data FOLDER --routerbench FOLDER`` draws 25 to 400 prompts of each
pair, learns, and scores at most 2,500 of the others: means over draws. A cell is marked "below" if
the head is below the better of default and coin by two standard errors over the draws. The head is
the favourite of ``fastroute tune``, which learns from 40 % of the prompts that it is given.
"""

from __future__ import annotations

import argparse

import numpy as np

from fastroute.embedders import StaticEmbedder
from fastroute.evaluation import Benchmark, apgr, curve
from fastroute.learning.tune.head import Moments, Parts, fit_linear
from fastroute.routers import MatrixFactorizationRouter
from fastroute.training.folds import fold_numbers
from fastroute.training.heads import FOLDS, fit_head
from tune_data import add_folders, benchmarks, is_of_the_default

_COUNTS = (25, 50, 100, 200, 400)
_SCORED = 2500
_NAMES = ("head", "train_mf", "kNN", "default", "length")


def main() -> None:
    """Print a line a pair and number of graded prompts, and means over the pairs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_folders(parser)
    parser.add_argument("--draws", type=int, default=20)
    options = parser.parse_args()
    default = MatrixFactorizationRouter.load_default()
    means: dict[int, list[np.ndarray]] = {count: [] for count in _COUNTS}
    print("pair, prompts, " + ", ".join(_NAMES))
    for benchmark in benchmarks(options):
        embedder = StaticEmbedder.load_default()
        X = embedder.embed_batch(list(benchmark.prompts))
        of_default = is_of_the_default(benchmark)
        for count in _COUNTS:
            if 2 * count > len(benchmark):
                continue
            areas = np.array([
                _areas(benchmark, X, default, of_default, embedder.signals, count, seed)
                for seed in range(options.draws)
            ])  # fmt: skip
            means[count].append(areas.mean(axis=0))
            lead = areas[:, 0] - np.maximum(areas[:, 3], 0.5)
            error = lead.std(ddof=1) / np.sqrt(len(lead)) if len(lead) > 1 else 0.0
            flag = "  below" if lead.mean() < -2 * error else ""
            seen = "*" if of_default else ""
            cells = "  ".join(f"{area:.3f}" for area in areas.mean(axis=0))
            print(f"{benchmark.name + seen:16} {count:4}  {cells}{flag}", flush=True)
    for count, rows in means.items():
        if rows:
            cells = "  ".join(f"{area:.4f}" for area in np.mean(rows, axis=0))
            print(f"mean of {len(rows):2} pairs {count:4}  {cells}")
    print("*: the default router was trained on these prompts: the head does without it there")


def _areas(
    benchmark: Benchmark,
    X: np.ndarray,
    default: MatrixFactorizationRouter,
    of_default: bool,
    signals: int,
    count: int,
    seed: int,
) -> list[float]:
    order = np.random.default_rng(seed).permutation(len(X))
    some, rest = order[:count], order[count : count + _SCORED]
    gains = benchmark.strong - benchmark.weak
    deltas = default.deltas_from_embeddings(np.eye(X.shape[1], dtype=np.float32))
    pair = (deltas[:, 0] - deltas[:, 1]).astype(np.float64)
    E = X.astype(np.float64)
    # As tune does where the default was trained on the prompts.
    prior = None if of_default else pair
    head = fit_linear(Moments.of(E[some], gains[some], np.ones(count)), Parts(prior, signals))
    texts = [benchmark.prompts[i] for i in some]
    mf = fit_head(
        X[some], (1.0 + gains[some]) / 2.0, group_ids=np.zeros(count, dtype=np.int64),
        weights=np.ones(count), fold_ids=fold_numbers(texts, FOLDS, seed), signals=signals,
    )  # fmt: skip
    meaning = E[:, :-signals] / np.maximum(
        np.linalg.norm(E[:, :-signals], axis=1, keepdims=True), 1e-9
    )
    k = max(5, round(count**0.5))
    near = np.argpartition(-(meaning[rest] @ meaning[some].T), k - 1, axis=1)[:, :k]
    lengths = np.array([len(benchmark.prompts[i]) for i in rest], dtype=np.float64)
    scores = (E[rest] @ head, E[rest] @ mf.pair, gains[some][near].mean(axis=1), E[rest] @ pair,
              lengths)  # fmt: skip
    return [apgr(curve(s, benchmark.weak[rest], benchmark.strong[rest])) for s in scores]


if __name__ == "__main__":
    main()
