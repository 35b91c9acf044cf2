"""Tables of several sizes and precisions from one encoder, with what each is worth and costs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastroute.artifacts import ARRAYS, save_artifact
from fastroute.embedders.static import KIND, StaticEmbedder
from fastroute.errors import InvalidInputError
from fastroute.training.dataset_folds import HeldOut
from fastroute.training.static import token_table
from fastroute.training.static.encoder import Encoder, load_encoder, read_tokenizer
from fastroute.training.static.token_table import Storage
from fastroute.types import Float32Array, Float64Array

#: Prompts on which fidelity and latency are measured.
SAMPLE = 300
_ROUNDS = 5
# An encoder's own limit; what is longer is truncated for it, and not for the table.
_MOST_TOKENS = 256


class TableFigures(NamedTuple):
    """One table, beside the others of its run."""

    #: dimensions, storage: its size.
    dimensions: int
    storage: str
    folder: str  #: where it was saved
    table_bytes: int  #: length of its arrays on disk
    apgr: float | None  #: held-out APGR on graded prompts; None if there are none
    #: mean cosine between a prompt's vector, put back into the encoder's space, and the encoder's
    #: own; None without prompts.
    cosine: float | None
    #: correlation, over pairs of prompts, of the cosine between the two by the table and by the
    #: encoder: what a router that compares prompts depends on.
    similarity_correlation: float | None
    latency_us: float | None  #: median microseconds a prompt, from text to vector
    latency_ratio: float | None  #: the same against the tokenizer alone, in the same run


class Distillation:
    """An encoder's token vectors, to make tables of.

    Args:
        encoder: a folder with an ONNX sentence encoder and its tokenizer.json.
        corpus: texts to count tokens in, read one by one; by default frequencies are by Zipf's law.
        frequency: a in the weight a / (a + p).

    Raises InvalidInputError for an encoder that can't be used (``static.encoder``).
    """

    def __init__(
        self,
        encoder: str | os.PathLike[str],
        *,
        corpus: Iterable[str] | None = None,
        frequency: float = token_table.FREQUENCY,
    ) -> None:
        from tokenizers import Tokenizer

        self.name = Path(encoder).resolve().name
        self.encode: Encoder = load_encoder(encoder)
        own = read_tokenizer(encoder)
        self.content = token_table.bare_tokenizer(own)
        self.tokenizer = Tokenizer.from_str(self.content.decode())
        counts = None
        if corpus is not None:
            counts = token_table.TokenCounts(self.tokenizer).fit_partial(corpus).counts
        self.weights = token_table.frequency_weights(self.tokenizer, frequency, counts)
        self.vectors = token_table.token_vectors(self.encode, self.tokenizer)

    def save(
        self, folder: str | os.PathLike[str], dimensions: int, storage: Storage
    ) -> StaticEmbedder:
        """Write one table as a "static_embedder" artifact and load it."""
        rows = token_table.principal_components(self.vectors, dimensions)
        table, scales = token_table.store(rows, self.weights, storage)
        save_artifact(
            folder,
            kind=KIND,
            config={
                "name": f"static:{self.name}-{dimensions}-{storage}",
                "length_scale": token_table.LENGTH_SCALE,
            },
            arrays={"table": table, "scales": scales},
            files={"tokenizer.json": self.content},
        )
        return StaticEmbedder.load(folder)

    def encoded(self, prompts: Sequence[str]) -> Float32Array:
        """The encoder's own vectors, float32[n, d], of length one."""
        rows = []
        for prompt in prompts:
            ids = self.tokenizer.encode(prompt).ids
            if len(ids) > _MOST_TOKENS:
                ids = [*ids[: _MOST_TOKENS - 1], ids[-1]]
            rows.append(self.encode(np.array([ids], dtype=np.int64))[0])
        X: Float32Array = np.array(rows, dtype=np.float32)
        X /= np.linalg.norm(X, axis=1, keepdims=True)
        return X

    def axes(self, dimensions: int) -> Float64Array:
        """The axes of ``principal_components``, float64[encoder's d, dimensions]."""
        X = self.vectors.astype(np.float64)
        components = token_table.principal_components(self.vectors, dimensions)
        return np.asarray(np.linalg.lstsq(X, components, rcond=None)[0], dtype=np.float64)

    def compare(
        self,
        output: str | os.PathLike[str],
        sizes: Sequence[tuple[int, Storage]],
        *,
        prompts: Sequence[str] = (),
        held_out: HeldOut | None = None,
        say: Callable[[str], object] = print,
    ) -> list[TableFigures]:
        """Save a table of each size and measure them against each other.

        Args:
            output: where a single table goes; several go to ``output``/DIMENSIONS-STORAGE.
            sizes: dimensions and storage of each.
            prompts: what fidelity and latency are measured on; none for neither.
            held_out: graded prompts for APGR.
            say: told what is being done.
        """
        for dimensions, _ in sizes:
            if not 1 <= dimensions <= self.vectors.shape[1]:
                raise InvalidInputError(
                    f"dimensions is {dimensions}, where the encoder's vectors have "
                    f"{self.vectors.shape[1]}; give numbers from 1 to that"
                )
        saved = []
        for dimensions, storage in sizes:
            name = f"{dimensions}-{storage}"
            say(f"making {name}")
            folder = Path(output) if len(sizes) == 1 else Path(output) / name
            saved.append((dimensions, storage, folder, self.save(folder, dimensions, storage)))
        if prompts:
            say(f"encoding {len(prompts)} prompts")
        reference = self.encoded(prompts) if prompts else None
        latencies = _latencies(self.tokenizer, [e for *_, e in saved], prompts)
        figures = []
        for i, (dimensions, storage, folder, embedder) in enumerate(saved):
            say(f"measuring {dimensions}-{storage}")
            cosine = correlation = apgr = None
            if reference is not None:
                X = embedder.embed_batch(prompts)[:, :dimensions]
                cosine = _mean_cosine(X @ self.axes(dimensions).T, reference)
                correlation = _pair_correlation(X, reference)
            if held_out is not None:
                X = embedder.embed_batch([row.prompt for row in held_out.rows])
                apgr = held_out.apgr(held_out.scores(X, embedder.signals))
            latency, ratio = (None, None) if latencies is None else latencies[i]
            size = (folder / ARRAYS).stat().st_size
            figures.append(
                TableFigures(
                    dimensions,
                    storage,
                    str(folder),
                    size,
                    apgr,
                    cosine,
                    correlation,
                    latency,
                    ratio,
                )
            )
        return figures


def _mean_cosine(X: Float64Array, reference: Float32Array) -> float:
    norms = np.linalg.norm(X, axis=1)
    said = norms > 0
    return float(np.mean((X * reference).sum(axis=1)[said] / norms[said]))


def _pair_correlation(X: Float32Array, reference: Float32Array) -> float:
    pairs = np.triu_indices(len(X), 1)
    return float(np.corrcoef((X @ X.T)[pairs], (reference @ reference.T)[pairs])[0, 1])


def _latencies(
    tokenizer: Any, embedders: Sequence[StaticEmbedder], prompts: Sequence[str]
) -> list[tuple[float, float]] | None:
    """Median microseconds a prompt of each, and the mean ratio to the tokenizer alone.

    All take turns on every prompt, and the best of several rounds counts: what else the machine
    does meets them alike.
    """
    if not prompts:
        return None
    calls: list[Callable[[str], object]] = [
        lambda prompt: tokenizer.encode(prompt, add_special_tokens=False)
    ]
    calls += [embedder.embed for embedder in embedders]
    best = np.full((len(calls), len(prompts)), np.inf)
    for turn in range(_ROUNDS):
        for p, prompt in enumerate(prompts):
            for k in range(len(calls)):
                i = (k + turn) % len(calls)
                begin = time.perf_counter_ns()
                calls[i](prompt)
                best[i, p] = min(best[i, p], time.perf_counter_ns() - begin)
    ratios = np.median(best[1:] / best[0], axis=1)
    return list(zip((np.median(best[1:], axis=1) / 1e3).tolist(), ratios.tolist(), strict=True))
