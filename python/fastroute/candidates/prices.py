"""Expected dollars of many candidates' answers at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fastroute import _native
from fastroute.candidates.candidate import Candidate
from fastroute.types import Float64Array


class Prices:
    """The prices of ``candidates`` as they were when this was made."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._rows = {c.name: i for i, c in enumerate(candidates)}
        paid = 1e-6 * np.array([c.input_usd_per_mtok for c in candidates])
        #: For the kernels.
        self.by_token = _native.TokenPrices(
            paid,
            1e-6 * np.array([c.output_usd_per_mtok for c in candidates]),
            np.array([float(c.answer_tokens) for c in candidates]),
        )
        self._saved_by_cache = paid - 1e-6 * np.array(
            [
                c.input_usd_per_mtok if c.cached_usd_per_mtok is None else c.cached_usd_per_mtok
                for c in candidates
            ]
        )

    def dollars(
        self,
        input_tokens: float,
        max_output_tokens: int | None = None,
        *,
        cached_at: str = "",
        cached_tokens: int = 0,
    ) -> Float64Array:
        """Expected dollars of each candidate's answer, float64[n].

        Args:
            input_tokens: of the prompt.
            max_output_tokens: the answer's limit; None where there is none.
            cached_at: the candidate whose provider has ``cached_tokens`` of the prompt in its
                cache. They are cheaper there only, so a switch pays for the lost cache.
        """
        most = math.inf if max_output_tokens is None else max_output_tokens
        usd = self.by_token.dollars(input_tokens, most)
        if cached_tokens and cached_at in self._rows:
            row = self._rows[cached_at]
            usd[row] -= min(float(cached_tokens), input_tokens) * self._saved_by_cache[row]
        return usd
