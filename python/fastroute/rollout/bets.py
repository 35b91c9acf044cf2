"""Tests that hold at every moment they are looked at: betting against a hypothesis.

A gambler with a stake of 1 bets on each observation at odds that are fair, or worse, under the
hypothesis. By Ville's inequality (1939) the stake ever reaches 1/a with probability at most a if
the hypothesis holds, however often one looks, and whatever one decides by it (Waudby-Smith and
Ramdas 2023, arXiv 2010.09686; for experiments, Waudby-Smith et al. 2022, arXiv 2210.10768). The
gambler is a crowd with a fixed fraction each; a small part of the stake is shared out again at each
step (Herbster and Warmuth 1998), so that a change late in a long series is noticed too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from fastroute.types import Float64Array

#: Parts of what may be lost at once that the members of the crowd stake; the first keeps its cash.
FRACTIONS = np.array([0.0, *(0.9 * 0.5**i for i in range(8))])
_SHARED = 1e-4
_SIGNS = np.array([1.0, -1.0, -1.0])


class Contrast:
    """Compares an outcome on 0..1, of which less is better, between canary and control.

    Each conversation is in the canary with a known probability, so the augmented inverse propensity
    estimate of "canary - ratio x control", with the means so far as its model, is unbiased for
    each conversation by itself, whatever changes with time for both.

    Args:
        ratio, margin: the canary is good enough if its mean is at most ratio x the control's, plus
            margin.
        saved: what ``to_dict`` returned.

    Attributes:
        stakes: float64[3, 9], logarithms: of each member of the crowd, in the bets that the canary
            is worse than good enough, that it is good enough, that it is better than the control.
        counts, sums: of conversations and their outcomes, of control and canary.
    """

    def __init__(self, ratio: float, margin: float, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self._ratios = np.array([ratio, ratio, 1.0])
        self._margins = np.array([margin, margin, 0.0])
        even = np.full((3, len(FRACTIONS)), -math.log(len(FRACTIONS)))
        self.stakes: Float64Array = np.array(saved.get("stakes", even), dtype=np.float64)
        self.counts: list[float] = list(saved.get("counts", (0.0, 0.0)))
        self.sums: list[float] = list(saved.get("sums", (0.0, 0.0)))

    def observe(self, is_canary: bool, share: float, value: float) -> None:
        """Note the outcome ``value``, 0..1, of a conversation that was in the canary with
        probability ``share``, 0 < share < 1."""
        # Means so far; that of few conversations of the canary leans on the control's.
        control = (self.sums[0] + 0.5) / (self.counts[0] + 1.0)
        canary = (self.sums[1] + 10.0 * control) / (self.counts[1] + 10.0)
        base = canary - self._ratios * control - self._margins
        y = np.array([value, 0.0, 1.0])[:, None]
        in_canary = base + (y - canary) / share
        in_control = base - self._ratios * (y - control) / (1.0 - share)
        seen = (in_canary if is_canary else in_control)[0] * _SIGNS
        least = np.minimum(in_canary[1:] * _SIGNS, in_control[1:] * _SIGNS).min(axis=0)
        moved = np.log1p(FRACTIONS * (seen / np.maximum(-least, 1e-9))[:, None])
        self.stakes = share_out(self.stakes + moved, _SHARED)
        self.counts[is_canary] += 1.0
        self.sums[is_canary] += value

    @property
    def evidence(self) -> Evidence:
        """Logarithms of the stakes: above log(1/a) a bet is won at level a."""
        return Evidence(*log_sum(self.stakes).tolist())

    @property
    def means(self) -> tuple[float, float]:
        """Means of control and canary; NaN where there are none."""
        pairs = zip(self.sums, self.counts, strict=True)
        control, canary = (s / n if n else math.nan for s, n in pairs)
        return control, canary

    def to_dict(self) -> dict[str, Any]:
        """What goes on from here, for JSON."""
        return {"stakes": self.stakes.tolist(), "counts": self.counts, "sums": self.sums}


class Evidence(NamedTuple):
    """Of each bet of a ``Contrast``."""

    worse: float
    fit: float
    better: float


def log_sum(logs: Float64Array) -> Float64Array:
    """The logarithm of the sum of exp(logs) over the last axis."""
    most = logs.max(axis=-1)
    found: Float64Array = most + np.log(np.exp(logs - most[..., None]).sum(axis=-1))
    return found


def share_out(logs: Float64Array, part: float) -> Float64Array:
    """``part`` of the stakes with the logarithms ``logs``, shared out evenly over the last axis."""
    common = math.log(part / logs.shape[-1]) + log_sum(logs)
    found: Float64Array = np.logaddexp(logs + math.log1p(-part), common[..., None])
    return found
