"""The limit: ``tokenizers`` alone, called as any user would.

Its answer is the number of tokens. The tokenizer is the bundled embedder's where that has one, or
the file that the variable FASTROUTE_TOKENIZER names, such as MiniLM's tokenizer.json.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from fastroute.embedders.static import DEFAULT_FOLDER

NAME = "tokenizers alone"


def tokenizer_file() -> Path:
    return Path(os.environ.get("FASTROUTE_TOKENIZER", DEFAULT_FOLDER / "tokenizer.json"))


def missing() -> str | None:
    if tokenizer_file().is_file():
        return None
    return f"{tokenizer_file()} is missing: set FASTROUTE_TOKENIZER to a WordPiece tokenizer.json"


def load() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(tokenizer_file()))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def route_text(tokenizer: Tokenizer, prompt: str) -> int:
    return len(tokenizer.encode(prompt, add_special_tokens=False))


def route_texts(tokenizer: Tokenizer, prompts: Sequence[str]) -> npt.NDArray[np.int64]:
    encodings = tokenizer.encode_batch(list(prompts), add_special_tokens=False)
    return np.array([len(encoding) for encoding in encodings], dtype=np.int64)
