"""The bounded cache: same vectors, fewer computations, never more than max_entries."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastroute.embedders.base import Embedder
from fastroute.embedders.cached import CachedEmbedder, CacheInfo
from fastroute.errors import EmbeddingError, InvalidInputError, InvalidTypeError
from fastroute.types import Float32Array


class Letters(Embedder):
    """Counts letters, and remembers what it was asked."""

    name = "letters"
    dimensions = 26

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.fails = False
        self._lock = threading.Lock()

    def embed(self, prompt: str) -> Float32Array:
        return self.embed_batch([prompt])[0]

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        if self.fails:
            raise EmbeddingError("out of order")
        with self._lock:
            self.batches.append(list(prompts))
        rows = [[p.count(chr(97 + i)) for i in range(26)] for p in prompts]
        return np.array(rows, dtype=np.float32).reshape(len(prompts), 26)


def test_a_repeated_prompt_is_computed_once() -> None:
    inner = Letters()
    cached = CachedEmbedder(inner, 4)
    first = cached.embed("banana")
    np.testing.assert_array_equal(first, inner.embed("banana"))
    inner.batches.clear()
    np.testing.assert_array_equal(cached.embed("banana"), first)
    np.testing.assert_array_equal(cached.embed_batch(["banana", "banana"]), [first, first])
    assert inner.batches == []
    assert cached.cache_info() == CacheInfo(hits=3, misses=1, entries=1, max_entries=4)


def test_a_batch_computes_each_missing_prompt_once_and_keeps_the_order() -> None:
    inner = Letters()
    cached = CachedEmbedder(inner, 10)
    cached.embed("a")
    prompts = ["b", "a", "c", "b"]
    X = cached.embed_batch(prompts)
    assert inner.batches[1:] == [["b", "c"]]
    assert X.dtype == np.float32
    assert X.flags.c_contiguous
    np.testing.assert_array_equal(X, Letters().embed_batch(prompts))


def test_what_a_caller_writes_does_not_reach_the_cache() -> None:
    cached = CachedEmbedder(Letters(), 2)
    cached.embed("a")[:] = 7
    cached.embed("a")[:] = 7
    cached.embed_batch(["a", "b"])[:] = 7
    np.testing.assert_array_equal(cached.embed_batch(["a", "b"]), Letters().embed_batch(["a", "b"]))


def test_what_the_embedder_writes_later_does_not_reach_the_cache() -> None:
    buffer = np.zeros((2, 26), dtype=np.float32)

    class Reuses(Letters):
        def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
            buffer[: len(prompts)] = super().embed_batch(prompts)
            return buffer[: len(prompts)]

    cached = CachedEmbedder(Reuses(), 4)
    cached.embed_batch(["a", "b"])
    cached.embed_batch(["c", "d"])
    np.testing.assert_array_equal(cached.embed_batch(["a", "b"]), Letters().embed_batch(["a", "b"]))


def test_an_embedder_that_gives_too_few_vectors_is_caught() -> None:
    class Forgets(Letters):
        def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
            return super().embed_batch(prompts[1:])

    with pytest.raises(EmbeddingError, match="gave 2 vectors for 3 prompts"):
        CachedEmbedder(Forgets(), 4).embed_batch(["a", "b", "c"])


def test_the_least_recently_used_entry_goes_first() -> None:
    inner = Letters()
    cached = CachedEmbedder(inner, 2)
    for prompt in ("a", "b", "a", "c"):  # b is the oldest when c comes
        cached.embed(prompt)
    inner.batches.clear()
    cached.embed_batch(["a", "c"])
    assert inner.batches == []
    cached.embed("b")
    assert inner.batches == [["b"]]


def test_a_batch_larger_than_the_cache_is_answered_in_full() -> None:
    cached = CachedEmbedder(Letters(), 2)
    prompts = [chr(97 + i) * (i + 1) for i in range(20)]
    np.testing.assert_array_equal(cached.embed_batch(prompts), Letters().embed_batch(prompts))
    assert cached.cache_info().entries == 2


def test_no_prompts_give_no_rows() -> None:
    assert CachedEmbedder(Letters(), 2).embed_batch([]).shape == (0, 26)


def test_a_failure_is_passed_on_and_not_stored() -> None:
    inner = Letters()
    cached = CachedEmbedder(inner, 2)
    inner.fails = True
    with pytest.raises(EmbeddingError, match="out of order"):
        cached.embed("a")
    assert cached.cache_info() == CacheInfo(0, 0, 0, 2)
    inner.fails = False
    assert cached.embed("a")[0] == 1


def test_clearing_forgets() -> None:
    inner = Letters()
    cached = CachedEmbedder(inner, 2)
    cached.embed("a")
    cached.clear_cache()
    cached.embed("a")
    assert inner.batches == [["a"], ["a"]]


def test_name_and_dimensions_are_those_of_the_embedder_behind() -> None:
    cached = CachedEmbedder(Letters(), 2)
    assert (cached.name, cached.dimensions) == ("letters", 26)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    bound=st.integers(1, 4),
    calls=st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6), max_size=12),
)
def test_the_cache_behaves_as_a_plain_ordered_dictionary(
    bound: int, calls: list[list[str]]
) -> None:
    inner = Letters()
    cached = CachedEmbedder(inner, bound)
    model: OrderedDict[str, None] = OrderedDict()
    for prompts in calls:
        inner.batches.clear()
        X = cached.embed_batch(prompts)
        np.testing.assert_array_equal(X, Letters().embed_batch(prompts))
        missing = list(dict.fromkeys(p for p in prompts if p not in model))
        assert inner.batches == ([missing] if missing else [])
        for prompt in (*(p for p in prompts if p not in missing), *missing):
            model[prompt] = None
            model.move_to_end(prompt)
        while len(model) > bound:
            model.popitem(last=False)
        assert cached.cache_info().entries == len(model)


def test_threads_get_right_vectors_and_the_bound_holds() -> None:
    class Slow(Letters):
        def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
            time.sleep(0.0005)
            return super().embed_batch(prompts)

    cached = CachedEmbedder(Slow(), 3)
    oracle = Letters()

    def work(seed: int) -> int:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            prompts = [chr(97 + int(i)) for i in rng.integers(0, 8, rng.integers(1, 5))]
            np.testing.assert_array_equal(cached.embed_batch(prompts), oracle.embed_batch(prompts))
            assert cached.cache_info().entries <= 3
        return 60

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(work, range(8))) == 480
    info = cached.cache_info()
    assert info.hits > 0
    assert info.misses > 0


@pytest.mark.parametrize("bound", [0, -1])
def test_a_bound_below_one_is_refused(bound: int) -> None:
    with pytest.raises(InvalidInputError, match=f"max_entries must be at least 1, got {bound}"):
        CachedEmbedder(Letters(), bound)


def test_wrong_types_are_named() -> None:
    with pytest.raises(InvalidTypeError, match="max_entries must be an int, got float"):
        CachedEmbedder(Letters(), 2.0)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="embedder must be an Embedder, got str"):
        CachedEmbedder("letters", 2)  # type: ignore[arg-type]
    cached = CachedEmbedder(Letters(), 2)
    with pytest.raises(InvalidTypeError, match="prompt must be a str, got int"):
        cached.embed(3)  # type: ignore[arg-type]
    with pytest.raises(InvalidTypeError, match="got one string"):
        cached.embed_batch("abc")
    with pytest.raises(InvalidTypeError, match=r"prompts\[1\] must be a str, got NoneType"):
        cached.embed_batch(["a", None])  # type: ignore[list-item]
    with pytest.raises(InvalidInputError, match="lone surrogate at position 1"):
        cached.embed("a\ud800")
