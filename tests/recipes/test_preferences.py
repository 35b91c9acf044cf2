"""Reading preference files: what is kept, and which line is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from default_router.preferences import (
    FILES,
    JUDGED,
    GradedResult,
    read_judged,
    read_preferences,
)
from fastroute.errors import InvalidInputError
from fastroute.training.folds import fold_numbers
from fastroute.training.labels import difficulty, halves, score_table, weak_failure
from training_data import write_jsonl

FILE = FILES[0]
GOOD = {"dataset": "d", "prompt": "2 + 2?", "scores": {"a": 1, "b": 0.5}}


def test_rows_are_read_in_their_order(tmp_path: Path) -> None:
    write_jsonl(tmp_path / FILE.name, [GOOD, {**GOOD, "prompt": "line\u2028separator"}])
    rows = read_preferences(tmp_path, [FILE])
    assert rows == [
        GradedResult(FILE.name, "d", "2 + 2?", {"a": 1.0, "b": 0.5}),
        GradedResult(FILE.name, "d", "line\u2028separator", {"a": 1.0, "b": 0.5}),
    ]
    assert rows[0].group == "difficulty_small_models/d"


def test_what_is_not_english_is_left_out(tmp_path: Path) -> None:
    chinese = {**GOOD, "prompt": "下列选项中正确的是 A or B"}
    dataset = {**GOOD, "dataset": "agieval_logiqa_zh"}
    english = {**GOOD, "dataset": "agieval_gaokao_english"}
    write_jsonl(tmp_path / FILE.name, [chinese, dataset, english])
    assert [row.dataset for row in read_preferences(tmp_path, [FILE])] == ["agieval_gaokao_english"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({**GOOD, "scores": {"a": 1.5, "b": 0}}, "score of 'a' is 1.5, outside 0..1"),
        ({**GOOD, "scores": {"a": float("nan"), "b": 0}}, "'a' is nan, not a finite number"),
        ({**GOOD, "scores": {"a": 1}}, "1 models, where at least 2 are compared"),
        ({**GOOD, "scores": {"a": "x", "b": 0}}, "'a' is 'x', not a number"),
        ({**GOOD, "scores": [1, 2]}, "'scores' is not an object of numbers by model"),
        ({**GOOD, "prompt": 3}, "'prompt' is 3, not a text"),
        ({"prompt": "x"}, "has neither a battle nor any score"),
        ([1], "not a JSON object"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, bad: Any, message: str) -> None:
    write_jsonl(tmp_path / FILE.name, [GOOD, GOOD, bad])
    with pytest.raises(InvalidInputError, match="line 3: ") as caught:
        read_preferences(tmp_path, [FILE])
    assert message in str(caught.value)
    assert FILE.name in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="can't be read"):
        read_preferences(tmp_path, [FILE])
    path = write_jsonl(tmp_path / FILE.name, [GOOD] * 500)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInputError, match="can't be read"):
        read_preferences(tmp_path, [FILE])
    path.write_text("not gzip")
    with pytest.raises(InvalidInputError, match="can't be read"):
        read_preferences(tmp_path, [FILE])


def test_a_judged_conversation_is_cut_to_what_was_said_last(tmp_path: Path) -> None:
    talk = "### Human: one ### Assistant: two ### Human: And what of three? ### Assistant:"
    russian = "### Human: Как дела, друг мой? ### Assistant:"
    battles = [["a", "b", 1], ["b", "a", 0.5]]
    write_jsonl(
        tmp_path / JUDGED.name,
        [{"prompt": talk, "battles": battles}, {"prompt": russian, "battles": battles}],
    )
    (row,) = read_judged(tmp_path)
    assert row.prompt == "And what of three?"
    assert row.battles == (("a", "b", 1.0), ("b", "a", 0.5))
    write_jsonl(tmp_path / JUDGED.name, [{"prompt": talk, "battles": [["a", "b", 0.7]]}])
    with pytest.raises(InvalidInputError, match=r"line 1: .*verdict 0.7 on 'a' and 'b'"):
        read_judged(tmp_path)


@given(st.text(max_size=40), st.integers(0, 5))
def test_folds_do_not_see_case_spacing_or_punctuation(text: str, seed: int) -> None:
    one, two = fold_numbers([text, f"  {text}?! "], 5, seed)
    assert one == two
    assert 0 <= one < 5


def test_folds_are_even_and_another_seed_gives_others() -> None:
    texts = [f"prompt {i}" for i in range(5000)]
    counts = np.bincount(fold_numbers(texts, 5), minlength=5)
    assert counts.min() > 900
    assert (fold_numbers(texts, 5) != fold_numbers(texts, 5, seed=1)).mean() > 0.7


# Labels


def _rows(scores: list[dict[str, float]], dataset: str = "d") -> list[GradedResult]:
    return [GradedResult("f.jsonl.gz", dataset, f"p{i}", row) for i, row in enumerate(scores)]


def test_labels_are_their_formulas() -> None:
    rows = _rows([{"a": 1, "b": 1, "c": 0, "d": 0}, {"a": 1, "b": 0, "c": 0, "d": 1}])
    np.testing.assert_allclose(difficulty(rows), [0.5, 0.5])
    # By mean score a, then b and d (a tie, by name), then c: halves a, b against c, d.
    np.testing.assert_allclose(halves(rows), [0.5 + 1.0 / 2, 0.5])


def test_weak_failure_is_of_the_weaker_quarter_within_each_dataset() -> None:
    # Of five models the weakest alone; of eight the weaker two, here all that fail.
    five = [
        {"a": 1.0, "b": 1, "c": 1, "d": 1, "e": 0.25},
        {"a": 1.0, "b": 1, "c": 1, "d": 0, "e": 0},
    ]
    eight = [{f"m{i}": float(i >= 2) for i in range(8)}]
    np.testing.assert_allclose(weak_failure(_rows(five) + _rows(eight, "other")), [0.75, 1.0, 1.0])


def test_halves_are_taken_within_each_dataset() -> None:
    rows = _rows([{"a": 1, "b": 0}]) + _rows([{"a": 0, "b": 1}], "other")
    np.testing.assert_allclose(halves(rows), [1.0, 1.0])


def test_a_prompt_is_not_easy_because_a_weak_model_skipped_it() -> None:
    full = [{"good": 1.0, "weak": 0.0}] * 9
    table = score_table(_rows([*full, {"good": 1.0}]))
    assert table[9].tolist() == [1.0, 0.0]
    assert np.ptp(difficulty(_rows([*full, {"good": 1.0}]))) == 0.0
