"""Exports of traffic: layouts, grades, models, costs and times, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastroute.errors import InvalidInputError
from fastroute.learning import Export, Price, read_export
from fastroute.learning.tune.grades import tell_scale
from graded_traffic import write_csv


def _read(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> Export:
    options = {"weak": "mini", "strong": "big", **options}
    return read_export(write_csv(tmp_path / "export.csv", rows), **options)


def _graded(pairs: list[tuple[Any, Any]]) -> list[dict[str, Any]]:
    return [{"prompt": f"question {i}", "mini": w, "big": s} for i, (w, s) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("pairs", "scale", "weak", "strong"),
    [
        ([(0, 1), (1, 1)], (0, 1), [0.0, 1.0], [1.0, 1.0]),
        ([(0.25, 1), (0.5, 0.75)], (0, 1), [0.25, 0.5], [1.0, 0.75]),
        ([(1, 5), (2, 4)], (1, 5), [0.0, 0.25], [1.0, 0.75]),
        ([(1, 10), (4, 9.5)], (1, 10), [0.0, 3 / 9], [1.0, 8.5 / 9]),
        ([(0, 5), (2, 4)], (0, 5), [0.0, 0.4], [1.0, 0.8]),
        ([(0, 100), (50, 80)], (0, 100), [0.0, 0.5], [1.0, 0.8]),
        ([(-1, 1), (0, 1)], (-1, 1), [0.0, 0.5], [1.0, 1.0]),
        ([("down", "up"), ("thumbs_down", "👍🏽")], (0, 1), [0.0, 0.0], [1.0, 1.0]),
        ([("fail", "pass"), ("No", "Yes")], (0, 1), [0.0, 0.0], [1.0, 1.0]),
        ([("true", "false"), ("False", "TRUE")], (0, 1), [1.0, 0.0], [0.0, 1.0]),
    ],
)
def test_the_scale_is_told_from_the_data_and_said(
    tmp_path: Path, pairs: Any, scale: tuple[float, float], weak: Any, strong: Any
) -> None:
    export = _read(tmp_path, _graded(pairs))
    assert (export.scale.low, export.scale.high) == scale
    assert export.weak == pytest.approx(weak)
    assert export.strong == pytest.approx(strong)
    assert any(f"grades: {scale[0]:g} to {scale[1]:g}" in line for line in export.understood)


def test_a_given_scale_is_used() -> None:
    assert tell_scale([2.0, 4.0]).high == 5.0


def test_a_given_scale_replaces_the_one_that_is_told(tmp_path: Path) -> None:
    export = _read(tmp_path, _graded([(1, 4), (2, 3)]), grades="1-7")
    assert export.strong == pytest.approx([0.5, 1 / 3])


@pytest.mark.parametrize("given", ["5", "5-1", "a-b", "", "1-"])
def test_a_scale_that_is_none_is_refused(tmp_path: Path, given: str) -> None:
    with pytest.raises(InvalidInputError, match="is not a scale"):
        _read(tmp_path, _graded([(1, 4)]), grades=given)


def test_a_stray_grade_is_refused_by_its_line_and_does_not_change_the_scale(tmp_path: Path) -> None:
    rows = _graded([(0, 1)] * 150 + [(0, 7)])
    with pytest.raises(InvalidInputError, match="line 152: grades"):
        _read(tmp_path, rows)
    export = _read(tmp_path, rows, skip_bad=True)
    assert (len(export), export.scale.high) == (150, 1.0)


def test_grades_on_no_known_scale_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="from 1 to 1000, which is no known scale"):
        _read(tmp_path, _graded([(1, 1000)]))


def test_missing_grades_stay_missing(tmp_path: Path) -> None:
    export = _read(tmp_path, _graded([(0, 1), ("", 1), (1, ""), ("", "")]))
    assert export.has_both.tolist() == [True, False, False, False]
    assert export.has_any.tolist() == [True, True, True, False]
    assert any("with both grades: 1, with one: 2" in line for line in export.understood)


def test_malformed_rows_are_named_by_their_lines(tmp_path: Path) -> None:
    rows = [*_graded([(0, 1)]), {"prompt": "", "mini": 0, "big": 1}, *_graded([("maybe", 1)])]
    with pytest.raises(InvalidInputError, match=r"2 malformed rows \(line 3.*line 4.*'maybe'"):
        _read(tmp_path, rows)


def test_two_models_are_told_by_their_mean_grade(tmp_path: Path) -> None:
    export = _read(tmp_path, _graded([(1, 0), (1, 1)]), weak=None, strong=None)
    assert (export.pair.strong, export.pair.weak) == ("mini", "big")


def test_an_unknown_model_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'giant'; the columns are prompt, mini, big"):
        _read(tmp_path, _graded([(0, 1)]), strong="giant")


def test_of_more_models_two_must_be_named(tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}", "a": 0, "b": 1, "c": 1} for i in range(3)]
    with pytest.raises(InvalidInputError, match="name two of them"):
        _read(tmp_path, rows, weak=None, strong=None)


def test_a_row_an_answer_is_put_together_by_prompt(tmp_path: Path) -> None:
    rows = [
        {"prompt": "one", "model": "mini", "thumb": "down", "created_at": "2026-01-02T00:00:00Z"},
        {"prompt": "one", "model": "big", "thumb": "up", "created_at": "2026-01-02T00:00:01Z"},
        {"prompt": "two", "model": "mini", "thumb": "up", "created_at": "2026-01-01T00:00:00Z"},
        {"prompt": " one", "model": "mini", "thumb": "up", "created_at": "2026-01-03T00:00:00Z"},
    ]
    export = _read(tmp_path, rows)
    assert export.prompts == ("two", "one")  # by time
    assert export.weak.tolist() == [1.0, 0.5]
    assert np.isnan(export.strong[0])
    assert export.strong[1] == 1.0


def test_battles_are_grades_of_winner_and_loser(tmp_path: Path) -> None:
    path = tmp_path / "battles.jsonl"
    rows = [("mini", "big", "model_b"), ("big", "mini", "tie"), ("big", "mini", "model_b")]
    path.write_text("".join(
        json.dumps({"prompt": f"question {i}", "model_a": a, "model_b": b, "winner": w}) + "\n"
        for i, (a, b, w) in enumerate(rows)
    ))  # fmt: skip
    export = read_export(path, weak="mini", strong="big")
    assert export.weak.tolist() == [0.0, 0.5, 1.0]
    assert export.strong.tolist() == [1.0, 0.5, 0.0]


def test_scores_as_objects_and_their_costs(tmp_path: Path) -> None:
    path = tmp_path / "graded.jsonl"
    row = {"prompt": "a", "scores": {"mini": 0, "big": 1}, "costs": {"mini": 0.1, "big": 2.0}}
    path.write_text(json.dumps(row) + "\n")
    export = read_export(path, weak="mini", strong="big")
    assert export.cost_weak is not None
    assert export.cost_strong is not None
    assert (export.cost_weak.tolist(), export.cost_strong.tolist()) == ([0.1], [2.0])


def test_parquet_with_messages(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    table = pyarrow.table({"messages": [messages], "mini": [3], "big": [5]})
    parquet.write_table(table, tmp_path / "export.parquet")
    export = read_export(tmp_path / "export.parquet", weak="mini", strong="big")
    assert export.prompts == ("hello",)


def test_another_column_of_prompts(tmp_path: Path) -> None:
    rows = [{"ask": "hello", "mini": 0, "big": 1}]
    with pytest.raises(InvalidInputError, match="--prompt-column"):
        _read(tmp_path, rows)
    assert _read(tmp_path, rows, prompt_column="ask").prompts == ("hello",)


_PRICES = {"score_mini": Price(1.0, 10.0), "score_big": Price(4.0, 40.0)}


def _dollars(tmp_path: Path, extra: dict[str, Any], **options: Any) -> tuple[list[Any], str]:
    row = {"prompt": "x" * 400, "score_mini": 0, "score_big": 1, **extra}
    export = _read(
        tmp_path, [row], weak="score_mini", strong="score_big",
        **{"prices": _PRICES, **options},
    )  # fmt: skip
    assert export.cost_weak is not None
    assert export.cost_strong is not None
    return [export.cost_weak[0], export.cost_strong[0]], "\n".join(export.understood)


def test_costs_of_tokens_in_the_export(tmp_path: Path) -> None:
    tokens = {"input_tokens": 1000, "output_tokens_mini": 100, "big_completion_tokens": 200}
    found, said = _dollars(tmp_path, tokens)
    assert found == pytest.approx([2e-3, 12e-3])
    assert "input tokens in the export, output tokens in the export" in said


def test_costs_of_answers_in_the_export(tmp_path: Path) -> None:
    found, said = _dollars(tmp_path, {"answer_mini": "a" * 40, "response_big": "b" * 80})
    assert found == pytest.approx([(100 * 1 + 10 * 10) / 1e6, (100 * 4 + 20 * 40) / 1e6])
    assert "estimated from the answers' characters" in said


def test_costs_without_any_answer_are_assumed_and_said(tmp_path: Path) -> None:
    found, said = _dollars(tmp_path, {}, output_tokens=50)
    assert found == pytest.approx([(100 + 500) / 1e6, (400 + 2000) / 1e6])
    assert "ASSUMED to be 50 tokens an answer" in said


def test_dollars_in_the_export_go_first(tmp_path: Path) -> None:
    found, _ = _dollars(tmp_path, {"cost_mini": 0.5, "cost_big": 7})
    assert found == [0.5, 7.0]


def test_a_price_of_another_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'gpt' is neither 'mini' nor 'big'"):
        _read(tmp_path, _graded([(0, 1)]), prices={"gpt": Price(1.0, 2.0)})


def test_without_price_there_are_no_costs(tmp_path: Path) -> None:
    export = _read(tmp_path, _graded([(0, 1)]))
    assert export.cost_weak is None
    assert any("costs: not known" in line for line in export.understood)


def test_a_time_that_is_none_is_said_and_not_used(tmp_path: Path) -> None:
    rows = [{**row, "date": day} for row, day in
            zip(_graded([(0, 1)] * 2), ["2026-01-01", "soon"], strict=True)]  # fmt: skip
    export = _read(tmp_path, rows)
    assert export.times is None
    assert any("is not used, as 1 rows have no valid time" in line for line in export.understood)


@pytest.mark.parametrize("unit", [1, 1000])
def test_times_in_seconds_and_milliseconds(tmp_path: Path, unit: int) -> None:
    late, early = _graded([(0, 1), (1, 1)])
    rows = [{**late, "ts": 1_767_225_700 * unit}, {**early, "ts": 1_767_225_600 * unit}]
    export = _read(tmp_path, rows)
    assert export.times is not None
    assert export.times.tolist() == [1_767_225_600.0, 1_767_225_700.0]
    assert export.weak.tolist() == [1.0, 0.0]
