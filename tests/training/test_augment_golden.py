"""Golden labels: what is read out of responses and keys, and what is said of the rest."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_runner import fastroute, refused
from fastroute.errors import InvalidInputError
from fastroute.training.label.extraction import equal_numbers, extract_choice, extract_number
from fastroute.training.label.golden import read_key


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        (" (C) ", "C"),
        ("D.", "D"),
        ("B. Paris", "B"),
        ("(B) Paris", "B"),
        ("**A) Because**\nIt is so.", "A"),
        ("The answer is (C).", "C"),
        ("the correct answer is: **D**", "D"),
        ("Answer: B", "B"),
        ("I first thought the answer is A, but the answer is B.", "B"),
        ("So option C is right.", "C"),
        ("The correct choice would be option D because of that.", "D"),
        ("Therefore \\boxed{C}", "C"),
        ("\\boxed{\\text{E}}", "E"),
        ("The answer is A, but after checking: \\boxed{B}", "B"),
        ("Step 1: think.\nStep 2: more.\nB", "B"),
        ("The answer is A because it fits.", None),  # might be the article: too uncertain
        ("The answer is A. Because it fits.", "A"),
        ("A cat sat on the mat.", None),
        ("I think so", None),
        ("The answer is a long story", None),
        ("Answer: I don't know", None),
        ("", None),
        ("The answer is 42", None),
    ],
)
def test_choices(response: str, letter: str | None) -> None:
    assert extract_choice(response) == letter


@pytest.mark.parametrize(
    ("response", "number"),
    [
        ("so 3 + 4 = <<3+4=7>>7.\n#### 7", 7),
        ("#### $1,234.50", Fraction("1234.5")),
        ("#### 7 apples and 2 pears", 7),
        ("The answer is 42.", 42),
        ("The answer is $18 for 3 of them.", 18),
        ("The final answer: **-5**", -5),
        ("\\boxed{\\frac{3}{4}} of it, or 75", Fraction(3, 4)),
        ("\\boxed{12} of 13", 12),
        ("first 3, then 4, at last 5.", 5),
        ("it is 50% then", 50),
        ("about 1.5e3", 1500),
        ("3/4", Fraction(3, 4)),
        ("\u22123", -3),
        ("one half: .5", Fraction(1, 2)),
        ("#### none, but 8 before", 8),
        ("nothing at all", None),
        ("", None),
        ("...", None),
        ("v2.x", None),
    ],
)
def test_numbers(response: str, number: Fraction | int | None) -> None:
    assert extract_number(response) == number


@given(st.integers(-(10**9), 10**9))
def test_any_whole_number_in_any_writing(n: int) -> None:
    for text in (f"#### {n}", f"#### {n:,}", f"the answer is {n}", f"\\boxed{{{n}}}", f"1 {n}."):
        assert extract_number(text) == n


@given(st.text(max_size=300))
def test_no_text_breaks_extraction(text: str) -> None:
    assert extract_choice(text) in {None, *"ABCDEFGHIJ"}
    extract_number(text)


def test_long_responses_take_no_longer_than_they_should() -> None:
    for text in ("1," * 50_000, "answer is " * 20_000, "((" * 50_000, "\\boxed{" * 20_000):
        extract_number(text)
        extract_choice(text)


def test_equal_numbers() -> None:
    assert equal_numbers(Fraction("0.3333333"), Fraction(1, 3))
    assert not equal_numbers(Fraction("0.333"), Fraction(1, 3))
    assert not equal_numbers(Fraction(0), Fraction(1))


def _key(folder: Path, *rows: object) -> Path:
    (folder / "key.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "key.jsonl"


def test_keys(tmp_path: Path) -> None:
    key = read_key(
        _key(
            tmp_path,
            {"question": "q1", "answer": "some 3 steps\n#### 1,072"},
            {"prompt": " q2 ", "answer": "(b)"},
            {"prompt": "q3", "answer": 2, "choices": ["w", "x", "y"]},
            {"prompt": "q4", "answer": 2},
            {"id": 7, "answer": "3.50"},
        )
    )
    assert {name: entry[:2] for name, entry in key.items()} == {
        ("prompt", "q1"): ("number", 1072),
        ("prompt", "q2"): ("choice", "B"),
        ("prompt", "q3"): ("choice", "C"),
        ("prompt", "q4"): ("number", 2),
        ("id", "7"): ("number", Fraction("3.5")),
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "q", "answer": "Paris, since 987"}, r"line 1: 'answer' is 'Paris, since 987'"),
        ({"prompt": "q"}, "line 1: there is no 'answer'"),
        ({"answer": "A"}, "line 1: there is no 'prompt', 'question' or 'id'"),
        ({"prompt": "q", "answer": 3, "choices": ["x", "y"]}, "where there are 2 choices, from 0"),
    ],
)
def test_keys_that_are_none(row: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=message):
        read_key(_key(tmp_path, row))


def test_a_key_that_contradicts_itself(tmp_path: Path) -> None:
    key = _key(tmp_path, {"prompt": "q", "answer": "A"}, {"prompt": "q", "answer": "B"})
    with pytest.raises(InvalidInputError, match=r"line 2: prompt 'q' has another answer in line 1"):
        read_key(key)


def test_the_command_grades_and_reports(tmp_path: Path) -> None:
    key = _key(tmp_path, *({"prompt": f"q{i}", "answer": "#### 4"} for i in range(3)))
    rows = [
        {"prompt": "q0", "answers": {"m": "it is 4", "n": "the answer is 5"}},
        {"prompt": "q1", "answers": {"m": "no idea", "n": "#### 4"}},
        {"prompt": "q2", "dataset": "mine", "answers": {"n": "#### 4.0"}},
        {"prompt": "q9", "answers": {"m": "4"}},
        {"prompt": "q2", "id": "again", "answers": {}},
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = fastroute(
        "augment", "golden", "--data", data, "--key", key, "--output", tmp_path / "out.jsonl"
    )
    assert ran.status == 0, ran.err
    graded = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["scores"] for row in graded] == [
        {"m": 1.0, "n": 0.0},
        {"m": 0.0, "n": 1.0},
        {"n": 1.0},
    ]
    assert [row["unextractable"] for row in graded] == [[], ["m"], []]
    assert [row["dataset"] for row in graded] == ["data", "data", "mine"]
    assert "m: 50.0% right, 0.0% wrong, 50.0% (1) without a recognizable answer" in ran.out
    assert "no answer found: ...'no idea'" in ran.out
    assert "left out 1 prompts that are not in the key" in ran.err
    assert "left out 1 prompts without answers" in ran.err
    other = tmp_path / "other.jsonl"
    other.write_text('{"prompt": "unknown", "answers": {"m": "4"}}\n')
    assert "1 are not in the key" in refused(
        "augment", "golden", "--data", other, "--key", key, "--output", tmp_path / "no.jsonl"
    )
    assert not (tmp_path / "no.jsonl").exists()


def test_graded_gsm8k_agrees_with_the_published_grades(shared_data: Path, tmp_path: Path) -> None:
    """Where they differ, it is RouteLLM's grading that wants 7 and not 7.00."""
    folder = shared_data / "data" / "routellm_evals" / "routellm" / "evals" / "gsm8k"
    ran = fastroute(
        "augment", "golden", "--data", folder / "gsm8k_responses.csv",
        "--key", folder / "test.jsonl", "--output", tmp_path / "g.jsonl", "--json",
    )  # fmt: skip
    models = ran.json["models"]
    assert models["mistralai/Mixtral-8x7B-Instruct-v0.1"]["right"] / 1319 == pytest.approx(
        0.638, abs=0.01
    )
    assert models["gpt-4-1106-preview"]["right"] / 1319 == pytest.approx(0.857, abs=0.04)


@pytest.mark.parametrize("command", ["golden", "judge"])
def test_the_answers_are_not_written_over(tmp_path: Path, command: str) -> None:
    data, key = tmp_path / "data.jsonl", tmp_path / "key.jsonl"
    data.write_text('{"prompt": "1 + 1?", "answers": {"x": "2", "y": "3"}}\n')
    key.write_text('{"prompt": "1 + 1?", "answer": "2"}\n')
    read = {"--data": data, "--key": key} if command == "golden" else {"--data": data}
    more = () if command == "golden" else ("--model-a", "x", "--model-b", "y", "--judge-model", "j")
    for option, file in read.items():
        before = file.read_text()
        files = [word for pair in read.items() for word in pair]
        said = refused("augment", command, *files, *more, "--output", tmp_path / "." / file.name)
        assert f"the file of {option}, which would be lost" in said
        assert file.read_text() == before
