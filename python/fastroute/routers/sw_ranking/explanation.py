"""Why ``sw_ranking`` gives a prompt its win rate."""

from __future__ import annotations

from typing import NamedTuple

from fastroute.types import Float64Array, Winner


class NearBattle(NamedTuple):
    """A past battle near the prompt.

    Attributes:
        battle: its number, in the order of ``fit`` and then of ``add_battles``.
        model_a, model_b, winner: who fought, and how it went ("tie" for either kind of tie).
        similarity: cosine of its embedding and the prompt's.
        weight: 10 * 10^(similarity / largest similarity): 100 for the nearest.
    """

    battle: int
    model_a: str
    model_b: str
    winner: Winner
    similarity: float
    weight: float


class Explanation(NamedTuple):
    """What a win rate rests on.

    Attributes:
        win_rate: probability, 0..1, that the strong model's answer would be preferred.
        nearest: the nearest battles, nearest first.
        tier_ratings: Elo of the tiers for this prompt, float64[num_tiers]; tier 0 has the best
            models (``model_tiers_``). Ratings are free up to a constant.
    """

    win_rate: float
    nearest: list[NearBattle]
    tier_ratings: Float64Array
