"""The default embedder: a table of token vectors, added up. No network, no neural network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute._arrays import check_token_table
from fastroute._validate import check_prompt, check_prompts
from fastroute.artifacts import load_artifact
from fastroute.embedders.base import Embedder, TextScorer
from fastroute.embedders.vocabulary import Vocabulary, VocabularyReader
from fastroute.errors import ArtifactError, FastRouteError, InvalidInputError
from fastroute.onnx_models.tokenizer import read_tokenizer
from fastroute.types import Float32Array

#: Kind of the artifacts that hold one.
KIND = "static_embedder"
DEFAULT_FOLDER = Path(__file__).parent.parent / "bundled" / "embedder"

# Tokenizing this many prompts at a time bounds memory and leaves room for Ctrl-C.
_PROMPTS_PER_BATCH = 1024
# So does reading a longer prompt in pieces, for a tokenizer that always splits at these characters:
# white space, ASCII punctuation other than brackets, and Chinese characters.
_CHARS_PER_PIECE = 1 << 16
# A text without them is cut all the same, so that it needs neither 65 bytes a character nor minutes
# without Ctrl-C; the tokens on either side of such a cut may be others.
_MOST_CHARS_PER_PIECE = 1 << 18
_BERT_SPLIT = re.compile(r"[ \t\n\r!-/:-@\\^-`{-~\u4e00-\u9fff]")


class StaticEmbedder(Embedder):
    """Token-bag embeddings: e = s / |s|, s = sum over tokens t of scales[t] * table[t].

    Text is split by a ``Vocabulary``, which the compiled core reads itself, or by a tokenizer of
    the ``tokenizers`` library, which takes about twenty times as long.

    Elements behind the direction measure the prompt: the ``signals`` of a vocabulary, or with a
    tokenizer and ``length_scale`` above 0, length_scale * ln(1 + n) for n tokens. A prompt without
    a token of any weight has the zero vector.

    Args:
        table: int8, float16 or float32[vocabulary, dimensions], one row a token.
        scales: float32[vocabulary], weight of each token, for int8 times its quantisation step.
        tokenizer: a ``Vocabulary``, or a ``tokenizers.Tokenizer`` without truncation or padding.
        name: identifies the vectors (``Embedder.name``).
        length_scale: unit of the element for the length; 0, the default, for none.

    Prompts are never truncated. Raises InvalidTypeError for a prompt that is not a str,
    InvalidInputError for one with a lone surrogate, which is not Unicode text.
    """

    def __init__(
        self, table: Any, scales: Any, tokenizer: Any, *, name: str, length_scale: float = 0.0
    ) -> None:
        # Checked once, so that a prompt need not.
        check_token_table(table, scales, length_scale)
        self._table = table
        self._scales = scales
        self._name = name
        if isinstance(tokenizer, Vocabulary):
            if length_scale:
                raise InvalidInputError(
                    "length_scale must be 0 with a Vocabulary: its signals have the length"
                )
            self._reader: _Reader = tokenizer.reader(table, scales)
        else:
            self._reader = _TokenizerReader(table, scales, tokenizer, float(length_scale))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> StaticEmbedder:
        """Load a "static_embedder" artifact (``fastroute.artifacts`` has the errors)."""
        artifact = load_artifact(folder, kind=KIND)
        try:
            table, scales = artifact.arrays["table"], artifact.arrays["scales"]
            name = f"{artifact.config['name']}:{artifact.checksum[:12]}"
            if "pieces" in artifact.arrays:
                vocabulary = Vocabulary.read(artifact.arrays, artifact.config)
                return cls(table, scales, vocabulary, name=name)
            tokenizer, _, _ = read_tokenizer(
                artifact.files["tokenizer.json"], artifact.path / "tokenizer.json"
            )
        except KeyError as error:
            raise ArtifactError(
                f"{folder} lacks {error}; download the artifact or export it again"
            ) from error
        except FastRouteError as error:
            raise ArtifactError(
                f"{folder} is corrupt: {error}; download the artifact or export it again"
            ) from error
        size = tokenizer.get_vocab_size()
        if size > len(table) or any(tokenizer.id_to_token(i) is None for i in range(size)):
            raise ArtifactError(
                f"{folder} has a tokenizer of {size} tokens, numbered from 0 to "
                f"{max(tokenizer.get_vocab().values(), default=0)}, and a table of {len(table)}; "
                "download the artifact or export it again"
            )
        length_scale = artifact.config.get("length_scale", 0.0)
        return cls(table, scales, tokenizer, name=name, length_scale=length_scale)

    @classmethod
    def load_default(cls) -> StaticEmbedder:
        """Load the embedder that ships with fastroute."""
        return cls.load(DEFAULT_FOLDER)

    def without_length(self) -> StaticEmbedder:
        """The same embedder without elements behind the direction, over the same table."""
        name = f"{self._name}:without-length"
        return StaticEmbedder(self._table, self._scales, self._reader.without_signals(), name=name)

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return int(self._table.shape[1]) + self.signals

    @property
    def signals(self) -> int:
        return self._reader.signals

    @property
    def length_element(self) -> int | None:
        """Which element of an embedding measures the prompt's length; None if none does."""
        signal = self._reader.length_signal
        return None if signal is None else int(self._table.shape[1]) + signal

    @property
    def is_quick(self) -> bool:
        return True

    def token_ids(self, prompt: str) -> npt.NDArray[np.int32]:
        """Rows of the prompt's tokens in order, int32[tokens]."""
        return self._reader.token_ids(prompt)

    def embed(self, prompt: str) -> Float32Array:
        return self._reader.embed(prompt)

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        return self._reader.embed_batch(prompts)

    def text_scorer(self, pair: Float32Array) -> TextScorer | None:
        reader = self._reader
        return reader.scorer(pair) if isinstance(reader, VocabularyReader) else None

    def text_estimator(self, estimator: _native.SuccessEstimator) -> _native.TextEstimator | None:
        reader = self._reader
        return reader.estimator(estimator) if isinstance(reader, VocabularyReader) else None


class _Reader(Protocol):
    """From text to vectors over one table."""

    @property
    def signals(self) -> int: ...
    @property
    def length_signal(self) -> int | None: ...
    def without_signals(self) -> Any: ...
    def token_ids(self, prompt: str) -> npt.NDArray[np.int32]: ...
    def embed(self, prompt: str) -> Float32Array: ...
    def embed_batch(self, prompts: Sequence[str]) -> Float32Array: ...


class _TokenizerReader:
    """Splits text by a tokenizer of the ``tokenizers`` library."""

    def __init__(self, table: Any, scales: Any, tokenizer: Any, length_scale: float) -> None:
        if tokenizer.truncation is not None or tokenizer.padding is not None:
            raise InvalidInputError(
                "tokenizer must neither truncate nor pad; call its no_truncation() and no_padding()"
            )
        self._table = table
        self._scales = scales
        self._tokenizer = tokenizer
        self._length_scale = length_scale
        self._split = _safe_split(tokenizer)
        self.signals = 1 if length_scale > 0 else 0
        self.length_signal = 0 if self.signals else None

    def without_signals(self) -> Any:
        return self._tokenizer

    def token_ids(self, prompt: str) -> npt.NDArray[np.int32]:
        ids = [
            np.array(self._tokenizer.encode(piece, add_special_tokens=False).ids, dtype=np.int32)
            for piece in self._pieces(check_prompt(prompt))
        ]
        return ids[0] if len(ids) == 1 else np.concatenate(ids)

    def _pieces(self, prompt: str) -> Iterator[str]:
        begin = 0
        while len(prompt) - begin > _CHARS_PER_PIECE:
            most = begin + _MOST_CHARS_PER_PIECE
            found = self._split and self._split.search(prompt, begin + _CHARS_PER_PIECE, most)
            if found is None and len(prompt) <= most:
                break
            end = most if found is None else found.start()
            yield prompt[begin:end]
            begin = end
        yield prompt[begin:] if begin else prompt

    def embed(self, prompt: str) -> Float32Array:
        ids = self.token_ids(prompt)
        return _native.embed_token_bag(self._table, self._scales, ids, self._length_scale)

    def embed_batch(self, prompts: Sequence[str]) -> Float32Array:
        texts = check_prompts(prompts)
        X = np.empty((len(texts), self._table.shape[1] + self.signals), dtype=np.float32)
        for begin in range(0, len(texts), _PROMPTS_PER_BATCH):
            batch = texts[begin : begin + _PROMPTS_PER_BATCH]
            ids: list[Any]
            if any(len(text) > _CHARS_PER_PIECE for text in batch):
                ids = [self.token_ids(text) for text in batch]
            else:
                ids = [e.ids for e in self._tokenizer.encode_batch(batch, add_special_tokens=False)]
            offsets = np.zeros(len(ids) + 1, dtype=np.int64)
            np.cumsum([len(row) for row in ids], out=offsets[1:])
            flat = np.concatenate([np.asarray(row, dtype=np.int32) for row in ids])
            X[begin : begin + len(batch)] = _native.embed_token_bags(
                self._table, self._scales, flat, offsets, length_scale=self._length_scale
            )
        return X


def _safe_split(tokenizer: Any) -> re.Pattern[str] | None:
    """The characters before which a text can be cut without changing its tokens."""
    from tokenizers import models, normalizers, pre_tokenizers

    if not (
        isinstance(tokenizer.normalizer, normalizers.BertNormalizer)
        and tokenizer.normalizer.handle_chinese_chars
        and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.BertPreTokenizer)
        and isinstance(tokenizer.model, models.WordPiece)
    ):
        return None
    added = tokenizer.get_added_tokens_decoder().values()
    cut = any(_BERT_SPLIT.search(t.content) or t.lstrip or t.rstrip for t in added)
    return None if cut else _BERT_SPLIT
