"""RouteLLM's D_gold: a router that may see the hashed 10.7 % of MMLU, for the gold protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from fastroute.embedders.static import StaticEmbedder
from fastroute.evaluation.benchmarks import Benchmark, load_mmlu
from fastroute.evaluation.calibration_metrics import outcomes
from fastroute.evaluation.protocols import is_gold
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.default_router import Recipe, weights_of
from fastroute.training.heads import FOLDS, fit_head, quantiles, router_of
from fastroute.training.labels import LABELS
from fastroute.training.preferences import Preference, fold_numbers

#: Weights of a gold prompt to choose from; a prompt of the preferences has 1.
WEIGHTS = (1.0, 4.0, 16.0, 64.0, 256.0)


def read_gold(data: str | os.PathLike[str]) -> Benchmark:
    """The part of MMLU that may be trained on. Errors are those of ``load_mmlu``."""
    mmlu = load_mmlu(data)
    return mmlu.select(is_gold(mmlu.prompts), "mmlu-gold")


def train_gold(
    rows: Sequence[Preference],
    gold: Benchmark,
    embedder: StaticEmbedder,
    recipe: Recipe | None = None,
) -> tuple[MatrixFactorizationRouter, float]:
    """A router trained on preferences and gold labels, and the weight of a gold prompt.

    The weight is the one of WEIGHTS by which held-out gold prompts are predicted best (squared
    error). Calibration quantiles are those of held-out gold prompts: they are like what the router
    will see. The level is a compromise between both kinds of label.
    """
    recipe = recipe or Recipe()
    prompts = [*(row.prompt for row in rows), *gold.prompts]
    targets = np.concatenate([LABELS[recipe.label](rows), outcomes(gold.weak, gold.strong)])
    groups = [*(row.group for row in rows), *["mmlu-gold"] * len(gold)]
    ids = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    X = embedder.embed_batch(prompts)
    said = X.any(axis=1)
    is_last = np.arange(len(prompts)) >= len(rows)
    folds = fold_numbers(prompts, FOLDS)
    best = None
    for weight in WEIGHTS:
        weights = np.concatenate([weights_of(rows, recipe.weighting), np.full(len(gold), weight)])
        head = fit_head(
            X[said],
            targets[said],
            group_ids=ids[said],
            weights=weights[said],
            fold_ids=folds[said],
            ridge=recipe.ridge,
            signals=embedder.signals,
        )
        rates = head.held_out_win_rates[is_last[said]]
        residual = targets[said & is_last] - rates
        error = float(np.mean((residual - residual.mean()) ** 2))
        if best is None or error < best[0]:
            best = error, weight, head, rates
    assert best is not None
    router = router_of(best[2], prompts, embedder)
    router.calibration = quantiles(best[3])
    return router, best[1]
