"""Published results for comparison: RouteLLM's paper, and two commercial routers.

APGR values are from the paper (arXiv 2406.18665 v4); the points in the plane of MT-Bench from the
``benchmarks`` folder of RouteLLM's repository, recomputed from its judgements where a checkout is
given.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fastroute.errors import InvalidInputError
from fastroute.evaluation.benchmarks.routellm import read_json_lines

#: Best published APGR of each of RouteLLM's routers: by benchmark, (router, trained on, APGR).
ROUTELLM_APGR: dict[str, tuple[tuple[str, str, float], ...]] = {
    "mt-bench": (
        ("mf", "arena + judge", 0.802),
        ("sw_ranking", "arena + judge", 0.759),
        ("bert", "arena + judge", 0.751),
        ("causal_llm", "arena + judge", 0.679),
    ),
    "mmlu": (
        ("sw_ranking", "arena + gold", 0.603),
        ("causal_llm", "arena + gold", 0.600),
        ("mf", "arena + gold", 0.597),
        ("bert", "arena + gold", 0.572),
        ("best", "arena alone", 0.524),
    ),
    "gsm8k": (
        ("causal_llm", "arena + judge", 0.622),
        ("sw_ranking", "arena + judge", 0.568),
        ("mf", "arena + judge", 0.565),
        ("bert", "arena + judge", 0.531),
    ),
}


@dataclass(frozen=True, slots=True)
class Point:
    """A router at one threshold.

    Attributes:
        label: the name of the router.
        share: share of strong calls, 0..1.
        quality: mean score.
        recomputed: whether ``quality`` was computed from judgements, not copied.
        note: differences to our figures.
    """

    label: str
    share: float
    quality: float
    recomputed: bool
    note: str


def mt_bench_points(data: str | os.PathLike[str] | None = None) -> tuple[Point, ...]:
    """Unify, Martian and RouteLLM's best router on MT-Bench.

    All three are over the 80 questions before decontamination. ``data`` is a checkout of
    RouteLLM's repository; with its judgements, the scores of Unify and Martian are computed again.
    """
    unify, martian, recomputed = 8.757862, 8.3125, False
    judgements = (
        None if data is None else Path(data) / "benchmarks" / "mt-bench" / "gpt-4_single.jsonl"
    )
    if judgements is not None and judgements.is_file():
        unify, martian = judged_mean(judgements, "unify"), judged_mean(judgements, "martian")
        recomputed = True
    llama = "weak model Llama-2-70B, about half of the calls"
    return (
        Point("RouteLLM", 0.254, 8.757862, False, "80 questions, its best router"),
        Point("Unify", 0.45625, unify, recomputed, "80 questions"),
        Point("Martian", 0.5, martian, recomputed, f"80 questions, {llama}"),
    )


def judged_mean(judgements: str | os.PathLike[str], model: str) -> float:
    """Mean score of ``model`` over its judged turns.

    A score of -1 marks a judgement in which no score could be found; it is left out, as in the
    published mean of Unify. Raises InvalidInputError for malformed lines or an unknown model.
    """
    path = Path(judgements)
    scores = []
    for line, row in read_json_lines(path):
        if row.get("model") != model:
            continue
        score = row.get("score")
        if not isinstance(score, (int, float)) or not (score == -1 or 1 <= score <= 10):
            raise InvalidInputError(f"{path}, line {line}: score is {score!r}, not -1 or 1 to 10")
        if score != -1:
            scores.append(float(score))
    if not scores:
        raise InvalidInputError(f"{path} has no judgement of {model!r}")
    return sum(scores) / len(scores)
