"""Pairs of models that the benches of ``fastroute tune`` draw from.

``--data FOLDER`` has ``routellm_evals`` (a checkout of RouteLLM) and ``preferences`` (files with
scores of many models); ``--routerbench FOLDER`` is as in ``other_benchmarks.py``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastroute.artifacts import prompt_hash
from fastroute.evaluation import Benchmark, load_gsm8k, load_mmlu, load_traffic
from fastroute.learning import Export
from fastroute.learning.tune.grades import Scale
from fastroute.learning.tune.split import MOST_KNOWN
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.types import ModelPair
from other_benchmarks import routerbench

_PAIRS = {
    "mmlu_pro": ("gpt-4o-2024-05-13", "Mixtral-8x7B-Instruct-v0.1"),
    "zeroeval": ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"),
    "llmrouter": ("llama-3.1-nemotron-51b-instruct", "mistral-7b-instruct-v0.3"),
    "hellobench": ("gpt4o_0806", "mistral_7b_v02"),
    "ifeval": ("gpt-4o-2024-08-06", "mistralai/Mistral-7B-Instruct-v0.3"),
}


def is_of_the_default(benchmark: Benchmark) -> bool:
    """Whether the bundled router was trained on the prompts, so that its own figures flatter."""
    hashes = MatrixFactorizationRouter.load_default().provenance.trained_on
    known = np.array([prompt_hash(prompt) for prompt in benchmark.prompts], dtype=np.uint64)
    return hashes is not None and bool(np.isin(known, hashes).mean() > MOST_KNOWN)


def add_folders(parser: argparse.ArgumentParser) -> None:
    """Add ``--data``, ``--routerbench`` and ``--only``."""
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--routerbench", type=Path, metavar="FOLDER")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of these pairs only")


def benchmarks(options: argparse.Namespace) -> Iterator[Benchmark]:
    """The pairs of the folders that are given."""
    wanted = options.only
    for load in (load_mmlu, load_gsm8k):
        if wanted is None or load.__name__.removeprefix("load_") in wanted:
            yield load(options.data / "routellm_evals")
    for name, models in _PAIRS.items():
        if wanted is None or name in wanted:
            file = options.data / "preferences" / f"{name}.jsonl.gz"
            yield replace(load_traffic(file, pair=ModelPair(*models)).benchmark, name=name)
    if options.routerbench:
        for benchmark in routerbench(options.routerbench):
            if wanted is None or benchmark.name in wanted:
                yield benchmark


def export_of(
    benchmark: Benchmark, rows: npt.NDArray[np.intp], grades: npt.NDArray[np.intp] | None = None
) -> Export:
    """Some rows as the export that ``tune_router`` takes; ``grades`` takes those of other rows."""
    of = rows if grades is None else grades
    return Export(
        file=f"{benchmark.name}.csv",
        models=("weak", "strong"),
        is_pair=True,
        prompts=tuple(benchmark.prompts[i] for i in rows),
        grades=np.stack([benchmark.weak[of], benchmark.strong[of]], axis=1),
        usd=None,
        times=None,
        where=tuple(map(str, rows)),
        scale=Scale(0.0, 1.0, "as given"),
        understood=(),
        answer_tokens={},
        answers=tuple({} for _ in rows),
    )
