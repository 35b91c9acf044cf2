"""Which prompts to grade next: those whose grades would say the most on all others.

Each prompt's gain is taken to be linear in its embedding, with a Gaussian prior. Graded prompts
make its variance smaller where they are. The next prompt to grade is the one that makes the sum of
the variances of all prompts the smallest (transductive experimental design; Yu, Bi and Tresp 2006):
that takes prompts that are like many others and unlike those that are graded.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fastroute._checks import check_integer
from fastroute.errors import InvalidInputError
from fastroute.learning.tune.export import Export
from fastroute.learning.tune.groups import group_prompts
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.embedding import embed

# Variance of a grade next to that of what is to be learnt, for prompts at the mean distance.
_NOISE = 1.0


def suggest_prompts(export: Export, count: int, *, progress: bool = False) -> list[int]:
    """The indices of at most ``count`` rows to grade next, the most informative first.

    Of near-duplicates one is taken, and none where one of them has both grades. Raises
    InvalidInputError where every prompt is graded.
    """
    count = check_integer("count", count, 1)
    embedder = MatrixFactorizationRouter.load_default().embedder
    assert embedder is not None
    groups = group_prompts(export.prompts)
    firsts = np.unique(groups.ids, return_index=True)[1]
    graded = np.unique(groups.ids[export.has_all])
    X = embed(embedder, [export.prompts[i] for i in firsts], progress=progress).astype(np.float64)
    is_graded = np.isin(groups.ids[firsts], graded)
    open_rows = np.flatnonzero(~is_graded & X.any(axis=1))
    if not len(open_rows):
        raise InvalidInputError(
            f"{export.file}: every distinct prompt has grades of both models, or no token that the "
            "embedder knows; give an export with prompts to grade"
        )
    spread = X.std(axis=0)
    X = (X - X.mean(axis=0)) / np.where(spread > 1e-9, spread, 1.0) / np.sqrt(X.shape[1])
    chosen = _design(X[open_rows], X[is_graded], X, min(count, len(open_rows)))
    return [int(firsts[open_rows[i]]) for i in chosen]


def _design(
    X: npt.NDArray[np.float64],
    known: npt.NDArray[np.float64],
    population: npt.NDArray[np.float64],
    count: int,
) -> list[int]:
    """Greedy choice among the rows of X, float64[n, d], where ``known`` rows are graded."""
    d = X.shape[1]
    covariance = np.linalg.inv(np.eye(d) + known.T @ known / _NOISE)
    # A root of the population's second moment, so that a sum of squares is a product of it.
    values, vectors = np.linalg.eigh(population.T @ population)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    Y = X @ covariance
    Z = Y @ root
    variance = (Y * X).sum(axis=1)
    left = np.ones(len(X), dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(count):
        gain = np.where(left, (Z * Z).sum(axis=1) / (_NOISE + variance), -np.inf)
        best = int(np.argmax(gain))
        chosen.append(best)
        left[best] = False
        # Sherman and Morrison: the covariance after the grade of that prompt.
        share = (Y @ X[best]) / (_NOISE + variance[best])
        y, z = Y[best].copy(), Z[best].copy()
        variance = variance - share * (X @ y)
        Y -= np.outer(share, y)
        Z -= np.outer(share, z)
    return chosen
