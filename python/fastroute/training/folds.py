"""Folds of prompts, decided by their letters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from fastroute.types import Int64Array

_NOT_ALPHANUMERIC = re.compile(r"[\W_]+")


def fold_numbers(prompts: Sequence[str], count: int, seed: int = 0) -> Int64Array:
    """A fold number 0..count-1 for each prompt, int64[n], decided by seed, letters and digits.

    Prompts that differ only in case, punctuation or spacing are kept together.
    """
    numbers = []
    for prompt in prompts:
        text = _NOT_ALPHANUMERIC.sub("", prompt.lower())
        digest = hashlib.sha256(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest()
        numbers.append(int.from_bytes(digest[:8], "little") % count)
    return np.array(numbers, dtype=np.int64)
