"""Whether the grades of a model's answers are still what they were, given the router's scores.

1. Grades of each kind (of people, of a judge, ...) are regressed on the win rate, recursively. What
   the fit so far mispredicts of the next grade, scaled by its standard error, has mean 0 and is
   uncorrelated with all before while nothing changes (recursive residuals: Brown, Durbin and Evans
   1975, doi.org/10.1111/j.2517-6161.1975.tb01532.x). Other prompts change scores, not residuals.
2. Gamblers bet on the residuals, one for each size of a shift, up or down, from each moment on. The
   stakes of those that begin at the n-th grade sum to 1 / log n - 1 / log(n + 1), as a part of
   1 / log of the first: a change late in a long series costs little more than an early one. As the
   fit learns the new level too, a bet shrinks as the share of grades that it has from before.

Residuals of grades that are not Gaussian are uncorrelated, not independent: the level holds for
long series, and ``bench/drift_runs.py`` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastroute.types import Float64Array

#: Grades before the first bet.
_FIRST = 50
#: Shifts that are bet on, in standard deviations of a grade.
_SHIFTS = np.array([-0.35, -0.15, 0.15, 0.35])
#: Those who begin later by up to this ratio share their bets.
_RATIO = 1.2
#: The most of a stake that one grade may cost.
_MOST = 0.9
_PRIOR_VARIANCE = 2.0


class _Fit:
    """A regression of grades on a score, grade by grade: coefficients, their covariance as a part
    of the residual variance, and the sum of squares of ``count`` residuals."""

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self.mean: Float64Array = np.array(saved.get("mean", (0.5, 0.0)))
        self.covariance: Float64Array = np.array(
            saved.get("covariance", ((_PRIOR_VARIANCE, 0.0), (0.0, _PRIOR_VARIANCE)))
        )
        self.squares, self.count = saved.get("squares", 0.4), saved.get("count", 2)

    def predict(self, score: float) -> tuple[float, float]:
        """The expected grade, and the variance of what it mispredicts, relative to the noise's."""
        x = np.array((1.0, 2.0 * score - 1.0))
        return float(self.mean @ x), 1.0 + float(x @ self.covariance @ x)

    def update(self, score: float, grade: float) -> None:
        """Learn from a grade."""
        expected, relative = self.predict(score)
        gain = self.covariance @ np.array((1.0, 2.0 * score - 1.0)) / relative
        self.mean = self.mean + gain * (grade - expected)
        self.covariance = self.covariance - relative * np.outer(gain, gain)
        self.squares += (grade - expected) ** 2 / relative
        self.count += 1

    def to_dict(self) -> dict[str, Any]:
        """What goes on from here, for JSON."""
        arrays = {"mean": self.mean.tolist(), "covariance": self.covariance.tolist()}
        return {**arrays, "squares": self.squares, "count": self.count}


class QualityStream:
    """The grades of one model, and the stakes against "nothing changes".

    Args:
        saved: what ``to_dict`` returned.

    Attributes:
        seen: grades so far.
        stakes: float64[generations, shifts].
    """

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self.fits = {kind: _Fit(fit) for kind, fit in saved.get("fits", {}).items()}
        self.seen = sum(fit.count - 2 for fit in self.fits.values())
        self.begun: Float64Array = np.array(saved.get("begun", ()), dtype=np.float64)
        stakes = np.array(saved.get("stakes", ()), dtype=np.float64)
        self.stakes: Float64Array = stakes.reshape(-1, len(_SHIFTS))

    def observe(self, kind: str, score: float, grade: float) -> float:
        """Note a grade, 0..1, of an answer to a prompt whose win rate is ``score``. Returns the
        logarithm of the sum of the stakes."""
        fit = self.fits.setdefault(kind, _Fit())
        if self.seen >= _FIRST:
            self._begin()
            expected, relative = fit.predict(score)
            bets = np.outer(self.begun / self.seen, _SHIFTS)
            bets /= math.sqrt(fit.squares / fit.count) * relative
            highest, lowest = max(1.0 - expected, 0.1), max(expected, 0.1)
            bets = np.clip(bets, -_MOST / highest, _MOST / lowest)
            self.stakes = self.stakes * (1.0 + bets * (grade - expected))
        fit.update(score, grade)
        self.seen += 1
        return self.evidence

    def _begin(self) -> None:
        if not len(self.begun) or self.seen >= _RATIO * self.begun[-1]:
            self.begun = np.append(self.begun, float(self.seen))
            self.stakes = np.vstack((self.stakes, np.zeros(len(_SHIFTS))))
        part = 1.0 / math.log(self.seen) - 1.0 / math.log(self.seen + 1.0)
        self.stakes[-1] += math.log(_FIRST) * part / len(_SHIFTS)

    @property
    def evidence(self) -> float:
        """The logarithm of the sum of the stakes."""
        return math.log(self.stakes.sum()) if len(self.stakes) else -math.inf

    @property
    def is_worse(self) -> bool:
        """Whether more is staked on lower grades than on higher ones."""
        of_shifts = self.stakes.sum(axis=0)
        return float(of_shifts[_SHIFTS < 0].sum()) > float(of_shifts[_SHIFTS > 0].sum())

    def to_dict(self) -> dict[str, Any]:
        """What goes on from here, for JSON."""
        return {
            "fits": {kind: fit.to_dict() for kind, fit in self.fits.items()},
            "begun": self.begun.tolist(),
            "stakes": self.stakes.tolist(),
        }
