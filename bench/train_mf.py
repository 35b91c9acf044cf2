"""How long ``fastroute train mf`` takes, and where the time goes.

``python bench/train_mf.py`` trains on 55,000 synthetic battles of 64 models over embeddings of 384
dimensions, as many as Chatbot Arena published, and checks the answer: the log-loss on held-out
prompts must come near that of the planted vectors that the battles were drawn from, or below it (a
fifth become ties at random, of which the vectors do not know). Embedding is timed apart, on as many
synthetic prompts, with the bundled embedder.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from fastroute.embedders import StaticEmbedder
from fastroute.training.mf.factorization import Settings, cross_entropy
from fastroute.training.mf.models import train_models
from fastroute.training.pairs import Pairs, held_out_parts
from words import COMMON_WORDS


def battles(
    count: int, dimensions: int, models: int, seed: int
) -> tuple[Pairs, np.ndarray, np.ndarray]:
    """Battles drawn from planted vectors of rank 8, embeddings of length 1, and true margins."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, dimensions)).astype(np.float32)
    X[:, 0] += 4.0
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    truth = rng.normal(size=(models, 8)) @ rng.normal(size=(8, dimensions))
    truth[:, 0] += rng.normal(size=models) * 4.0
    a = rng.integers(models, size=count)
    b = (a + rng.integers(1, models, size=count)) % models
    margin = np.einsum("nd,nd->n", X, truth[b] - truth[a])
    won = (rng.random(count) < 1.0 / (1.0 + np.exp(-margin))).astype(np.float64)
    won[rng.random(count) < 0.2] = 0.5
    names, prompts = (tuple(f"{what}{i}" for i in range(n)) for what, n in
                      (("model ", models), ("prompt ", count)))  # fmt: skip
    pairs = Pairs(
        names, prompts, ("",), np.zeros(count, dtype=np.int64), np.arange(count), a, b, won,
        np.ones(count),
    )  # fmt: skip
    return pairs, X, margin


def main() -> None:
    """Print the seconds of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--battles", type=int, default=55_000)
    parser.add_argument("--embedding-dimensions", type=int, default=384)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--dimensions", type=int, default=Settings().dimensions)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    pairs, X, margin = battles(
        options.battles, options.embedding_dimensions, options.models, options.seed
    )
    settings = Settings(dimensions=options.dimensions, seed=options.seed)
    began, cpu = time.perf_counter(), time.process_time()
    trained = train_models(pairs, X, None, settings=settings)
    took, used = time.perf_counter() - began, time.process_time() - cpu
    _, test = held_out_parts(pairs.prompts, 0.1, options.seed)
    best = float(cross_entropy(margin[test], pairs.preference[test]).mean())
    assert trained.state is not None
    print(f"{len(pairs):,} battles x {X.shape[1]}, {options.models} models, k={options.dimensions}")
    print(f"training: {took:.1f} s ({used:.1f} s of processor), {trained.state.epoch} epochs, "
          f"{took / trained.state.epoch:.2f} s an epoch")  # fmt: skip
    print(f"held-out log-loss {trained.figures.log_loss:.4f}; strengths alone "
          f"{trained.levels_alone.log_loss:.4f}, the planted vectors {best:.4f}")  # fmt: skip
    gained = trained.levels_alone.log_loss - trained.figures.log_loss
    assert gained > 0.5 * (trained.levels_alone.log_loss - best), "learnt less than half of it"
    rng = np.random.default_rng(options.seed)
    prompts = [" ".join(rng.choice(COMMON_WORDS, size=60)) for _ in range(options.battles)]
    embedder = StaticEmbedder.load_default()
    began = time.perf_counter()
    embedder.embed_batch(prompts)
    print(
        f"embedding, the bundled embedder, 60 words a prompt: {time.perf_counter() - began:.1f} s"
    )


if __name__ == "__main__":
    main()
