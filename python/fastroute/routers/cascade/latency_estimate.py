"""A running estimate of a slow router's latency per prompt, by the length of the prompt.

The seconds of a call are modelled as ``a * prompts + b * characters``, fitted by least squares over
past calls. Older calls have exponentially smaller weights, so that the estimate follows the load of
the machine.
"""

from __future__ import annotations

import numpy as np

#: Factor of a call's weight per later call; the last 64 calls have 63 % of all weight.
DECAY = 63.0 / 64.0


class LatencyEstimate:
    """Fitted to calls, predicts the seconds of a prompt. Not thread-safe."""

    def __init__(self) -> None:
        self.calls = 0
        # Decayed sums of n n, n c, c c, n t and c t; n prompts, c characters, t seconds per call.
        self._sums = np.zeros(5)
        self._line = (0.0, 0.0)

    def add(self, prompts: int, characters: int, seconds: float) -> None:
        """Learn from one call with ``prompts`` prompts of ``characters`` in all."""
        n, c, t = float(prompts), float(characters), seconds
        # Per prompt, so that a call has the same weight for any number of prompts.
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
        # All prompts so far have one length: assume seconds per character, because a short prompt
        # that is sent on costs little and improves the estimate.
        if determinant <= 1e-9 * nn * cc:
            return (0.0, ct / cc) if cc > 0.0 else (nt / nn, 0.0)
        a = (cc * nt - nc * ct) / determinant
        b = (nn * ct - nc * nt) / determinant
        # Neither coefficient can be negative.
        if b < 0.0:
            return nt / nn, 0.0
        if a < 0.0:
            return 0.0, ct / cc
        return a, b
