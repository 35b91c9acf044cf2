"""The default embedder: a table of token vectors, added up. No network, no neural network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fastroute import _native
from fastroute._arrays import check_token_table
from fastroute._validate import check_prompt, check_prompts
from fastroute.artifacts import load_artifact
from fastroute.embedders.base import Embedder
from fastroute.errors import ArtifactError, InvalidInputError
from fastroute.types import Float32Array

#: Kind of the artifacts that hold one.
KIND = "static_embedder"
DEFAULT_FOLDER = Path(__file__).parent.parent / "bundled" / "embedder"

# Tokenizing this many prompts at a time bounds memory and leaves room for Ctrl-C.
_PROMPTS_PER_BATCH = 1024


class StaticEmbedder(Embedder):
    """Token-bag embeddings: e = s / |s|, s = sum over tokens t of scales[t] * table[t].

    With ``length_scale`` above 0, one element more says how long the prompt is: length_scale *
    ln(1 + n) for n tokens.

    Args:
        table: int8, float16 or float32[vocabulary, dimensions], one row a token.
        scales: float32[vocabulary], weight of each token, for int8 times its quantisation step.
        tokenizer: a ``tokenizers.Tokenizer`` without truncation or padding.
        name: identifies the vectors (``Embedder.name``).
        length_scale: unit of the element for the length; 0, the default, for none.

    Prompts are never truncated. Raises InvalidTypeError for what is no str, InvalidInputError for
    a lone surrogate, which is no Unicode text.
    """

    def __init__(
        self, table: Any, scales: Any, tokenizer: Any, *, name: str, length_scale: float = 0.0
    ) -> None:
        # Checked once, so that a prompt need not.
        check_token_table(table, scales, length_scale)
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            raise InvalidInputError(
                "tokenizer must neither truncate nor pad; call its no_truncation() and no_padding()"
            )
        self._table = table
        self._scales = scales
        self._tokenizer = tokenizer
        self._name = name
        self._length_scale = float(length_scale)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> StaticEmbedder:
        """Load a "static_embedder" artifact (``fastroute.artifacts`` has the errors)."""
        from tokenizers import Tokenizer

        artifact = load_artifact(folder, kind=KIND)
        try:
            table, scales = artifact.arrays["table"], artifact.arrays["scales"]
            tokenizer = Tokenizer.from_str(artifact.files["tokenizer.json"].decode())
            name = str(artifact.config["name"])
            length_scale = artifact.config.get("length_scale", 0.0)
        except KeyError as error:
            raise ArtifactError(f"{folder} lacks {error}; restore the folder") from error
        except Exception as error:  # what tokenizers raises has no narrower type
            raise ArtifactError(f"{folder}/tokenizer.json is not a tokenizer: {error}") from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        if tokenizer.get_vocab_size() > len(table):
            raise ArtifactError(
                f"{folder} has a tokenizer of {tokenizer.get_vocab_size()} tokens and a table of "
                f"{len(table)}; restore the folder"
            )
        name = f"{name}:{artifact.checksum[:12]}"
        return cls(table, scales, tokenizer, name=name, length_scale=length_scale)

    @classmethod
    def load_default(cls) -> StaticEmbedder:
        """Load the embedder that ships with fastroute."""
        return cls.load(DEFAULT_FOLDER)

    def without_length(self) -> StaticEmbedder:
        """The same embedder without the element for the length, over the same table."""
        name = f"{self._name}:without-length"
        return StaticEmbedder(self._table, self._scales, self._tokenizer, name=name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1]) + self.signals

    @property
    def signals(self) -> int:
        return 1 if self._length_scale > 0 else 0

    @property
    def is_quick(self) -> bool:
        return True

    def embed(self, prompt: str) -> Float32Array:
        encoding = self._tokenizer.encode(check_prompt(prompt), add_special_tokens=False)
        ids = np.array(encoding.ids, dtype=np.int32)
        return _native.embed_token_bag(self._table, self._scales, ids, self._length_scale)

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        texts = check_prompts(prompts)
        X = np.empty((len(texts), self.dimensions), dtype=np.float32)
        for begin in range(0, len(texts), _PROMPTS_PER_BATCH):
            batch = texts[begin : begin + _PROMPTS_PER_BATCH]
            ids = [e.ids for e in self._tokenizer.encode_batch(batch, add_special_tokens=False)]
            offsets = np.zeros(len(ids) + 1, dtype=np.int64)
            np.cumsum([len(row) for row in ids], out=offsets[1:])
            flat = np.fromiter((i for row in ids for i in row), np.int32, count=int(offsets[-1]))
            X[begin : begin + len(batch)] = _native.embed_token_bags(
                self._table, self._scales, flat, offsets, length_scale=self._length_scale
            )
        return X
