"""Which prompts to compare next, and how hard they are by the comparisons so far.

Comparisons come in rounds; in a round each prompt meets one other, or none where the number is odd.
The first two rounds make one ring of all prompts in random order, so that the graph is connected
and all ratings are on one scale. Each further round draws a rating for every prompt from what is
known of it (its rating, with its standard error as spread) and compares neighbours by what was
drawn that have not met before. A comparison of prompts that are about equally hard says most, and
the spread keeps uncertain prompts moving. Everything drawn is decided by the seed and the outcomes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.random import default_rng

from fastroute.errors import InvalidInputError
from fastroute.training.strengths import fit_strengths, standard_errors
from fastroute.types import Float64Array, Int64Array

#: Rounds after which the graph of comparisons is connected.
CONNECTED_AFTER = 2
#: The ratings need a dense matrix of this many rows at most.
MOST_PROMPTS = 4000
# As strong as one comparison with an average prompt.
_RIDGE = 0.25
_CENTRE, _PER_LOG_ODDS = 1000.0, 400.0 / math.log(10.0)


class Outcome(NamedTuple):
    """One comparison: the numbers of two prompts, and how far b is harder: 0, 0.5 or 1."""

    a: int
    b: int
    harder: float


class Ratings(NamedTuple):
    """How hard each of n prompts is."""

    #: float64[n], Elo with mean 1000; 400 more is harder in 10 of 11 comparisons.
    difficulty: Float64Array
    standard_error: Float64Array  #: float64[n], of the same
    judgements: Int64Array  #: int64[n], number of comparisons

    @property
    def reliability(self) -> float:
        """Estimated share of the variance of the true difficulties that the ratings explain.

        The ratings are posterior means, so the variance of the truth is their variance plus the
        mean squared error. 0 where nothing was judged.
        """
        judged = self.judgements > 0
        if not judged.any():
            return 0.0
        spread = float(np.var(self.difficulty[judged]))
        return spread / (spread + float(np.mean(self.standard_error[judged] ** 2)))


def rate(outcomes: list[Outcome], count: int) -> Ratings:
    """Bradley-Terry ratings of ``count`` prompts, with a weak ridge; see ``strengths``."""
    a = np.array([outcome.a for outcome in outcomes], dtype=np.int64)
    b = np.array([outcome.b for outcome in outcomes], dtype=np.int64)
    harder = np.array([outcome.harder for outcome in outcomes], dtype=np.float64)
    weights = np.ones(len(outcomes))
    strengths = fit_strengths(a, b, harder, weights, count, ridge=_RIDGE)
    errors = standard_errors(a, b, weights, strengths, ridge=_RIDGE)
    return Ratings(
        _CENTRE + _PER_LOG_ODDS * strengths,
        _PER_LOG_ODDS * errors,
        np.bincount(np.concatenate([a, b]), minlength=count),
    )


def check_rounds(rounds: int, count: int) -> int:
    """The number of rounds that ``count`` prompts allow, at most ``rounds``.

    Raises InvalidInputError for fewer than two prompts, or too many.
    """
    if count < 2:
        raise InvalidInputError(f"there are {count} prompts; give at least two different ones")
    if count > MOST_PROMPTS:
        raise InvalidInputError(
            f"there are {count:,} prompts, more than {MOST_PROMPTS:,}; judge a sample of them "
            "(--sample)"
        )
    return min(rounds, count - 1)


def pairs_of_round(
    number: int, outcomes: list[Outcome], met: set[tuple[int, int]], count: int, seed: int
) -> list[tuple[int, int]]:
    """The pairs of round ``number``, from 0.

    Args:
        number: of the round.
        outcomes: of the rounds before.
        met: all pairs of the rounds before, each (smaller, greater).
        count: number of prompts.
        seed: of what is drawn.
    """
    if number < CONNECTED_AFTER:
        ring = default_rng([seed, 0]).permutation(count).tolist()
        pairs = [(ring[i], ring[(i + 1) % count]) for i in range(number, count, 2)]
        return pairs[: count // 2]
    known = rate(outcomes, count)
    drawn = default_rng([seed, number]).normal(known.difficulty, known.standard_error)
    free = np.argsort(drawn, kind="stable").tolist()
    if count % 2:
        free.remove(int(np.argmax(known.judgements)))
    return _neighbours(free, met)


def _neighbours(order: list[int], met: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Pairs of near neighbours in ``order`` that have not met, as many as are easily found."""

    def fresh(one: int, other: int) -> bool:
        return (min(one, other), max(one, other)) not in met

    pairs: list[tuple[int, int]] = []
    alone: list[int] = []
    free = list(order)
    while free:
        one = free.pop(0)
        place = next((i for i, other in enumerate(free) if fresh(one, other)), None)
        if place is None:
            alone.append(one)
        else:
            pairs.append((one, free.pop(place)))
    # Two who have met each other each take one of another pair.
    while len(alone) > 1:
        one, other = alone.pop(), alone.pop()
        for i in range(len(pairs) - 1, -1, -1):
            a, b = pairs[i] if fresh(one, pairs[i][0]) else pairs[i][::-1]
            if fresh(one, a) and fresh(other, b):
                pairs[i] = (one, a)
                pairs.append((other, b))
                break
    return pairs
