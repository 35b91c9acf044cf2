"""``fastroute learn``: from a journal to a router with a guarantee, or the reasons why not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Engine

from fastroute.errors import InvalidInputError
from fastroute.learning.from_journal.export import export_journal
from fastroute.learning.from_journal.forgetting import choose_half_life, draw_by_weight
from fastroute.learning.many_models.result import ModelsResult
from fastroute.learning.many_models.run import tune_models
from fastroute.learning.tune.guarantee import Goal
from fastroute.learning.tune.result import TuneResult
from fastroute.learning.tune.run import tune_router
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.embedding import embed
from fastroute.types import ModelPair

_DAY_S = 86400.0


@dataclass(frozen=True, eq=False)
class Learned:
    """A tuned router, and how its rows were drawn.

    Attributes:
        tuned: what ``tune`` found.
        half_life_s: seconds after which a row counts half; infinity where nothing is forgotten.
        rows, kept: graded rows of the journal, and how many were drawn.
        understood: what was made of the journal, a line each.
    """

    tuned: TuneResult | ModelsResult
    half_life_s: float
    rows: int
    kept: int
    understood: tuple[str, ...]


def learn_router(
    engine: Engine,
    goal: Goal,
    *,
    pair: ModelPair | None = None,
    since: float = 0.0,
    half_life_s: float | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Learned:
    """Tune a router on the graded prompts of a journal, for a pair of models or for candidates.

    Args:
        engine: the journal, as ``open_journal`` opens it.
        goal: what is to be promised.
        pair: the strong and the weak model; by default the gateway's, or its candidates.
        since: seconds since 1970; requests before are left out.
        half_life_s: of rows; None chooses it.
        seed: of the draw and the splits.
        progress: show a bar on a terminal.

    Raises InvalidInputError where the journal has too few grades, or no prompts.
    """
    export, weights, prices = export_journal(engine, pair=pair, since=since)
    times, both = export.times, export.has_all
    assert times is not None
    if half_life_s is None:
        rows = np.flatnonzero(both)
        half_life_s = math.inf
        if len(rows):
            embedder = MatrixFactorizationRouter.load_default().embedder
            assert embedder is not None
            X = embed(embedder, [export.prompts[i] for i in rows], progress=progress)
            if export.is_pair:
                gain = (export.strong - export.weak)[rows]
            else:  # of the best model over the others
                grades = export.grades[rows]
                best = int(grades.mean(axis=0).argmax())
                gain = grades[:, best] - np.delete(grades, best, axis=1).mean(axis=1)
            half_life_s = choose_half_life(X, gain, times[rows], weights[rows])
    elif not half_life_s > 0.0:
        raise InvalidInputError(f"half_life_s must be above 0, got {half_life_s}")
    decay = 0.5 ** ((times[-1] - times) / half_life_s)
    keep = np.zeros(len(export), dtype=np.bool_)
    for part in (both, ~both):  # they have weights of different kinds
        keep[part] = draw_by_weight((weights * decay)[part], seed)
    drawn = export.select(keep)
    forgets = "nothing is forgotten" if math.isinf(half_life_s) else (
        f"a row counts half after {half_life_s / _DAY_S:.2g} days"
    )  # fmt: skip
    said = f"rows drawn by weight: {len(drawn):,} of {len(export):,}; {forgets}"
    drawn = replace(drawn, understood=(*drawn.understood, said))
    tune = tune_router if export.is_pair else tune_models
    tuned = tune(drawn, goal, prices=prices, seed=seed, progress=progress)
    return Learned(tuned, half_life_s, len(export), len(drawn), drawn.understood)
