"""Transfer: the same router, unchanged, on other pairs of models.

RouteLLM claims that its routers keep their worth when the models behind them change. This scores a
router once and reads its curve off the results of as many pairs as wanted.
"""

from __future__ import annotations

from collections.abc import Sequence

from fastroute.errors import InvalidInputError
from fastroute.types import ModelPair


def parse_pair(words: Sequence[str]) -> ModelPair:
    """A pair from ``["strong=gpt-4o", "weak=gemma"]``, in either order."""
    parts = [word.partition("=") for word in words]
    named = {name: column for name, _, column in parts}
    if len(words) != 2 or set(named) != {"strong", "weak"} or not all(named.values()):
        raise InvalidInputError(f"a pair is strong=COLUMN weak=COLUMN, got {' '.join(words)!r}")
    if named["strong"] == named["weak"]:
        raise InvalidInputError(f"a pair needs two models, got {named['strong']!r} twice")
    return ModelPair(strong=named["strong"], weak=named["weak"])
