"""``fastroute learn``: from a journal to a router with a guarantee, or the reasons why not."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Engine

from fastroute.learning.from_journal.export import export_journal
from fastroute.learning.from_journal.forgetting import choose_memory, draw_by_weight
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
        memory_s: seconds before the last row from which on rows count; infinity where all do.
        rows, kept: graded rows of the journal, and how many were drawn.
        understood: what was made of the journal, a line each.
    """

    tuned: TuneResult | ModelsResult
    memory_s: float
    rows: int
    kept: int
    understood: tuple[str, ...]

    @property
    def proposes(self) -> bool:
        """Whether to try what was found: a router to be used, or the weak model for everything
        where that keeps the promise."""
        found = self.tuned
        if not isinstance(found, TuneResult) or found.goal.kind != "quality":
            return found.verdict == "use"
        kept = found.certified and (found.final_check is None or found.final_check.kept)
        return found.verdict == "use" or (found.recommendation == "always_weak" and kept)


def learn_router(
    engine: Engine,
    goal: Goal,
    *,
    pair: ModelPair | None = None,
    since: float = 0.0,
    seed: int = 0,
    progress: bool = False,
) -> Learned:
    """Tune a router on the graded prompts of a journal, for a pair of models or for candidates.

    Args:
        engine: the journal, as ``open_journal`` opens it.
        goal: what is to be promised.
        pair: the strong and the weak model; by default the gateway's, or its candidates.
        since: seconds since 1970; requests before are left out.
        seed: of the draw and the splits.
        progress: show a bar on a terminal.

    Raises InvalidInputError where the journal has too few grades, or no prompts.
    """
    export, weights, prices = export_journal(engine, pair=pair, since=since)
    times, both = export.times, export.has_all
    assert times is not None
    memory_s = math.inf
    rows = np.flatnonzero(both)
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
        memory_s = float(times[-1]) - choose_memory(X, gain, times[rows], weights[rows])
    counts = times[-1] - times <= memory_s
    keep = np.zeros(len(export), dtype=np.bool_)
    for part in (counts & both, counts & ~both):  # they have weights of different kinds
        keep[part] = draw_by_weight(weights[part], seed)
    drawn = export.select(keep)
    forgets = "nothing is forgotten" if math.isinf(memory_s) else (
        f"rows older than {memory_s / _DAY_S:.2g} days are forgotten: later ones predict better"
    )  # fmt: skip
    said = f"rows drawn by weight: {len(drawn):,} of {len(export):,}; {forgets}"
    drawn = replace(drawn, understood=(*drawn.understood, said))
    tune = tune_router if export.is_pair else tune_models
    tuned = tune(drawn, goal, prices=prices, seed=seed, progress=progress)
    return Learned(tuned, memory_s, len(export), len(drawn), drawn.understood)
