"""A running estimate of what a slow router takes for a prompt, by the prompt's length.

Seconds of a call are modelled as ``a * prompts + b * characters``: what every prompt costs, and
what each character adds. Both are fitted by least squares over past calls, of which older ones
count less and less, so that the estimate follows a machine that gets busy or idle.
"""

from __future__ import annotations

import numpy as np

#: What a call counts for once another has been made; the last 64 are two thirds of it all.
DECAY = 63.0 / 64.0


class LatencyEstimate:
    """Learns from calls, predicts for prompts. Not safe for several threads by itself."""

    def __init__(self) -> None:
        self.calls = 0
        # Decayed sums of n n, n c, c c, n t and c t; n prompts, c characters, t seconds a call.
        self._sums = np.zeros(5)
        self._line = (0.0, 0.0)

    def add(self, prompts: int, characters: int, seconds: float) -> None:
        """Learn from one call with ``prompts`` prompts of ``characters`` in all."""
        n, c, t = float(prompts), float(characters), seconds
        # By prompt, so that a call with many prompts is no better known than one with one.
        self._sums = DECAY * self._sums + np.array([n * n, n * c, c * c, n * t, c * t]) / (n * n)
        self.calls += 1
        self._line = self._fit()

    def predict_s(self, characters: int) -> float:
        """Seconds that one prompt of this length will take; 0 before the first call."""
        a, b = self._line
        return a + b * characters

    def _fit(self) -> tuple[float, float]:
        nn, nc, cc, nt, ct = self._sums.tolist()
        determinant = nn * cc - nc * nc
        # Prompts of one length so far: by the character, because a short prompt that is asked too
        # early costs little and tells more, and one that is kept back tells nothing.
        if determinant <= 1e-9 * nn * cc:
            return (0.0, ct / cc) if cc > 0.0 else (nt / nn, 0.0)
        a = (cc * nt - nc * ct) / determinant
        b = (nn * ct - nc * nt) / determinant
        # No prompt takes less than nothing, and none gets quicker by being longer.
        if b < 0.0:
            return nt / nn, 0.0
        if a < 0.0:
            return 0.0, ct / cc
        return a, b
