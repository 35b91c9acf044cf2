"""What ``bench/other_benchmarks.py`` reads: three public layouts, and what it leaves out."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from other_benchmarks import PAIR, alpaca_eval, arena_hard, routerbench


def _json_lines(file: Path, rows: list[dict[str, object]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def arena(tmp_path: Path) -> Path:
    data = tmp_path / "arena" / "data" / "arena-bench-v1"
    questions = [{"question_id": key, "turns": [f"prompt {key}"]} for key in "abcd"]
    _json_lines(data / "question.jsonl", questions)
    ratings = {
        "Mixtral-8x7B-Instruct-v0.1": {"a": 1, "b": 10, "c": None, "d": -1},
        "gpt-4-turbo": {"a": 10, "b": 5.5, "c": 9, "d": 9},
    }
    for name, by_id in ratings.items():
        rows: list[dict[str, object]] = [
            {"question_id": k, "score": score} for k, score in by_id.items()
        ]
        _json_lines(data / "model_judgment" / f"{name}.jsonl", rows)
    return tmp_path / "arena"


def test_ratings_become_scores_and_prompts_without_one_are_left_out(arena: Path) -> None:
    (benchmark,) = arena_hard(arena)
    assert benchmark.prompts == ("prompt a", "prompt b")
    np.testing.assert_allclose(benchmark.weak, [0.0, 1.0])
    np.testing.assert_allclose(benchmark.strong, [1.0, 0.5])


def test_a_judge_prefers_one_answer_or_neither(tmp_path: Path) -> None:
    verdicts = [
        {"instruction": "p", "preference": 1.0},
        {"instruction": "q", "preference": 2.0},
        {"instruction": "r", "preference": 0},
        {"instruction": "p", "preference": 2.0},
    ]
    for judge in ("alpaca_eval_gpt4_turbo_fn", "alpaca_eval_cot_gpt4_turbo_fn"):
        folder = tmp_path / "results" / "Mixtral-8x7B-Instruct-v0.1" / judge
        folder.mkdir(parents=True)
        (folder / "annotations.json").write_text(json.dumps(verdicts), encoding="utf-8")
    for benchmark in alpaca_eval(tmp_path):
        assert benchmark.prompts == ("p", "q", "r")
        np.testing.assert_allclose(benchmark.strong, [1.0, 0.0, 0.5])
        np.testing.assert_allclose(benchmark.weak, [0.0, 1.0, 0.5])


def test_examples_and_instructions_are_no_part_of_a_question(tmp_path: Path) -> None:
    ask = '\nPrint only a single choice  from "A" or "B" without explanation.'
    example = f"Is it so?\nA) yes\nB) no{ask}\nAnswer:\nB\n\n"
    prompts = {
        "arc_challenge": [repr([f"{example}{example}Why is it so?\nA) x\nB) y{ask}\nAnswer:"])],
        "winograde": [
            repr(
                "Please answer with the letter of the correct answer.\n\n"
                f"It is _.\nA) so\nB) no{ask} Answer:\nA\n\n"
                "Please answer with the letter of the correct answer.\n\n"
                f"Was it _?\nA) so\nB) no{ask} Answer:"
            )
        ],
        "mbpp": [repr("Write a function."), repr("Write another.")],
    }
    folder = tmp_path / "datasets" / "routerbench_zs"
    folder.mkdir(parents=True)
    for stem, texts in prompts.items():
        for part in ("train", "test"):
            with (folder / f"{stem}_{part}.csv").open("w", encoding="utf-8", newline="") as text:
                table = csv.writer(text)
                table.writerow(["prompt", PAIR.strong, "mistralai/mixtral-8x7b-chat"])
                for i, prompt in enumerate(texts):
                    table.writerow([prompt, "1.0", "" if i else "0.0"])
    arc, winogrande, mbpp = routerbench(tmp_path)
    assert arc.prompts == ("Why is it so?\nA) x\nB) y",)
    assert winogrande.prompts == ("Was it _?\nA) so\nB) no",)
    assert mbpp.prompts == ("Write a function.",)


def test_the_command_prints_a_row_a_benchmark(arena: Path) -> None:
    command = [sys.executable, "bench/other_benchmarks.py", "--arena-hard", str(arena)]
    root = Path(__file__).parent.parent
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=120)
    assert ran.stdout.splitlines()[-1].startswith("| arena-bench | 2 | ")
    nothing = subprocess.run(command[:2], capture_output=True, text=True, cwd=root, timeout=120)
    assert nothing.returncode == 2
    assert "--arena-hard" in nothing.stderr
