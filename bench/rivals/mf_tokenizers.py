"""The limit: ``tokenizers`` alone on the default router's tokenizer, called as any user would.

Its answer is the number of tokens. Nothing that reads the text by this tokenizer can be faster.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from fastroute.embedders.static import DEFAULT_FOLDER

NAME = "tokenizers alone"


def missing() -> str | None:
    return None


def load() -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(DEFAULT_FOLDER / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def route_text(tokenizer: Tokenizer, prompt: str) -> int:
    return len(tokenizer.encode(prompt, add_special_tokens=False))


def route_texts(tokenizer: Tokenizer, prompts: Sequence[str]) -> npt.NDArray[np.int64]:
    encodings = tokenizer.encode_batch(list(prompts), add_special_tokens=False)
    return np.array([len(encoding) for encoding in encodings], dtype=np.int64)
