"""The ``length`` router: the baseline that no report may omit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastroute._validate import check_prompt, check_prompts
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.routers.base import Router
from fastroute.routers.spec import RouterSpec
from fastroute.types import Float64Array


class LengthRouter(Router):
    """Longer prompts go to the strong model: win rate = n / (n + h) for n characters.

    Only the order means anything; ``half_length`` (h) is the number of characters at which the
    win rate is 0.5.
    """

    name = "length"

    def __init__(self, half_length: float = 300.0) -> None:
        if isinstance(half_length, bool) or not isinstance(half_length, (int, float)):
            raise InvalidTypeError(f"half_length must be a number, got {half_length!r}")
        if not 0 < half_length < math.inf:
            raise InvalidInputError(f"half_length must be above 0 characters, got {half_length!r}")
        self.half_length = half_length

    @property
    def is_quick(self) -> bool:
        return True

    def win_rate(self, prompt: str) -> float:
        length = len(check_prompt(prompt))
        return length / (length + self.half_length)

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        lengths = np.array([len(prompt) for prompt in check_prompts(prompts)], dtype=np.float64)
        return lengths / (lengths + self.half_length)


SPEC = RouterSpec("length", "the number of characters: the baseline to beat", LengthRouter)
