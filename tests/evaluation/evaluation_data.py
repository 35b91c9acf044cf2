"""Small evaluation folders in RouteLLM's layout, and where the real one is."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

STRONG = "gpt-4-1106-preview"
WEAK = "mistralai/Mixtral-8x7B-Instruct-v0.1"


def real_evals() -> Path:
    """RouteLLM's published results, or skip."""
    here = Path(__file__).resolve().parents[2]
    shared = Path(os.environ.get("FASTROUTE_DATA", here.parent / "shared"))
    folder = shared / "data" / "routellm_evals"
    if not folder.is_dir():
        pytest.skip(f"no {folder}; set FASTROUTE_DATA to the folder that holds data/")
    return folder


def write_json_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_results(path: Path, rows: list[tuple[str, bool, bool]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", WEAK, STRONG])
        writer.writerows(rows)


def small_evals(root: Path, seed: int = 0) -> Path:
    """A checkout-like folder: 60 MMLU, 40 GSM8K and 12 MT-Bench questions, some contaminated."""
    rng = np.random.default_rng(seed)
    evals = root / "routellm" / "evals"
    for domain in ("algebra", "botany"):
        rows = _results(rng, f"{domain} question", 30)
        write_results(evals / "mmlu" / "responses" / f"mmlu_{domain}.csv", rows)
    write_json_lines(
        evals / "mmlu" / "contaminated_prompts.jsonl", [{"eval_prompt": "botany question 3????"}]
    )
    write_results(evals / "gsm8k" / "gsm8k_responses.csv", _results(rng, "sum", 40))
    write_json_lines(
        evals / "gsm8k" / "contaminated_prompts.jsonl",
        [{"eval_prompt": "sum 7" + "?" * 8}, {"eval_prompt": "not in the benchmark"}],
    )
    questions, judgements = [], []
    for i in range(12):
        question_id = 81 + i
        turns = [f"Write, {i}" + "." * i, f"Now shorter, {i}"]
        questions.append({"question_id": question_id, "category": "writing", "turns": turns})
        for model, base in ((WEAK, 7), (STRONG, 9)):
            judgements += [
                {
                    "question_id": question_id,
                    "model": model,
                    "turn": turn,
                    "score": int(min(10, base + rng.integers(-1, 2))),
                }
                for turn in (2, 1)
            ]
    write_json_lines(evals / "mt_bench" / "question.jsonl", questions)
    write_json_lines(evals / "mt_bench" / "judgements.jsonl", judgements)
    write_json_lines(
        evals / "mt_bench" / "contaminated_prompts.jsonl",
        [{"eval_prompt": "Write, 0"}, {"eval_prompt": "Now shorter, 5"}],
    )
    return root


def _results(rng: np.random.Generator, stem: str, n: int) -> list[tuple[str, bool, bool]]:
    return [
        (f"{stem} {i}" + "?" * (1 + i % 11), bool(rng.random() < 0.5), bool(rng.random() < 0.9))
        for i in range(n)
    ]
