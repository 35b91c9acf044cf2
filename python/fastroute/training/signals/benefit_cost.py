"""Forward selection by benefit and cost, with the safeguards of Jagdhuber and Rahnenfuehrer.

"Implications on Feature Detection when using the Benefit-Cost Ratio" (2020, arXiv 2008.05163) shows
what goes wrong with the plain ratio: a feature that costs next to nothing is taken although it is
noise. It names three ways out, and all are taken here:

no costs near zero
    A cost below ``least_cost`` counts as that.
rescaled differences
    Where the dearest costs more than ``most_ratio`` times the cheapest, costs are brought together
    on a logarithmic scale until it is that.
a trade-off exponent
    The ratio is benefit / cost ** ``exponent``; 0 looks at the benefit only, 1 is the plain ratio.

Beside them, nothing is taken whose benefit is not above what features of pure noise gain in its
place, which the caller measures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from fastroute.errors import InvalidInputError


class Candidate(NamedTuple):
    """One feature at one step of the selection."""

    name: str  #: of the feature
    benefit: float  #: what it adds to what was taken before
    cost: float  #: as it counts, rescaled
    ratio: float  #: benefit / cost ** exponent


class Step(NamedTuple):
    """One step of the selection."""

    candidates: tuple[Candidate, ...]  #: what there was to choose from, the best ratio first
    least_benefit: float  #: a candidate that adds no more is not taken
    taken: str | None  #: the name of the one that was, or None


def rescaled(costs: Mapping[str, float], least_cost: float, most_ratio: float) -> dict[str, float]:
    """Costs, at least ``least_cost`` each, of which the greatest is ``most_ratio`` times the least.

    Raises InvalidInputError for a ``least_cost`` that is not above 0, a ``most_ratio`` below 1 or a
    cost that is not a number.
    """
    if not (math.isfinite(least_cost) and least_cost > 0):
        raise InvalidInputError(f"least_cost must be above 0, got {least_cost}")
    if not most_ratio >= 1:
        raise InvalidInputError(f"most_ratio must be at least 1, got {most_ratio}")
    for name, cost in costs.items():
        if not math.isfinite(cost):
            raise InvalidInputError(f"the cost of {name!r} is {cost}, which is not a number")
    floored = {name: max(cost, least_cost) for name, cost in costs.items()}
    least, most = min(floored.values()), max(floored.values())
    if most <= least * most_ratio:
        return floored
    power = math.log(most_ratio) / math.log(most / least)
    return {name: least * (cost / least) ** power for name, cost in floored.items()}


def select(
    gain: Callable[[tuple[str, ...]], float],
    costs: Mapping[str, float],
    *,
    exponent: float,
    least_benefit: Callable[[tuple[str, ...]], float],
) -> list[Step]:
    """Take one feature after another, each time the one with the best ratio; see the module.

    Args:
        gain: how good a set of features is; () is asked first.
        costs: of each feature, above 0 (``rescaled``).
        exponent: of the cost, 0 or more.
        least_benefit: what a feature must add to a set, and more, to be taken.

    Returns the steps; the last takes nothing, unless all features were taken.
    """
    if not (math.isfinite(exponent) and exponent >= 0):
        raise InvalidInputError(f"exponent must be 0 or more, got {exponent}")
    taken: tuple[str, ...] = ()
    reached = gain(taken)
    steps = []
    while len(taken) < len(costs):
        found = []
        for name, cost in costs.items():
            if name not in taken:
                benefit = gain((*taken, name)) - reached
                found.append(Candidate(name, benefit, cost, benefit / cost**exponent))
        found.sort(key=lambda candidate: -candidate.ratio)
        least = least_benefit(taken)
        best = next((one for one in found if one.benefit > least), None)
        steps.append(Step(tuple(found), least, None if best is None else best.name))
        if best is None:
            break
        taken = (*taken, best.name)
        reached += best.benefit
    return steps
