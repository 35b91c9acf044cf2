"""Microseconds of a decision among 20 candidates, text in, against one between a pair.

``python bench/many_models_speed.py [--prompts FILE.jsonl] [--candidates 20]`` trains a ``models``
router on made-up grades of the prompts (by default the everyday prompts beside this file), in which
models are good at different lengths of prompt. It times in turns, and prints the best round of: the
pair's Controller (bundled ``mf``), each policy of a ``CandidateDecider``, and the same with
neighbours among 2,000 graded prompts. A decision's quality is checked against the router's.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastroute import Controller
from fastroute.candidates import Candidate
from fastroute.data.row_files import read_rows
from fastroute.embedders import StaticEmbedder
from fastroute.many_models import CandidateDecider
from fastroute.routers import ModelsRouter
from fastroute.routers.many_models.estimator import SuccessEstimator
from fastroute.routers.many_models.fit import fit_estimator
from fastroute.routers.many_models.neighbors import GradedNeighbors
from timing import interleaved_loops_us

PROMPTS = Path(__file__).parent / "everyday_prompts.jsonl"
POLICIES = ("max_quality", "best_value=2", "quality_at_least=0.95", "spend_at_most=1.2")
GRADED = 2000


def train(prompts: list[str], models: int) -> SuccessEstimator:
    """An estimator of ``models`` models with grades on GRADED variants of the prompts."""
    random = np.random.default_rng(0)
    texts = [f"{prompts[i % len(prompts)]} {i}" for i in range(GRADED)]
    hard = np.array([len(text) for text in texts]) > np.median([len(text) for text in texts])
    skill = random.uniform(0.3, 0.9, size=(2, models))
    grades = (random.random((GRADED, models)) < skill[hard.astype(int)]).astype(np.float64)
    X = StaticEmbedder.load_default().embed_batch(texts)
    names = [f"model-{j}" for j in range(models)]
    return fit_estimator(names, X, grades, random.permutation(GRADED) % 5).estimator


def with_neighbors(estimator: SuccessEstimator, prompts: list[str]) -> SuccessEstimator:
    """The estimator with 10 of GRADED prompts looked at, whether or not that would help it."""
    texts = [f"{prompts[i % len(prompts)]} {i}" for i in range(GRADED)]
    X = StaticEmbedder.load_default().embed_batch(texts)
    own = np.zeros((GRADED, len(estimator.models)), np.float32)
    neighbors = GradedNeighbors(X, np.zeros(GRADED, np.float32), own, 10, estimator.clusters)
    return estimator.with_heads(estimator.models, estimator.heads, neighbors)


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FILE.jsonl")
    parser.add_argument("--candidates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    rows = [row for _, row in read_rows(options.prompts) if isinstance(row, dict)]
    prompts = [str(row["prompt"]) for row in rows][:500]
    estimator = train(prompts, options.candidates)
    alone = estimator.with_heads(estimator.models, estimator.heads, None)
    candidates = [
        Candidate(name, 0.1 * (j + 1), 0.4 * (j + 1), context_window=1_000_000)
        for j, name in enumerate(estimator.models)
    ]
    pair = Controller(routers=["mf"], strong_model="strong", weak_model="weak")
    functions: dict[str, Callable[[str], object]] = {"pair, Controller": pair.decide}
    for label, chosen in (("", alone), (" with neighbours", with_neighbors(alone, prompts))):
        router = ModelsRouter(chosen, embedder=StaticEmbedder.load_default())
        for policy in POLICIES:
            decider = CandidateDecider(candidates, policy, router)
            for prompt in prompts[:20]:
                decision = decider.decide(prompt)
                j = estimator.models.index(decision.model)
                assert abs(router.estimate([prompt]).probability[0, j] - decision.quality) < 1e-6
            functions[policy + label] = decider.decide
    rounds = [interleaved_loops_us(functions, prompts, rounds=1) for _ in range(options.rounds)]
    taken = {name: min(round_[name] for round_ in rounds) for name in functions}
    lengths = [len(prompt) for prompt in prompts]
    print(f"{len(prompts)} prompts, median {np.median(lengths):.0f} characters")
    for name, microseconds in taken.items():
        ratio = microseconds / taken["pair, Controller"]
        print(f"  {name:38s}{microseconds:8.2f} us  {ratio:5.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
