"""Comparison of a router with the baselines that every report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from fastroute.evaluation.metrics.curve import apgr, curve
from fastroute.routers.length import LengthRouter
from fastroute.types import Float64Array


def length_apgr(prompts: Sequence[str], weak: Float64Array, strong: Float64Array) -> float:
    """APGR of sending longer prompts to the strong model; scores are float64[n]."""
    return apgr(curve(LengthRouter().win_rates(prompts), weak, strong))


def losses(
    own: float | None,
    length: float | None,
    others: Mapping[str, float] = MappingProxyType({}),
    *,
    measure: str = "APGR",
    random: float = 0.5,
) -> list[str]:
    """The baselines that a router is not above on held-out prompts, in words.

    Args:
        own: its figure; None where it was not measured, which is no loss.
        length: that of the length of the prompt, or None.
        others: that of further baselines, by name.
        measure: what the figures are; greater is better.
        random: that of random routing.
    """
    rivals = {"random routing": random, "the length of the prompt": length, **others}
    return [
        f"its {measure}, {own:.4f}, is not above {value:.4f}, that of {name}"
        for name, value in rivals.items()
        if own is not None and value is not None and not own > value
    ]
