"""The limit: ``tokenizers`` alone, called as any user would.

Its answer is the number of tokens. The variable FASTROUTE_TOKENIZER names the file of the
tokenizer, such as MiniLM's tokenizer.json; without it, a WordPiece tokenizer with the same stages
is trained on synthetic prompts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from data import load_prompts

NAME = "tokenizers alone"


def missing() -> str | None:
    return None


def which() -> str:
    """Which tokenizer ``load`` loads, in words."""
    return os.environ.get("FASTROUTE_TOKENIZER", "a generated WordPiece tokenizer")


def load() -> Tokenizer:
    tokenizer = Tokenizer.from_str(_serialized(os.environ.get("FASTROUTE_TOKENIZER")))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def _serialized(file: str | None) -> str:
    if file is not None:
        return Tokenizer.from_file(file).to_str()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=30_522, special_tokens=special, show_progress=False
    )
    made.train_from_iterator(load_prompts(None, 2000), trainer)
    return str(made.to_str())


def route_text(tokenizer: Tokenizer, prompt: str) -> int:
    return len(tokenizer.encode(prompt, add_special_tokens=False))


def route_texts(tokenizer: Tokenizer, prompts: Sequence[str]) -> npt.NDArray[np.int64]:
    encodings = tokenizer.encode_batch(list(prompts), add_special_tokens=False)
    return np.array([len(encoding) for encoding in encodings], dtype=np.int64)
