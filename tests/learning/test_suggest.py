"""Which prompts to grade next, and a person's verdicts on them."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute, refused
from fastroute.errors import InvalidInputError
from fastroute.learning import GradeFile, read_comparisons, read_export, suggest_prompts
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


def _answered(tmp_path: Path, count: int = 6) -> Path:
    rows = [
        {"prompt": f"question {i}", "answer_mini": f"mini says {i}", "answer_big": f"big says {i}"}
        for i in range(count)
    ]
    return _export(tmp_path, rows)


_MODELS = ("--weak", "score_mini", "--strong", "score_big")


def _verdicts(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_answers_are_shown_without_names_in_either_order(tmp_path: Path) -> None:
    ran = fastroute("label", _answered(tmp_path, 30), *_MODELS, "--output", tmp_path / "v.jsonl",
                    stdin="3\n" * 30)  # fmt: skip
    assert ran.status == 0, ran.err
    shown = [line for line in ran.out.splitlines() if " says " in line]
    firsts = [line.split()[0] for line in shown[::2]]
    assert 5 < firsts.count("mini") < 25
    assert "score_" not in ran.out.replace(str(tmp_path), "")


def test_verdicts_say_who_was_shown_where_and_can_be_tuned_on(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    fastroute("label", _answered(tmp_path), *_MODELS, "--output", output, stdin="1\n2\n3\n1\n")
    written = _verdicts(output)
    assert [row["winner"] for row in written] == ["model_a", "model_b", "tie", "model_a"]
    by_prompt = {c.prompt: c for c in read_comparisons(_answered(tmp_path), weak="score_mini",
                                                       strong="score_big")}  # fmt: skip
    for row in written:
        comparison = by_prompt[row["prompt"]]
        assert (row["model_a"], row["model_b"]) == (comparison.model_a, comparison.model_b)
        name = comparison.model_a.removeprefix("score_")
        assert comparison.answer_a.startswith(f"{name} says")
    export = read_export(output, weak="score_mini", strong="score_big")
    expected = [
        0.5 if row["winner"] == "tie" else float(row[row["winner"]] == "score_big")
        for row in written
    ]
    assert export.strong.tolist() == expected


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    first = fastroute("label", _answered(tmp_path), *_MODELS, "--output", output, stdin="1\nq\n")
    assert "1 verdicts, 5 left" in first.out
    again = fastroute("label", _answered(tmp_path), *_MODELS, "--output", output, stdin="2\ns\n3\n")
    assert "=== 2 of 6" in again.out
    assert "question 0" not in again.out
    assert [row["prompt"] for row in _verdicts(output)] == [f"question {i}" for i in (0, 1, 3)]


def test_other_keys_are_asked_again(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    ran = fastroute("label", _answered(tmp_path, 1), *_MODELS, "--output", output, stdin="x\n\n2\n")
    assert ran.out.count("1 the first is better") == 3
    assert _verdicts(output)[0]["winner"] == "model_b"


@pytest.mark.parametrize("early", [True, False])
def test_one_key_on_a_terminal_is_saved_at_once(tmp_path: Path, *, early: bool) -> None:
    output = tmp_path / "v.jsonl"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastroute", "label", str(_answered(tmp_path)), *_MODELS,
         "--output", str(output)],
        stdin=theirs, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(theirs)
    assert process.stdout is not None
    try:
        if early:  # before it reads keys at all
            os.write(ours, b"11")
        for count in (1, 2):
            while "1 the first is better" not in process.stdout.readline():
                assert process.poll() is None
            if not early:
                os.write(ours, b"1")  # no line end
            while "=== " not in process.stdout.readline():  # the next one is shown
                assert process.poll() is None
            assert len(_verdicts(output)) >= count
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(ours)


def test_an_unfinished_line_of_a_crash_is_cut_off(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    fastroute("label", _answered(tmp_path), *_MODELS, "--output", output, stdin="1\n")
    whole = output.read_text()
    output.write_text(whole + '{"prompt": "questi')
    assert len(GradeFile(output)) == 1
    assert output.read_text() == whole


@pytest.mark.parametrize("content", ['{"a": 1}\n', "plain text", "[1]\n"])
def test_another_file_is_not_added_to(tmp_path: Path, content: str) -> None:
    output = tmp_path / "v.jsonl"
    output.write_text(content)
    with pytest.raises(InvalidInputError, match="verdict"):
        GradeFile(output)
    assert output.read_text() == content


def test_answers_as_an_object(tmp_path: Path) -> None:
    file = tmp_path / "e.jsonl"
    file.write_text(json.dumps({"prompt": "p", "answers": {"a": "one", "b": "two"}}) + "\n")
    (found,) = read_comparisons(file, weak="a", strong="b")
    assert {found.model_a: found.answer_a, found.model_b: found.answer_b} == {
        "a": "one",
        "b": "two",
    }


def test_without_answers_it_says_what_is_needed(tmp_path: Path) -> None:
    said = refused(
        "label", _export(tmp_path, make_traffic(5)), *_MODELS, "--output", tmp_path / "v"
    )
    assert "answer_score_mini" in said
