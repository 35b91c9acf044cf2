"""RouteLLM's D_gold: a router that may see the hashed 10.7 % of MMLU, for the gold protocol."""

from __future__ import annotations

import os

from fastroute.embedders.static import StaticEmbedder
from fastroute.evaluation.benchmarks.protocols import is_gold
from fastroute.evaluation.benchmarks.routellm import Benchmark, load_mmlu
from fastroute.evaluation.metrics.calibration_metrics import outcomes
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.heads import train_mf


def read_gold(data: str | os.PathLike[str]) -> Benchmark:
    """The part of MMLU that may be trained on. Errors are those of ``load_mmlu``."""
    mmlu = load_mmlu(data)
    return mmlu.select(is_gold(mmlu.prompts), "mmlu-gold")


def train_gold(gold: Benchmark, embedder: StaticEmbedder) -> MatrixFactorizationRouter:
    """A router trained on gold labels alone: ridge strength and weight of the length are learnt.

    Preferences of other sources are left out: beside 1,500 labels of the very pair and task they
    made held-out gold prompts harder to predict, whatever their weight.
    """
    return train_mf(list(gold.prompts), outcomes(gold.weak, gold.strong), embedder=embedder)
