"""The default router: text to decision, embedding to decision, batches, and threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from data import load_prompts
from fastroute import Controller
from fastroute.routers import MatrixFactorizationRouter
from measures.figure import Figure, Settings
from rivals import mf_fastroute, mf_numpy, mf_tokenizers
from timing import interleaved_loops_us, interleaved_us

THRESHOLD = 0.5
CONCURRENT_THREADS = 8


def measure(settings: Settings) -> Iterator[Figure]:
    count = (1000 if settings.quick else None) if settings.data else 2000
    prompts = load_prompts(settings.data, count)
    kind = "MMLU" if settings.data else "synthetic (no --data)"
    which = f"{len(prompts):,} {kind} prompts"
    yield _text_to_decision(prompts, which)
    yield _batch_seconds(prompts, which)
    yield _embedding_to_decision(1000 if settings.quick else 5000)
    count = 1000 if settings.quick else 10_000
    yield from _batches(load_prompts(settings.data, count))


def _text_to_decision(prompts: list[str], which: str) -> Figure:
    controllers = [
        Controller(routers=["mf"], strong_model="strong", weak_model="weak") for _ in range(2)
    ]
    router, numpy_router = mf_fastroute.load(), mf_numpy.load()
    tokenizer = mf_tokenizers.load()

    # Nobody shares a table with another: each finds its own as cold as the rest.
    functions: dict[str, Callable[[Any], object]] = {
        "route": lambda prompt: controllers[0].route(prompt, router="mf", threshold=THRESHOLD),
        "decide": lambda prompt: controllers[1].decide(prompt, router="mf", threshold=THRESHOLD),
        "win_rate": lambda prompt: router.win_rate(prompt) >= THRESHOLD,
        "tokenizers": lambda prompt: tokenizer.encode(prompt, add_special_tokens=False),
        "numpy": lambda prompt: mf_numpy.route_text(numpy_router, prompt) >= THRESHOLD,
    }
    interleaved_us(functions, prompts[:200])  # warm
    rounds = 3
    best = interleaved_us(functions, prompts, rounds=rounds)
    median = {name: float(np.median(times)) for name, times in best.items()}
    limit = median["tokenizers"]
    each = float(np.median(best["route"] / best["tokenizers"]))
    return Figure(
        "text to decision, against `tokenizers` alone",
        "at most",
        0.15,
        median["route"] / limit,
        "times",
        f"medians over {which}, best of {rounds} each, in turns, one thread: "
        f"`Controller.route` {median['route']:.1f} us, `tokenizer.encode(prompt, "
        f"add_special_tokens=False)` {limit:.0f} us with {mf_tokenizers.which()} (prompt by prompt "
        f"the median ratio is {each:.3f}); `Controller.decide` {median['decide'] / limit:.3f} "
        f"times, the router alone {median['win_rate'] / limit:.3f} times, plain Python and NumPy "
        f"{median['numpy'] / limit:.1f} times",
    )


def _batch_seconds(prompts: list[str], which: str) -> Figure:
    router = mf_fastroute.load()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        router.win_rates(prompts)
        seconds.append(time.perf_counter() - begin)
    return Figure(
        "all prompts to win rates by `mf`", "at most", 0.3, min(seconds), "s",
        f"{which}, best of 5, all processors",
    )  # fmt: skip


def _embedding_to_decision(rounds: int) -> Figure:
    router, numpy_router = mf_fastroute.load(), mf_numpy.load()
    X = np.random.default_rng(0).standard_normal((100, router.dimensions), dtype=np.float32)
    functions: dict[str, Callable[[Any], object]] = {
        "fastroute": lambda x: router.win_rate_from_embedding(x) >= THRESHOLD,
        "numpy": lambda x: mf_numpy.route_embedding(numpy_router, x) >= THRESHOLD,
    }
    median = interleaved_loops_us(functions, list(X), rounds=rounds)
    return Figure(
        "embedding to decision, `mf`, from Python",
        "at most",
        2.0,
        median["fastroute"],
        "us",
        f"median of {rounds:,} loops over 100 embeddings of {router.dimensions} dimensions, one "
        f"thread; plain NumPy in turns with it: {median['numpy']:.2f} us",
    )


def _batches(prompts: list[str]) -> Iterator[Figure]:
    router = mf_fastroute.load()
    single = np.array([router.win_rate(prompt) for prompt in prompts])
    assert router.embedder is not None
    X = router.embedder.embed_batch(prompts)
    differ = []
    differ.append(int((router.win_rates(prompts) != single).sum()))
    for num_threads in (1, 2):
        scored = router.win_rates_from_embeddings(X, num_threads=num_threads)
        differ.append(int((scored != single).sum()))
    yield Figure(
        f"win rates of a batch of {len(prompts):,} that differ from single calls",
        "at most",
        0,
        sum(differ),
        "",
        "exact equality; from texts (all processors) and from embeddings (1 thread, then 2)",
    )
    yield Figure(
        f"win rates that differ under {CONCURRENT_THREADS} threads at once",
        "at most",
        0,
        _differ_concurrently(router, prompts, single),
        "",
        f"exact equality; {CONCURRENT_THREADS} threads share one router, each routes all "
        f"{len(prompts):,} prompts in an order of its own",
    )


def _differ_concurrently(
    router: MatrixFactorizationRouter, prompts: list[str], single: np.ndarray
) -> int:
    def work(seed: int) -> int:
        order = np.random.default_rng(seed).permutation(len(prompts))
        return sum(router.win_rate(prompts[i]) != single[i] for i in order)

    with ThreadPoolExecutor(CONCURRENT_THREADS) as pool:
        return sum(pool.map(work, range(CONCURRENT_THREADS)))
