"""Exports of traffic: layouts, grades, models, costs and times, and what is said of them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_runner import fastroute
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
    assert export.has_all.tolist() == [True, False, False, False]
    assert export.has_any.tolist() == [True, True, True, False]
    assert any("with both grades: 1, with one: 2" in line for line in export.understood)


def test_malformed_rows_are_named_by_their_lines(tmp_path: Path) -> None:
    rows = [*_graded([(0, 1)]), {"prompt": "", "mini": 0, "big": 1}, *_graded([("maybe", 1)])]
    with pytest.raises(InvalidInputError, match=r"2 malformed rows \(line 3.*line 4.*'maybe'"):
        _read(tmp_path, rows)


def test_a_file_without_a_readable_row_is_named_by_its_line(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"prompt,a,b\nh\xe9llo,1,0\n")
    with pytest.raises(InvalidInputError, match=r"1 malformed row \(line 2: not UTF-8 text\)"):
        read_export(tmp_path / "latin.csv")


def test_two_models_are_told_by_their_mean_grade(tmp_path: Path) -> None:
    export = _read(tmp_path, _graded([(1, 0), (1, 1)]), weak=None, strong=None)
    assert (export.pair.strong, export.pair.weak) == ("mini", "big")


def test_an_unknown_model_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="'giant'; the columns are prompt, mini, big"):
        _read(tmp_path, _graded([(0, 1)]), strong="giant")


_THREE = [{"prompt": f"p{i}", "a": 0, "b": 1, "c": i % 2} for i in range(3)]


def test_of_more_models_one_name_is_not_a_pair(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="name two of them"):
        _read(tmp_path, _THREE, weak="a", strong=None)


def test_more_than_two_models_are_chosen_among(tmp_path: Path) -> None:
    export = _read(tmp_path, _THREE, weak=None, strong=None)
    assert (export.models, export.is_pair) == (("a", "b", "c"), False)
    assert export.grades.tolist() == [[0, 1, 0], [0, 1, 1], [0, 1, 0]]
    assert "rows with all grades: 3, with some: 0" in "\n".join(export.understood)
    with pytest.raises(InvalidInputError, match="has 3 models; name two"):
        _ = export.pair
    two = _read(tmp_path, _THREE, weak=None, strong=None, models=("c", "a"))
    assert (two.models, two.is_pair) == (("a", "c"), True)


def test_helpers_stand_behind_the_pair(tmp_path: Path) -> None:
    export = _read(tmp_path, _THREE, weak="a", strong="b", helpers=["c"])
    assert (export.models, export.pair.strong) == (("a", "b", "c"), "b")
    with pytest.raises(InvalidInputError, match="must be different models"):
        _read(tmp_path, _THREE, weak="a", strong="b", helpers=["a"])


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


def test_several_files_are_put_together(tmp_path: Path) -> None:
    first = write_csv(tmp_path / "a.csv", _graded([(0, 1), (1, 1)]))
    second = tmp_path / "b.jsonl"
    rows = [{"prompt": "question 7", "model": m, "score": s} for m, s in (("mini", 0), ("big", 1))]
    second.write_text("".join(json.dumps(row) + "\n" for row in rows))
    export = read_export([first, second], weak="mini", strong="big")
    assert export.prompts == ("question 0", "question 1", "question 7")
    assert export.where == (f"{first}, line 2", f"{first}, line 3", f"{second}, line 1")
    assert export.strong.tolist() == [1.0, 1.0, 1.0]
    bad = write_csv(tmp_path / "c.csv", _graded([("maybe", 1)]))
    with pytest.raises(InvalidInputError, match=r"c\.csv, line 2: .*'maybe'"):
        read_export([first, bad], weak="mini", strong="big")


def test_grades_of_one_prompt_in_two_files_are_put_together(tmp_path: Path) -> None:
    files = [
        write_csv(tmp_path / f"{name}.csv", [{"prompt": "p", name: grade, f"cost_{name}": grade}])
        for name, grade in (("mini", 0.25), ("big", 0.75))
    ]
    export = read_export(files, weak="mini", strong="big")
    assert (export.prompts, export.weak.tolist(), export.strong.tolist()) == (
        ("p",), [0.25], [0.75],
    )  # fmt: skip
    assert export.usd is not None
    assert export.usd.tolist() == [[0.25, 0.75]]
    again = read_export([*files, files[1]], weak="mini", strong="big")
    assert len(again) == 2  # a second grade of the same model is not lost


@pytest.fixture
def database(tmp_path: Path) -> Path:
    pytest.importorskip("sqlalchemy")
    file = tmp_path / "traffic.db"
    with sqlite3.connect(file) as connection:
        connection.execute("create table graded (prompt text, mini real, big real, day text)")
        connection.execute("create table other (prompt text)")
        connection.executemany(
            "insert into graded values (?, ?, ?, ?)",
            [(f"question {i}", i % 2, 1, f"2026-01-0{9 - i}") for i in range(4)],
        )
    connection.close()
    return file


def test_a_table_of_a_database_is_an_export(database: Path) -> None:
    url = f"sqlite:///{database}"
    export = read_export(f"{url}?table=graded", weak="mini", strong="big", time_column="day")
    assert export.prompts == ("question 3", "question 2", "question 1", "question 0")
    assert export.weak.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert export.where[0] == "row 4"
    query = "select prompt, mini as a, big as b from graded where mini = 0"
    asked = read_export(url, weak="a", strong="b", query=query)
    assert asked.prompts == ("question 0", "question 2")


def test_a_database_that_cannot_be_read_is_refused(database: Path) -> None:
    url = f"sqlite:///{database}"
    with pytest.raises(InvalidInputError, match=r"table=NAME.*the tables are graded, other"):
        read_export(url)
    with pytest.raises(InvalidInputError, match="can't be read: missing"):
        read_export(f"{url}?table=missing")
    with pytest.raises(InvalidInputError, match="can't be read: near"):
        read_export(url, query="selekt 1")
    with pytest.raises(InvalidInputError, match="there is no such file"):
        read_export(f"{url}.missing?table=graded")
    assert not Path(f"{database}.missing").exists()
    with pytest.raises(InvalidInputError, match="is not a database's URL"):
        read_export("my sql://host")
    with pytest.raises(InvalidInputError, match=r"postgresql\+psycopg://me:\*\*\*@") as caught:
        read_export("postgresql+psycopg://me:secret@127.0.0.1:1/db?table=graded")
    assert "secret" not in str(caught.value)
    with pytest.raises(InvalidInputError, match="query is for a database"):
        read_export(database.with_suffix(".csv"), query="select 1")


def test_the_command_line_takes_a_database_and_a_file(database: Path, tmp_path: Path) -> None:
    more = [*_graded([("", "")]), {"prompt": "Will it rain in Paris?", "mini": "", "big": ""}]
    file = write_csv(tmp_path / "more.csv", more)
    sources = (f"sqlite:///{database}?table=graded", file)
    names = ("--weak", "mini", "--strong", "big")
    ran = fastroute("tune", *sources, *names, "--dry-run")
    assert ran.status == 0, ran.err
    assert f"sqlite:///{database}: 4 rows" in ran.out
    assert "together: 5 rows" in ran.out
    output = tmp_path / "next.jsonl"
    ran = fastroute("tune", *sources, *names, "--suggest", "9", "--output", output)
    assert ran.status == 0, ran.err
    found = [json.loads(line)["prompt"] for line in output.read_text().splitlines()]
    assert found == ["Will it rain in Paris?"]


def test_a_query_changes_nothing(database: Path) -> None:
    with pytest.raises(InvalidInputError):
        read_export(f"sqlite:///{database}", query="delete from graded")
    with sqlite3.connect(database) as connection:
        assert connection.execute("select count(*) from graded").fetchone() == (4,)
    connection.close()


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
    with pytest.raises(InvalidInputError, match="'gpt' is not one of the models"):
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
