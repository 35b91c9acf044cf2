"""Verdicts of a person in the terminal, and of a judge, on two answers."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from answered import MODELS, label, verdicts, write
from cli_runner import fastroute, refused
from fakes import openai_judge
from fastroute.errors import InvalidInputError
from fastroute.learning import GradeFile, read_comparisons, read_export
from graded_traffic import make_traffic, write_csv


def test_answers_are_shown_without_names_in_either_order(tmp_path: Path) -> None:
    ran = label(tmp_path, "3\n" * 30, count=30)
    assert ran.status == 0, ran.err
    shown = [line for line in ran.out.splitlines() if " says " in line]
    firsts = [line.split()[0] for line in shown[::2]]
    assert 5 < firsts.count("mini") < 25
    assert "score_" not in ran.out.replace(str(tmp_path), "")


def test_verdicts_say_who_was_shown_where_and_can_be_tuned_on(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    fastroute(
        "label",
        write(tmp_path),
        *MODELS,
        "--output",
        output,
        stdin="1\n2\n3\n1\n",
    )
    written = verdicts(output)
    assert [row["winner"] for row in written] == ["model_a", "model_b", "tie", "model_a"]
    by_prompt = {c.prompt: c for c in read_comparisons(write(tmp_path), weak="score_mini",
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
    first = fastroute("label", write(tmp_path), *MODELS, "--output", output, stdin="1\nq\n")
    assert "1 of 6 pairs have a verdict" in first.out
    again = fastroute("label", write(tmp_path), *MODELS, "--output", output, stdin="2\ns\n3\n")
    assert "=== 2 of 6" in again.out
    assert "question 0" not in again.out
    assert [row["prompt"] for row in verdicts(output)] == [f"question {i}" for i in (0, 1, 3)]


def test_other_keys_are_asked_again(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    ran = fastroute("label", write(tmp_path, 1), *MODELS, "--output", output, stdin="x\n\n2\n")
    assert ran.out.count("1 the first is better") == 3
    assert verdicts(output)[0]["winner"] == "model_b"


@pytest.mark.parametrize("early", [True, False])
def test_one_key_on_a_terminal_is_saved_at_once(tmp_path: Path, *, early: bool) -> None:
    output = tmp_path / "v.jsonl"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fastroute", "label", str(write(tmp_path)), *MODELS,
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
            assert len(verdicts(output)) >= count
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(ours)


def test_an_unfinished_line_of_a_crash_is_cut_off(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    label(tmp_path, "1\n")
    whole = output.read_text()
    output.write_text(whole + '{"prompt": "questi')
    with GradeFile(output) as grades:
        assert len(grades) == 1
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
        "label",
        write_csv(tmp_path / "export.csv", make_traffic(5)),
        *MODELS,
        "--output",
        tmp_path / "v",
    )
    assert "answer_score_mini" in said


def test_each_model_is_first_in_half_of_any_first_pairs(tmp_path: Path) -> None:
    shown = read_comparisons(write(tmp_path, 50), weak="score_mini", strong="score_big")
    first = [comparison.model_a == "score_big" for comparison in shown]
    assert all(abs(2 * sum(first[:n]) - n) <= 4 for n in range(51))
    assert sum(first[:48]) == 24
    assert first[0:48:2] != first[1:48:2]  # but not in turns
    assert len({tuple(first[i : i + 4]) for i in range(0, 48, 4)}) > 3


def test_undo_takes_back_verdicts_and_skips(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    keys = "1\n2\ns\nu\nu\nu\nu\n3\nq\n"  # 1, 2, skip; undo of all three and of nothing
    ran = fastroute("label", write(tmp_path), *MODELS, "--output", output, stdin=keys)
    assert ran.status == 0, ran.err
    numbers = [line.split()[1] for line in ran.out.splitlines() if line.startswith("===")]
    assert numbers == ["1", "2", "3", "4", "3", "2", "1", "1", "2"]
    assert [(row["prompt"], row["winner"]) for row in verdicts(output)] == [("question 0", "tie")]


def test_undo_reaches_back_over_a_restart(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    fastroute("label", write(tmp_path), *MODELS, "--output", output, stdin="1\n2\n")
    fastroute("label", write(tmp_path), *MODELS, "--output", output, stdin="u\n3\n")
    assert [row["winner"] for row in verdicts(output)] == ["model_a", "tie"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "v.jsonl"
    with GradeFile(output):
        said = refused("label", write(tmp_path), *MODELS, "--output", output)
    assert "in use by another process" in said


def test_only_the_suggested_prompts_are_shown(tmp_path: Path) -> None:
    file = write(tmp_path, 30)
    next_file = tmp_path / "next.jsonl"
    fastroute("tune", file, *MODELS, "--suggest", "3", "--output", next_file)
    ran = label(tmp_path, "1\n1\n1\n1\n", "--suggest", "3", count=30)
    assert ran.status == 0, ran.err
    suggested = [row["prompt"] for row in verdicts(next_file)]
    assert [row["prompt"] for row in verdicts(tmp_path / "v.jsonl")] == suggested


# The judge


def _judged(tmp_path: Path, base_url: str, *more: str) -> tuple[str | Path, ...]:
    """The command; of all prompts but the first, the longer answer is mini's."""
    traffic = make_traffic(20)
    rows = [
        {**row, "score_weak": "", "score_strong": "", "answer_weak": "long answer " * (1 + i),
         "answer_strong": "answer" * 3}
        for i, row in enumerate(traffic)
    ]  # fmt: skip
    return ("label", write_csv(tmp_path / "export.csv", rows), "--weak", "score_weak", "--strong",
            "score_strong", "--output", tmp_path / "v.jsonl", "--judge-model", "judge",
            "--judge-base-url", base_url, "--judge-price", "1", "2", *more)  # fmt: skip


def test_a_judge_grades_what_is_suggested_and_tune_reads_it(tmp_path: Path) -> None:
    with openai_judge.start() as server:
        command = _judged(tmp_path, server.base_url, "--suggest", "8")
        ran = fastroute(*command)
        assert ran.status == 2
        assert ran.err.splitlines()[1].endswith("add --yes to accept the cost")
        assert server.requests() == []
        ran = fastroute(*command, "--yes")
        assert ran.status == 0, ran.err
        assert len(server.requests()) == 16  # both orders
        assert "at most about $0." in ran.err
        assert "8 of 8 pairs have a verdict" in ran.out
        again = fastroute(*command, "--yes")
        assert again.status == 0, again.err
        assert len(server.requests()) == 16  # nothing is paid twice
    rows = verdicts(tmp_path / "v.jsonl")
    assert {row["judge"] for row in rows} == {"judge"}
    export = read_export(tmp_path / "v.jsonl", weak="score_weak", strong="score_strong")
    first = make_traffic(20)[0]["prompt"]
    expected = [1.0 if prompt == first else 0.0 for prompt in export.prompts]
    assert export.strong.tolist() == expected
    assert len(Counter(row["model_a"] for row in rows)) == 2


def test_the_judge_is_not_asked_about_what_a_person_graded(tmp_path: Path) -> None:
    with openai_judge.start() as server:
        command = _judged(tmp_path, server.base_url, "--yes")
        fastroute(*command[:8], stdin="3\n3\n3\n")
        ran = fastroute(*command)
        assert ran.status == 0, ran.err
        assert len(server.requests()) == 2 * 17
    rows = verdicts(tmp_path / "v.jsonl")
    assert [row.get("judge") for row in rows] == [None] * 3 + ["judge"] * 17


def test_a_page_and_a_judge_are_two_commands(tmp_path: Path) -> None:
    said = refused(*_judged(tmp_path, "http://127.0.0.1:9", "--page"))
    assert "--page" in said
