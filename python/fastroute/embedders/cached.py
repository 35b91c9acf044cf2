"""A bounded memory of vectors already computed: least recently used goes first."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from fastroute._forking import ForkSafeLock
from fastroute._validate import check_count, check_prompt, check_prompts
from fastroute.embedders.base import Embedder
from fastroute.errors import EmbeddingError, InvalidTypeError
from fastroute.types import Float32Array


class CacheInfo(NamedTuple):
    """What a cache did so far."""

    hits: int  #: prompts answered from the cache (repeats within one batch count as hits)
    misses: int  #: prompts that had to be computed
    entries: int  #: vectors held now
    max_entries: int  #: the bound on ``entries``


class VectorCache:
    """Vectors by prompt, at most ``max_entries`` of them, safe to use from several threads.

    Keys are 128-bit digests, so an entry costs its vector and about 200 bytes however long the
    prompt is, and no prompt stays in memory. Nothing is locked while vectors are computed: two
    threads that miss the same prompt at the same moment both compute it.
    """

    def __init__(self, max_entries: int) -> None:
        self.max_entries = check_count("max_entries", max_entries, least=1)
        self._lock = ForkSafeLock()
        self._vectors: OrderedDict[bytes, Float32Array] = OrderedDict()
        self._hits = 0
        self._misses = 0

    def lookup(
        self,
        prompts: Sequence[str],
        compute: Callable[[list[str]], Iterable[Float32Array]],
    ) -> list[Float32Array]:
        """Vectors of ``prompts``, in order; ``compute`` gets the missing ones, each once.

        ``compute`` gives the vectors in one block [n, dimensions] or several. Each block is
        stored when it comes, so that a failure later loses none of the work before it. The
        vectors belong to the cache: copy before you write to them or lend them out.
        """
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in prompts]
        # What this call needs is held here, because a batch may be larger than the cache.
        found: dict[bytes, Float32Array] = {}
        with self._lock:
            for key in keys:
                vector = self._vectors.get(key)
                if vector is not None:
                    self._vectors.move_to_end(key)
                    found[key] = vector
        missing = {k: p for k, p in zip(keys, prompts, strict=True) if k not in found}
        if missing:
            pending = list(missing)
            for block in compute(list(missing.values())):
                # Copies: a view would keep the whole block alive.
                new = {key: row.copy() for key, row in zip(pending, block, strict=False)}
                del pending[: len(block)]
                found |= new
                self._store(new)
            if pending:
                raise EmbeddingError(
                    f"the embedder gave {len(missing) - len(pending)} vectors for "
                    f"{len(missing)} prompts"
                )
        with self._lock:
            self._hits += len(keys) - len(missing)
            self._misses += len(missing)
        return [found[key] for key in keys]

    def _store(self, new: dict[bytes, Float32Array]) -> None:
        with self._lock:
            for key, vector in new.items():
                self._vectors[key] = vector
                self._vectors.move_to_end(key)
            while len(self._vectors) > self.max_entries:
                self._vectors.popitem(last=False)

    def info(self) -> CacheInfo:
        with self._lock:
            return CacheInfo(self._hits, self._misses, len(self._vectors), self.max_entries)

    def clear(self) -> None:
        """Forget every vector; the counts of hits and misses continue."""
        with self._lock:
            self._vectors.clear()


class CachedEmbedder(Embedder):
    """An embedder with a bounded cache in front of it.

    Prompts are compared character for character. The memory is at most
    ``max_entries * (4 * dimensions + 200)`` bytes.

    Args:
        embedder: any embedder.
        max_entries: vectors kept, at least 1; the least recently used goes first.
    """

    def __init__(self, embedder: Embedder, max_entries: int = 4096) -> None:
        if not isinstance(embedder, Embedder):
            raise InvalidTypeError(f"embedder must be an Embedder, got {type(embedder).__name__}")
        self.embedder = embedder
        self._cache = VectorCache(max_entries)

    @property
    def name(self) -> str:
        """The name of the embedder behind: a cache changes no vector."""
        return self.embedder.name

    @property
    def dimensions(self) -> int:
        return self.embedder.dimensions

    @property
    def signals(self) -> int:
        return self.embedder.signals

    def embed(self, prompt: str) -> Float32Array:
        """Embed one prompt: float32[dimensions], the caller's own copy."""

        def compute(missing: list[str]) -> list[Float32Array]:
            return [self.embedder.embed(missing[0])[np.newaxis]]

        return self._cache.lookup([check_prompt(prompt)], compute)[0].copy()

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        """Embed many prompts: float32[n, dimensions], the caller's own copy.

        Each distinct prompt that is missing is computed once, in one batch.
        """
        texts = check_prompts(prompts)
        if not texts:
            return self.embedder.embed_batch([])

        def compute(missing: list[str]) -> list[Float32Array]:
            return [self.embedder.embed_batch(missing)]

        return np.stack(self._cache.lookup(texts, compute))

    def cache_info(self) -> CacheInfo:
        """Hits, misses, entries and the bound."""
        return self._cache.info()

    def clear_cache(self) -> None:
        """Forget every vector."""
        self._cache.clear()

    def __repr__(self) -> str:
        return f"CachedEmbedder({self.embedder!r}, max_entries={self._cache.max_entries})"
