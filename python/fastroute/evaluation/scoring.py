"""Win rates of many prompts: each distinct prompt is scored once, cached and timed."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from fastroute._progress import progress_bar
from fastroute._validate import check_prompts
from fastroute.embedders.base import Embedder
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.evaluation.benchmarks.routellm import Benchmark
from fastroute.evaluation.cache import WinRateCache, router_identity
from fastroute.evaluation.results import Timings
from fastroute.routers.base import EmbeddingRouter, Router
from fastroute.types import Float32Array, Float64Array

_PROMPTS_PER_CHUNK = 1024


def score(
    router: Router,
    prompts: Sequence[str],
    *,
    cache: WinRateCache | None = None,
    progress: bool = False,
) -> Float64Array:
    """Win rates of ``prompts``, float64[n]; each distinct prompt is scored once.

    Args:
        router: any router.
        prompts: n texts.
        cache: stores the win rates of a router that was loaded from an artifact.
        progress: show a progress bar on standard error.

    Raises InvalidInputError unless the router returns one finite number per prompt,
    InvalidTypeError for something that is not a Router or not a sequence of texts.
    """
    check_router("router", router)
    if isinstance(prompts, Benchmark):
        raise InvalidTypeError(
            "prompts must be a sequence of texts, got a Benchmark; pass benchmark.prompts"
        )
    prompts = check_prompts(prompts)
    return Scorer(router.name, router, cache).win_rates(prompts, router.name, progress)[0]


def check_router(name: str, value: object) -> None:
    """Raise InvalidTypeError unless ``value`` is a Router."""
    if not isinstance(value, Router):
        raise InvalidTypeError(f"{name} must be a Router, got {type(value).__name__}")


class Scorer:
    """Scores each distinct prompt once with a router, and measures the time."""

    def __init__(self, label: str, router: Router, cache: WinRateCache | None) -> None:
        self.label = label
        self.router = router
        self._cache = cache
        self._identity = None if cache is None else router_identity(router)
        self._known: dict[str, float] = {}
        self._timer: _TimedEmbedder | None = None
        self._asked = router
        if isinstance(router, EmbeddingRouter) and router.embedder is not None:
            # A second instance of the same router, so that the caller's keeps its embedder. Not
            # copy.copy, because a router may not support it.
            timed = object.__new__(type(router))
            vars(timed).update(vars(router))
            timed.embedder = self._timer = _TimedEmbedder(router.embedder)
            self._asked = timed

    def win_rates(
        self, prompts: Sequence[str], title: str, progress: bool
    ) -> tuple[Float64Array, Timings]:
        missing = [p for p in dict.fromkeys(prompts) if p not in self._known]
        if self._cache is not None and self._identity is not None and missing:
            found = self._cache.lookup(self._identity, missing)
            self._known |= {
                p: float(rate) for p, rate in zip(missing, found, strict=True) if rate == rate
            }
            missing = [p for p in missing if p not in self._known]
        start = time.perf_counter()
        embedded_before = 0.0 if self._timer is None else self._timer.seconds
        with progress_bar(len(missing), title, shown=progress and bool(missing)) as advance:
            for i in range(0, len(missing), _PROMPTS_PER_CHUNK):
                chunk = missing[i : i + _PROMPTS_PER_CHUNK]
                rates = np.asarray(self._asked.win_rates(chunk), dtype=np.float64)
                self._check(chunk, rates)
                self._known.update(zip(chunk, rates.tolist(), strict=True))
                if self._cache is not None and self._identity is not None:
                    self._cache.store(self._identity, chunk, rates)
                advance(len(chunk))
        spent = time.perf_counter() - start
        embed_s = 0.0 if self._timer is None else self._timer.seconds - embedded_before
        values = np.array([self._known[p] for p in prompts], dtype=np.float64)
        return values, Timings(
            len(missing), len(prompts) - len(missing), embed_s=embed_s, score_s=spent - embed_s
        )

    def _check(self, chunk: Sequence[str], rates: Float64Array) -> None:
        if rates.shape != (len(chunk),) or not np.isfinite(rates).all():
            raise InvalidInputError(
                f"router {self.label!r} returned win rates of shape {rates.shape} for {len(chunk)} "
                "prompts, or some that are not finite; it must return one finite number per prompt"
            )


class _TimedEmbedder(Embedder):
    """An embedder that measures the time spent in another."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self.seconds = 0.0

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    def embed(self, prompt: str) -> Float32Array:
        start = time.perf_counter()
        vector = self._embedder.embed(prompt)
        self.seconds += time.perf_counter() - start
        return vector

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        start = time.perf_counter()
        vectors = self._embedder.embed_batch(prompts)
        self.seconds += time.perf_counter() - start
        return vectors
