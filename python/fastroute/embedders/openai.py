"""Embeddings from any endpoint that speaks OpenAI's ``POST /embeddings``."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from fastroute._validate import check_count, check_prompt, check_prompts
from fastroute.embedders.base import Embedder
from fastroute.embedders.cached import CacheInfo, VectorCache
from fastroute.errors import EmbeddingError, InvalidInputError
from fastroute.http.json_client import JsonClient
from fastroute.http.request import Endpoint
from fastroute.http.retry import RetryPolicy
from fastroute.types import Float32Array

EncodingFormat = Literal["float", "base64"]

#: Vector lengths of OpenAI's own models, from its documentation.
KNOWN_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}

# OpenAI takes 300,000 tokens a request; English has about four characters a token, and few
# scripts have less than one.
_MAX_REQUEST_CHARS = 250_000

_HINTS = {
    400: "a prompt may be too long for the model",
    413: "pass a smaller max_batch",
    422: "the endpoint may not take `dimensions` or `encoding_format`",
}


class OpenAIEmbedder(Embedder):
    """Embeds through an OpenAI-compatible HTTP endpoint, with retries and a bounded cache.

    Nothing is sent, and no client is made, before the first prompt. Safe to use from several
    threads at once, which share connections and cache; vectors come as the endpoint made them.

    A prompt that is empty or blank gets the zero vector and is not sent: the endpoint would
    refuse it. Long prompts are never truncated here; what the endpoint refuses is an error.

    Failed requests are sent again as ``fastroute.http.RetryPolicy`` says, late ones too.

    Args:
        model: the endpoint's name of the model.
        base_url: what comes before ``/embeddings``.
        api_key: sent as a bearer token. If None, the variable OPENAI_API_KEY is read at first use
            and sent to api.openai.com only; other hosts then get no Authorization header.
        dimensions: asks for vectors of this length (OpenAI's third generation can shorten them).
            None leaves the length to the endpoint.
        encoding_format: "float" or "base64" to ask for one; None asks for none. Both are read.
        timeout_s: seconds for one attempt, and for each wait on the network in it.
        deadline_s: seconds for one request with all its retries. A batch makes a request for each
            ``max_batch`` prompts.
        max_retries: attempts after the first.
        backoff_s: upper bound of the first wait.
        cache_size: vectors kept; 0 for no cache. 1536 dimensions take 6 KiB each.
        max_batch: most prompts in one request.

    Raises:
        InvalidInputError, InvalidTypeError: an argument that can't be used.
    """

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        base_url: str = "https://api.openai.com/v1",
        api_key: str | None = None,
        dimensions: int | None = None,
        encoding_format: EncodingFormat | None = None,
        timeout_s: float = 10.0,
        deadline_s: float = 30.0,
        max_retries: int = 2,
        backoff_s: float = 0.5,
        cache_size: int = 4096,
        max_batch: int = 256,
    ) -> None:
        if not isinstance(model, str) or not model:
            raise InvalidInputError(f"model must be a name, got {model!r}")
        if encoding_format not in (None, "float", "base64"):
            raise InvalidInputError(
                f"encoding_format must be 'float', 'base64' or None, got {encoding_format!r}"
            )
        self.model = model
        self._client = JsonClient(
            Endpoint(base_url, api_key, timeout_s, max_retries=max_retries, retry_cut_answers=True),
            "/embeddings",
            retry=RetryPolicy(backoff_s, deadline_s, retry_late=True),
            error=EmbeddingError,
            wanted=f"embedding from {model!r}",
            hints=_HINTS,
        )
        self.encoding_format = encoding_format
        self.max_batch = check_count("max_batch", max_batch, least=1)
        check_count("cache_size", cache_size, least=0)
        self._cache = VectorCache(cache_size) if cache_size else None
        if dimensions is not None:
            check_count("dimensions", dimensions, least=1)
        self._asked_dimensions = dimensions
        self._dimensions = dimensions or KNOWN_DIMENSIONS.get(model)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """``openai:<model>``, with ``:<dimensions>`` if they aren't the model's own.

        The endpoint is not part of it: the same model behind a gateway makes the same vectors.
        """
        asked = self._asked_dimensions
        shortened = asked is not None and asked != KNOWN_DIMENSIONS.get(self.model)
        return f"openai:{self.model}:{asked}" if shortened else f"openai:{self.model}"

    @property
    def dimensions(self) -> int:
        """Length of a vector: as asked for, or known of OpenAI's models, or learned.

        Raises:
            EmbeddingError: a model that isn't known here has not answered yet.
        """
        if self._dimensions is None:
            raise EmbeddingError(
                f"the dimensions of {self.model!r} are not known before its first answer; embed a "
                "prompt first, or pass dimensions= if the endpoint takes it"
            )
        return self._dimensions

    def embed(self, prompt: str) -> Float32Array:
        """Embed one prompt: float32[dimensions], the caller's own copy.

        Raises:
            EmbeddingError: no usable answer. Its ``__cause__`` is a ProviderStatusError,
                ProviderTimeoutError or ProviderConnectionError where the HTTP exchange failed.
        """
        return self._embed([check_prompt(prompt)])[0].copy()

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        """Embed many prompts: float32[n, dimensions], in the order given. Raises as ``embed``.

        Equal prompts are sent once. What was answered before a failure stays in the cache.
        """
        texts = check_prompts(prompts)
        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        return np.stack(self._embed(texts))

    def cache_info(self) -> CacheInfo:
        """Hits, misses, entries and the bound; zeros without a cache."""
        return self._cache.info() if self._cache else CacheInfo(0, 0, 0, 0)

    def close(self) -> None:
        """Close the connections. Vectors in the cache stay; anything else is then an error."""
        self._client.close()

    def __enter__(self) -> OpenAIEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:  # never with the key
        return f"OpenAIEmbedder({self.model!r}, endpoint={self._client.shown!r})"

    def _embed(self, texts: list[str]) -> list[Float32Array]:
        sent = [text for text in texts if text.strip()]
        if self._cache is not None:
            vectors = iter(self._cache.lookup(sent, self._request_all))
        else:
            vectors = (row for block in self._request_all(sent) for row in block)
        rows = [next(vectors) if text.strip() else None for text in texts]
        # Only now: the first answer tells the dimensions.
        return [np.zeros(self.dimensions, dtype=np.float32) if row is None else row for row in rows]

    def _request_all(self, prompts: list[str]) -> Iterator[Float32Array]:
        for chunk in _chunks(prompts, self.max_batch, _MAX_REQUEST_CHARS):
            yield self._request(chunk)

    def _request(self, prompts: list[str]) -> Float32Array:
        """One request with its retries: float32[len(prompts), dimensions]."""
        payload: dict[str, Any] = {"model": self.model, "input": prompts}
        if self._asked_dimensions is not None:
            payload["dimensions"] = self._asked_dimensions
        if self.encoding_format is not None:
            payload["encoding_format"] = self.encoding_format
        return self._learn(self._read(self._client.post(payload), len(prompts)))

    def _read(self, answer: Any, n: int) -> Float32Array:
        """The vectors in an answer, ordered by ``index``: float32[n, d]."""
        items = answer.get("data") if isinstance(answer, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self._client.unusable("it has no list of objects under 'data'")
        if len(items) != n:
            raise self._client.unusable(f"it has {len(items)} vectors for {n} prompts")
        by_index = {i["index"]: i for i in items if type(i.get("index")) is int}
        if by_index.keys() != set(range(n)):
            raise self._client.unusable(f"its 'index' values are not 0 to {n - 1}, each once")
        rows = [self._read_vector(by_index[i].get("embedding"), i) for i in range(n)]
        lengths = sorted({len(row) for row in rows})
        if len(lengths) > 1:
            raise self._client.unusable(f"its vectors have different lengths: {lengths}")
        return np.stack(rows)

    def _read_vector(self, value: object, index: int) -> Float32Array:
        row: np.ndarray[Any, Any]
        try:
            if isinstance(value, str):  # little-endian float32
                row = np.frombuffer(base64.b64decode(value, validate=True), dtype="<f4")
            else:
                row = np.asarray(value)
        except ValueError as error:
            raise self._client.unusable(f"vector {index} can't be read: {error}") from error
        if row.ndim != 1 or row.size == 0 or row.dtype.kind not in "fiu":
            raise self._client.unusable(f"vector {index} is not a list of numbers")
        with np.errstate(over="ignore"):  # it shows as infinity
            vector: Float32Array = row.astype(np.float32)
        if not np.isfinite(vector).all():
            raise self._client.unusable(f"vector {index} holds NaN or infinity")
        return vector

    def _learn(self, X: Float32Array) -> Float32Array:
        """Hold every answer to one vector length; the first answer may set it."""
        with self._lock:
            if self._dimensions is None:
                self._dimensions = X.shape[1]
        if X.shape[1] != self._dimensions:
            raise self._client.unusable(
                f"its vectors have {X.shape[1]} dimensions, expected {self._dimensions}"
            )
        return X


def _chunks(prompts: list[str], max_prompts: int, max_chars: int) -> Iterator[list[str]]:
    """Cut into runs of at most so many prompts and characters; a longer prompt goes alone."""
    chunk: list[str] = []
    chars = 0
    for prompt in prompts:
        if chunk and (len(chunk) == max_prompts or chars + len(prompt) > max_chars):
            yield chunk
            chunk, chars = [], 0
        chunk.append(prompt)
        chars += len(prompt)
    if chunk:
        yield chunk
