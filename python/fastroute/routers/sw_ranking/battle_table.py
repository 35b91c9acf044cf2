"""Battles between models: names checked, models rated and cut into tiers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from fastroute import _native
from fastroute.errors import InvalidInputError, InvalidTypeError, RatingError
from fastroute.types import WINNERS, Float64Array

#: Elo = 400 / ln 10 * rating + 1000, shifted so that this model, where present, has 1082.
ELO_PER_RATING = 400.0 / math.log(10.0)
ELO_ORIGIN = 1000.0
_ELO_ANCHOR = ("llama-2-70b-chat", 1082.0)

_OUTCOMES = {"model_a": 1, "model_b": -1, "tie": 0, "tie (bothbad)": 0}
Outcomes = npt.NDArray[np.int8]
Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BattleTable:
    """n battles by number, and what was learned of the models.

    Attributes:
        models: names, sorted. elo: float64[models]. tiers: int32[models], 0 the best.
        a, b: int32[n], numbers of the models. outcome: int8[n], +1 (a won), -1 (b won) or 0.
    """

    models: tuple[str, ...]
    elo: Float64Array
    tiers: Ids
    num_tiers: int
    a: Ids
    b: Ids
    outcome: Outcomes

    def cells(self) -> npt.NDArray[np.uint16]:
        """The kind of each battle, uint16[n]."""
        return _native.battle_cells(
            self.tiers[self.a], self.tiers[self.b], self.outcome, self.num_tiers
        )

    def tier(self, model: str) -> int:
        """Tier of a model."""
        return int(self.tiers[self.models.index(model)])

    def taken(self, order: npt.NDArray[np.intp]) -> BattleTable:
        """The same models with some of the battles, in another order."""
        return replace(self, a=self.a[order], b=self.b[order], outcome=self.outcome[order])

    def joined(self, other: BattleTable) -> BattleTable:
        """These battles and then the ``other``'s, between the same models."""
        return replace(
            self,
            a=np.concatenate([self.a, other.a]),
            b=np.concatenate([self.b, other.b]),
            outcome=np.concatenate([self.outcome, other.outcome]),
        )

    def best_first(self) -> list[int]:
        """Numbers of the models by rating."""
        return [int(i) for i in np.argsort(-self.elo, kind="stable")]

    def read(
        self, count: int, model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str]
    ) -> BattleTable:
        """More battles between the same models, as many as there are embeddings (``count``)."""
        names_a, names_b, outcome = _columns(count, model_a, model_b, winner)
        known = np.array(self.models)
        for argument, names in (("model_a", names_a), ("model_b", names_b)):
            strange = np.flatnonzero(~np.isin(names, known))
            if strange.size:
                raise InvalidInputError(
                    f"{argument}[{strange[0]}] is {str(names[strange[0]])!r}, which was in no "
                    "battle at fit and has no tier; call fit with all battles"
                )
        a = np.searchsorted(known, names_a).astype(np.int32)
        b = np.searchsorted(known, names_b).astype(np.int32)
        return replace(self, a=a, b=b, outcome=outcome)


def rate_models(
    count: int,
    model_a: Sequence[str],
    model_b: Sequence[str],
    winner: Sequence[str],
    num_tiers: int,
    pair: dict[str, str],
) -> BattleTable:
    """Rate the models of ``count`` battles and cut them into tiers.

    ``pair`` has the models that must occur, by the names of their arguments. Raises
    InvalidInputError for malformed input, RatingError where there are no finite ratings.
    """
    models, a, b, outcome = read_columns(count, model_a, model_b, winner)
    counts = count_outcomes(len(models), a, b, outcome)
    elo, tiers = rate_counts(models, counts, num_tiers, pair)
    return BattleTable(models, elo, tiers, num_tiers, a, b, outcome)


def read_columns(
    count: int, model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str]
) -> tuple[tuple[str, ...], Ids, Ids, Outcomes]:
    """Names of the models, sorted, and the battles by number; errors as ``rate_models``."""
    names_a, names_b, outcome = _columns(count, model_a, model_b, winner)
    models, ids = np.unique(np.concatenate([names_a, names_b]), return_inverse=True)
    a, b = ids[: len(names_a)], ids[len(names_a) :]
    return tuple(map(str, models)), a.astype(np.int32), b.astype(np.int32), outcome


def count_outcomes(models: int, a: Ids, b: Ids, outcome: Outcomes) -> npt.NDArray[np.int64]:
    """Battles of each two models by outcome, int64[models, models, 3]: b won, a tie, a won."""
    kinds = (a.astype(np.int64) * models + b) * 3 + outcome + 1
    return np.bincount(kinds, minlength=3 * models**2).reshape(models, models, 3)


def rate_counts(
    models: Sequence[str], counts: npt.NDArray[np.int64], num_tiers: int, pair: dict[str, str]
) -> tuple[Float64Array, Ids]:
    """Elo of each model and its tier, from ``count_outcomes``; errors as ``rate_models``."""
    for argument, model in pair.items():
        if model not in models:
            raise InvalidInputError(
                f"{argument} is {model!r}, which is in no battle; the battles are between "
                f"{', '.join(models[:8])}{' ...' if len(models) > 8 else ''}"
            )
    if len(models) < num_tiers:
        raise InvalidInputError(
            f"num_tiers is {num_tiers}, more than the {len(models)} models in the "
            f"battles; pass num_tiers={len(models)} or fewer"
        )
    elo = _elo(models, counts)
    order = np.argsort(-elo, kind="stable")
    tiers = np.empty(len(models), dtype=np.int32)
    tiers[order] = _native.cut_rating_tiers(elo[order], num_tiers)
    return elo, tiers


def _columns(
    count: int, model_a: Sequence[str], model_b: Sequence[str], winner: Sequence[str]
) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.str_], Outcomes]:
    names_a, names_b = _names("model_a", model_a), _names("model_b", model_b)
    outcome = _outcomes(winner)
    if not count == len(names_a) == len(names_b) == len(outcome) > 0:
        raise InvalidInputError(
            "embeddings, model_a, model_b and winner must have the same length, at least 1, "
            f"got {count}, {len(names_a)}, {len(names_b)} and {len(outcome)}"
        )
    same = names_a == names_b
    if same.any():
        i = int(np.argmax(same))
        raise InvalidInputError(
            f"battle {i} is of {str(names_a[i])!r} with itself; drop battles of a model with itself"
        )
    return names_a, names_b, outcome


def _names(argument: str, values: Sequence[str]) -> npt.NDArray[np.str_]:
    # Looked at before NumPy sees them: it would write a number as a string.
    if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise InvalidTypeError(
            f"{argument} must be a sequence of str, one a battle, got {values!r}"
        )
    names = list(values)
    for i, name in enumerate(names):
        if not isinstance(name, str):
            raise InvalidTypeError(f"{argument}[{i}] must be a str, got {name!r}")
        if "\0" in name:  # NumPy drops those at the end: two names would become one
            raise InvalidInputError(
                f"{argument}[{i}] is {name!r}, which has a NUL character; take it out"
            )
    return np.array(names, dtype=np.str_)


def _outcomes(winner: Sequence[str]) -> Outcomes:
    names = _names("winner", winner)
    outcomes = np.empty(len(names), dtype=np.int8)
    for i, value in enumerate(names):
        if value not in _OUTCOMES:
            raise InvalidInputError(
                f"winner[{i}] is {str(value)!r}; it must be one of {', '.join(map(repr, WINNERS))}"
            )
        outcomes[i] = _OUTCOMES[value]
    return outcomes


def _elo(models: Sequence[str], counts: npt.NDArray[np.int64]) -> Float64Array:
    """Elo of every model from all battles at equal weight, float64[models]."""
    # Each battle is in the data twice, a tie once for each side.
    lost, tied, won = (counts[..., i].astype(np.float64) for i in range(3))
    wins = 2.0 * (won + lost.T) + tied + tied.T
    groups = _native.rating_groups(wins)
    if groups.max() > 0:
        small = np.argmin(np.bincount(groups))
        members = ", ".join([m for m, g in zip(models, groups, strict=True) if g == small][:5])
        raise RatingError(
            f"no finite ratings: against all others, {members} only won, only lost or never met "
            f"(there are {groups.max() + 1} such groups); drop the battles of those models or add "
            "some that connect them"
        )
    elo = ELO_PER_RATING * _native.fit_bradley_terry(wins) + ELO_ORIGIN
    anchor, rating = _ELO_ANCHOR
    if anchor in models:
        elo += rating - elo[models.index(anchor)]
    shifted: Float64Array = elo
    return shifted
