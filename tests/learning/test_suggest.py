"""Which prompts to grade next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.errors import InvalidInputError
from fastroute.learning import read_export, suggest_prompts
from fastroute.learning.tune.suggest import _design
from graded_traffic import make_traffic, write_csv


def _export(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    return write_csv(tmp_path / "export.csv", rows)


def _blank(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "score_weak": "", "score_strong": ""} for row in rows]


def _suggest(file: Path, count: int) -> list[int]:
    export = read_export(file, weak="score_weak", strong="score_strong", need_grades=False)
    return suggest_prompts(export, count)


def test_graded_prompts_and_their_copies_are_not_suggested(tmp_path: Path) -> None:
    rows = make_traffic(40)
    copies = [{**row, "prompt": row["prompt"].upper() + "!"} for row in rows[:20]]
    chosen = _suggest(_export(tmp_path, [*rows[:20], *_blank(copies), *_blank(rows[20:])]), 100)
    assert sorted(chosen) == list(range(40, 60))


def test_of_copies_one_is_suggested(tmp_path: Path) -> None:
    rows = _blank(make_traffic(10))
    assert len(_suggest(_export(tmp_path, rows * 3), 100)) == 10


def test_the_topic_that_is_not_graded_comes_first(tmp_path: Path) -> None:
    rows = make_traffic(200, hard_gap=0.8)
    words = ("integral", "matrix", "theorem", "polynomial", "eigenvalue", "derivative", "proof")
    hard = [any(word in row["prompt"] for word in words) for row in rows]
    graded = [row for row, is_hard in zip(rows, hard, strict=True) if is_hard][:60]
    others = _blank([row for row in rows if row not in graded])
    chosen = _suggest(_export(tmp_path, [*graded, *others]), 20)
    picked = [others[i - 60]["prompt"] for i in chosen]
    assert sum(not any(word in prompt for word in words) for prompt in picked) >= 15


def test_the_choice_is_greedy_by_the_sum_of_variances() -> None:
    """Against the definition, with an inverse of its own for each candidate."""
    rng = np.random.default_rng(0)
    X, known = rng.normal(size=(12, 4)), rng.normal(size=(3, 4))
    chosen: list[int] = []
    for _ in range(5):
        left = [i for i in range(12) if i not in chosen]
        sums = []
        for i in left:
            rows = np.vstack([known, X[[*chosen, i]]])
            sums.append(np.trace(X @ np.linalg.inv(np.eye(4) + rows.T @ rows) @ X.T))
        chosen.append(left[int(np.argmin(sums))])
    assert _design(X, known, X, 5) == chosen


def test_an_export_without_any_grade_or_model_is_taken(tmp_path: Path) -> None:
    rows = [{"prompt": row["prompt"], "answer_a": "x"} for row in make_traffic(30)]
    output = tmp_path / "next.jsonl"
    ran = fastroute("tune", _export(tmp_path, rows), "--suggest", "7", "--output", output)
    assert ran.status == 0, ran.err
    written = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(written) == 7
    assert all(row in rows for row in written)


def test_where_all_is_graded_there_is_nothing_to_suggest(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="every distinct prompt has grades"):
        _suggest(_export(tmp_path, make_traffic(20)), 5)


@pytest.mark.parametrize("output", ["next.csv", "export.csv"])
def test_an_output_of_another_kind_is_refused(tmp_path: Path, output: str) -> None:
    file = _export(tmp_path, _blank(make_traffic(20)))
    assert "--output" in refused("tune", file, "--suggest", "5", "--output", tmp_path / output)


def test_an_output_that_exists_is_kept(tmp_path: Path) -> None:
    file, output = _export(tmp_path, _blank(make_traffic(20))), tmp_path / "next.jsonl"
    output.write_text("mine\n")
    assert "--overwrite" in refused("tune", file, "--suggest", "5", "--output", output)
    assert output.read_text() == "mine\n"
