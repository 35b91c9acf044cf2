"""The ``random`` router: what a router must beat."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from fastroute._validate import check_prompt, check_prompts
from fastroute.errors import InvalidTypeError
from fastroute.provenance import Provenance
from fastroute.routers.base import Router
from fastroute.routers.spec import RouterSpec
from fastroute.types import Float64Array


class RandomRouter(Router):
    """Win rates drawn uniformly from [0, 1), whatever the prompt; the same sequence for a seed."""

    name = "random"

    def __init__(self, seed: int | None = None) -> None:
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise InvalidTypeError(f"seed must be an int or None, got {seed!r}")
        self.seed = seed
        self._random = random.Random(seed)
        # Known without any prompt.
        quantiles = np.linspace(0.0, 1.0, 1001, dtype=np.float32)
        self._provenance = Provenance(calibration=quantiles)

    @property
    def is_quick(self) -> bool:
        return True

    def win_rate(self, prompt: str) -> float:
        check_prompt(prompt)
        return self._random.random()

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        return np.array([self._random.random() for _ in check_prompts(prompts)], dtype=np.float64)


SPEC = RouterSpec("random", "a uniform number: the least that a router must beat", RandomRouter)
