"""The static embedder's table, distilled from a sentence encoder.

Every token of the vocabulary is encoded alone, between the encoder's special tokens. The vectors
are projected on their first principal axes, weighted by ``a / (a + p)`` where p is the token's
frequency (Arora et al. 2017, smooth inverse frequency), and rounded to 8 bits a row, or stored in
half or single precision.

p is taken from the vocabulary itself: WordPiece vocabularies are written by falling frequency, so
the r-th entry that is not a special token gets p proportional to 1 / r (Zipf's law). That needs no
corpus, and so the table does not depend on the prompts that the router is trained on. Vocabularies
in another order need counts from a corpus.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fastroute.errors import InvalidInputError
from fastroute.training.static.encoder import Encoder
from fastroute.types import Float32Array, Float64Array

DIMENSIONS = 256
#: How the elements of a table are stored.
Storage = Literal["int8", "float16", "float32"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
#: a in the weight a / (a + p).
FREQUENCY = 1e-4
#: Unit of the element for the length. Small, so that cosines between embeddings, which sw_ranking
#: takes, stay those of their meaning: it adds 0.02 to the square of a vector of 100 tokens.
LENGTH_SCALE = 1.0 / 32.0

# Sequences are this few at a time whatever the machine, so that the sums inside are the same.
_TOKENS_PER_BATCH = 256
# Reserved entries of BERT's vocabulary: no text produces them.
_UNUSED = "[unused"


def token_vectors(encode: Encoder, tokenizer: Any) -> Float32Array:
    """The sentence embedding of each token alone, float32[vocabulary, d].

    Args:
        encode: the sentence encoder.
        tokenizer: its ``tokenizers.Tokenizer``, which puts special tokens around a text.

    Raises InvalidInputError for a tokenizer that adds other than two special tokens, or an
    encoder that returns a vector that is not finite.
    """
    from tqdm import tqdm

    around = tokenizer.encode("", add_special_tokens=True).ids
    if len(around) != 2:
        raise InvalidInputError(
            f"tokenizer adds {len(around)} special tokens to a text, where one before and one "
            "after it are needed; give a tokenizer with BERT's post-processor"
        )
    count = tokenizer.get_vocab_size()
    ids = np.empty((count, 3), dtype=np.int64)
    ids[:, 0], ids[:, 1], ids[:, 2] = around[0], np.arange(count), around[1]
    batches = []
    with tqdm(total=count, desc="encode", unit="token", leave=False, disable=None) as bar:
        for begin in range(0, count, _TOKENS_PER_BATCH):
            batches.append(encode(ids[begin : begin + _TOKENS_PER_BATCH]))
            bar.update(len(batches[-1]))
    vectors = np.concatenate(batches).astype(np.float32, copy=False)
    if not np.isfinite(vectors).all():
        token = int(np.argmin(np.isfinite(vectors).all(axis=1)))
        raise InvalidInputError(f"the encoder's vector of token {token} is not finite")
    return vectors


def principal_components(vectors: Float32Array, dimensions: int = DIMENSIONS) -> Float64Array:
    """``vectors`` projected on their first principal axes, float64[n, dimensions].

    The mean is not subtracted: what all tokens share becomes the first axis, and lets a head
    without a bias have a level. Each axis points where its largest weight is positive.

    Raises InvalidInputError for more dimensions than the vectors have.
    """
    if not 1 <= dimensions <= vectors.shape[1]:
        raise InvalidInputError(
            f"dimensions is {dimensions}, where the encoder's vectors have {vectors.shape[1]}; "
            "give a number from 1 to that"
        )
    X = vectors.astype(np.float64)
    _, axes = np.linalg.eigh(X.T @ X)
    axes = axes[:, ::-1][:, :dimensions]
    largest = np.argmax(np.abs(axes), axis=0)
    components: Float64Array = X @ (axes * np.sign(axes[largest, np.arange(dimensions)]))
    return components


class TokenCounts:
    """How often each token of a tokenizer occurs: sums that are exact for any order of texts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.counts = np.zeros(tokenizer.get_vocab_size(), np.int64)  #: int64[vocabulary]

    def fit_partial(self, texts: Iterable[str]) -> TokenCounts:
        """Add the tokens of more texts, which are read one by one."""
        for text in texts:
            np.add.at(self.counts, self._tokenizer.encode(text, add_special_tokens=False).ids, 1)
        return self

    def merge(self, other: TokenCounts) -> TokenCounts:
        """The counts of the texts of both; neither is changed."""
        both = TokenCounts(self._tokenizer)
        both.counts = self.counts + other.counts
        return both


def frequency_weights(
    tokenizer: Any, frequency: float = FREQUENCY, counts: npt.NDArray[Any] | None = None
) -> Float64Array:
    """``a / (a + p)`` of each token, float64[vocabulary]; 0 for special tokens.

    p is by Zipf's law from the order of the vocabulary, or from ``counts``, number[vocabulary],
    of which each gets one more, so that no token is without any. The unknown token is special too:
    a word outside the vocabulary says nothing.
    """
    if not frequency > 0:
        raise InvalidInputError(f"frequency must be above 0, got {frequency}")
    count = tokenizer.get_vocab_size()
    special = {i for i, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    unknown = json.loads(tokenizer.to_str())["model"].get("unk_token")
    if unknown is not None:
        special.add(tokenizer.token_to_id(unknown))
    silent = np.array(
        [i in special or str(tokenizer.id_to_token(i)).startswith(_UNUSED) for i in range(count)]
    )
    rank = np.cumsum(~silent)
    weights = np.zeros(count)
    often = 1.0 / rank[~silent] if counts is None else counts[~silent] + 1.0
    weights[~silent] = frequency / (frequency + often / often.sum())
    return weights


def quantise(
    rows: Float64Array, weights: Float64Array
) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Table int8[n, d] and scales float32[n], so that scales * table is about weights * rows.

    Each row is divided by its own step, its largest magnitude over 127, and rounded; the weight
    is in the scale only, and costs no precision.
    """
    step = np.abs(rows).max(axis=1) / 127.0
    divisor = np.where(step > 0, step, 1.0)
    table = np.rint(rows / divisor[:, None]).astype(np.int8)
    return table, (step * weights).astype(np.float32)


def store(
    rows: Float64Array, weights: Float64Array, storage: Storage
) -> tuple[npt.NDArray[Any], Float32Array]:
    """Table [n, d] of ``storage`` and scales float32[n], whose product is about weights * rows."""
    if storage == "int8":
        return quantise(rows, weights)
    if storage not in STORAGES:
        raise InvalidInputError(f"storage must be one of {', '.join(STORAGES)}, got {storage!r}")
    return rows.astype(storage), weights.astype(np.float32)


def bare_tokenizer(tokenizer: Any) -> bytes:
    """``tokenizer`` as compact JSON, without truncation or padding."""
    content = json.loads(tokenizer.to_str())
    content["truncation"] = content["padding"] = None
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
