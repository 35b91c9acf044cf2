"""Graded prompts of the user's: three formats, malformed rows by line, multi-model files."""

from __future__ import annotations

import builtins
import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from fastroute.data import read_training_data
from fastroute.errors import InvalidInputError, MissingDependencyError
from fastroute.evaluation.benchmarks.traffic import (
    load_pairs,
    load_prompts,
    load_traffic,
    parse_pair,
)
from fastroute.types import ModelPair

ROWS: list[dict[str, Any]] = [
    {"prompt": "one\nof two lines, with a comma", "weak": 0, "strong": 1, "id": "a"},
    {"prompt": "zwei \u00fc \u2028 separators", "weak": 0.5, "strong": 0.25, "id": "b"},
    {"prompt": "three", "weak": 1, "strong": 1, "id": "c"},
]
COSTS = [{"cost_weak": 0.001 * i, "cost_strong": 0.01 * i} for i in (1, 2, 3)]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    name = path.name
    if name.endswith(".parquet"):
        parquet.write_table(pa.Table.from_pylist(rows), path)
        return path
    open_text = gzip.open if name.endswith(".gz") else open
    with open_text(path, "wt", encoding="utf-8", newline="") as file:
        if ".csv" in name:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return path


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet", "t.jsonl.gz", "t.csv.gz"])
@pytest.mark.parametrize("with_costs", [False, True])
def test_every_format_gives_the_same_benchmark(tmp_path: Path, name: str, with_costs: bool) -> None:
    rows = [r | c for r, c in zip(ROWS, COSTS, strict=True)] if with_costs else ROWS
    loaded = load_traffic(write(tmp_path / name, rows))
    b = loaded.benchmark
    assert (loaded.report.malformed, loaded.unscored) == (0, 0)
    assert b.name == name  # never the name of a benchmark such as mmlu
    assert b.prompts == tuple(row["prompt"] for row in ROWS)
    assert b.ids == ("a", "b", "c")
    assert b.weak.tolist() == [0.0, 0.5, 1.0]
    assert b.strong.tolist() == [1.0, 0.25, 1.0]
    if with_costs:
        assert b.cost_weak is not None
        assert b.cost_strong is not None
        assert b.cost_weak.tolist() == pytest.approx([0.001, 0.002, 0.003])
        assert b.cost_strong.tolist() == pytest.approx([0.01, 0.02, 0.03])
    else:
        assert b.cost_weak is None
    assert load_prompts(tmp_path / name) == b.prompts


def test_byte_order_mark_booleans_and_missing_ids(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt,weak,strong\nhello,False,TRUE\n", encoding="utf-8-sig")
    b = load_traffic(path).benchmark
    assert (b.weak[0], b.strong[0], b.ids) == (0.0, 1.0, ("line 2",))


BAD_LINES = [
    ('{"prompt": "x", "weak": "good", "strong": 1}', "'weak' is 'good', not a number"),
    ('{"prompt": "x", "weak": NaN, "strong": 1}', "not a finite number"),
    ('{"prompt": "  ", "weak": 0, "strong": 1}', "'prompt' is '  '"),
    ('{"prompt": 7, "weak": 0, "strong": 1}', "'prompt' is 7"),
    ('{"prompt": "\\ud800", "weak": 0, "strong": 1}', "lone surrogate"),
    ('{"weak": 0, "strong": 1}', "no 'prompt'"),
    ('{"prompt": "x", "weak": 0, "strong": 1, "cost_weak": -1, "cost_strong": 1}', "below 0"),
    ('{"prompt": "x", "weak": 0, "strong": 1.7e308}', r"'strong' is 1.7e\+308, beyond 1e\+100"),
    ('{"prompt": "x", "weak": -1e101, "strong": 1}', r"'weak' is -1e\+101, beyond"),
    (f'{{"prompt": "x", "weak": 0, "strong": 1{"0" * 400}}}', "'strong' is beyond"),
    ('{"prompt": "x", "weak": 0, "strong": 1, "cost_weak": 1, "cost_strong": 2e100}', "beyond"),
    ("[1, 2]", "not a JSON object"),
    ('{"prompt": ', "not JSON"),
    ("[" * 100_000, "not JSON"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES)
def test_malformed_lines_are_named_and_stop_the_run(
    tmp_path: Path, line: str, message: str
) -> None:
    path = tmp_path / "t.jsonl"
    good = json.dumps(ROWS[0])
    path.write_text(f"{good}\n\n{line}\n{good}\n")
    with pytest.raises(InvalidInputError, match=rf"1 malformed row .*line 3: .*{message}.*skip"):
        load_traffic(path)
    loaded = load_traffic(path, skip_bad=True)
    assert len(loaded.benchmark) == 2
    (bad,) = loaded.report.examples
    assert bad.startswith("line 3: ")


def test_a_byte_that_is_no_utf8_spoils_its_line_only(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = json.dumps(ROWS[0]).encode()
    path.write_bytes(good + b"\n" + good[:-1] + b', "x": "\xff"}\n' + good)
    assert load_traffic(path, skip_bad=True).report.examples == ["line 2: not UTF-8 text"]
    path = tmp_path / "t.csv"
    path.write_bytes(b"prompt,weak,strong\na,0,1\nb\xff,0,1\n")
    assert load_traffic(path, skip_bad=True).report.examples == ["line 3: not UTF-8 text"]
    path = tmp_path / "t.txt"
    path.write_bytes(b"one\n\n\xff\ntwo\r\n")
    assert load_prompts(path, skip_bad=True) == ("one", "two")
    with pytest.raises(InvalidInputError, match="line 3: not UTF-8"):
        load_prompts(path)


def test_csv_rows_are_named_by_their_first_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('prompt,weak,strong\n"two\nlines",0,1\nshort,0\nx,y,1\n"open,0,1\n')
    bad = load_traffic(path, skip_bad=True).report.examples
    assert [text.split(":")[0] for text in bad] == ["line 4", "line 5", "line 6"]
    assert "2 cells where the header has 3" in bad[0]


def test_many_malformed_rows_are_counted_and_only_some_shown(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("{}\n" * 12)
    with pytest.raises(InvalidInputError, match=r"12 malformed rows .*line 5:.*; and 7 more\)"):
        load_traffic(path)
    with pytest.raises(InvalidInputError, match="no usable rows"):
        load_traffic(path, skip_bad=True)


def test_a_row_without_costs_among_rows_with_them_is_left_out_and_counted(tmp_path: Path) -> None:
    rows = [ROWS[0], ROWS[1] | COSTS[1], ROWS[2] | COSTS[2]]
    loaded = load_traffic(write(tmp_path / "t.jsonl", rows), skip_bad=True)
    assert (loaded.without_costs, loaded.report.malformed) == (1, 0)
    assert loaded.benchmark.ids == ("b", "c")


def test_multi_model_files(tmp_path: Path) -> None:
    rows = [
        {"prompt": "p1", "scores": {"big": 1.0, "small": 0.0, "old": 0.0}},
        {"prompt": "p2", "scores": {"big": 1.0, "small": 1.0}},
        {"prompt": "p3", "scores": {"small": 1.0, "old": 1.0}},
    ]
    path = write(tmp_path / "m.jsonl.gz", rows)
    pairs = [ModelPair(strong="big", weak="small"), ModelPair(strong="small", weak="old")]
    first, second = load_pairs(path, pairs)
    assert first.benchmark.prompts == ("p1", "p2")
    assert first.benchmark.pair == pairs[0]
    assert first.unscored == 1
    assert second.benchmark.prompts == ("p1", "p3")
    assert second.benchmark.name == "m.jsonl.gz: small or old"
    with pytest.raises(InvalidInputError, match=r"'huge'.*its models are big, old, small"):
        load_pairs(path, [ModelPair(strong="huge", weak="small")])
    flat = write(tmp_path / "m.csv", [{"prompt": "p", "big": 1, "small": 0}])
    (only,) = load_pairs(flat, pairs[:1])
    assert (only.benchmark.strong[0], only.benchmark.weak[0]) == (1.0, 0.0)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "x", "weak": 1},
        {"prompt": "x", "weak": None, "strong": 1},
        {"prompt": "x", "weak": " ", "strong": 1},
        {"prompt": "x", "scores": {"weak": 1, "strong": None}},
        {"prompt": "x", "model_a": "weak", "model_b": "other", "winner": "tie"},
    ],
)
def test_an_unknown_score_is_left_out_and_counted_here_as_in_training(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    path = write(tmp_path / "t.jsonl", [ROWS[0], row])
    loaded = load_traffic(path)
    assert (len(loaded.benchmark), loaded.unscored, loaded.report.malformed) == (1, 1, 0)
    data = read_training_data([path])
    assert len(data.graded) + len(data.battles) == 2


NO_SCORES = [
    ("cost_4o", 0.01), ("gpt_4o_cost", 0.01), ("price_usd", 3), ("request_id", 17),
    ("requestId", 17), ("index", 0), ("Unnamed: 0", 0), ("", 3), ("id", 5), ("created_at", 17e8),
    ("timestamp", 17e8), ("date", "2026-01-01"), ("year", 2026), ("output_tokens", 0.5),
    ("latency_ms", 0.1), ("category", "mathematics"), ("difficulty", "hard"),
]  # fmt: skip


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet"])
@pytest.mark.parametrize(("column", "value"), NO_SCORES)
def test_a_column_that_is_no_score_is_never_a_model(
    tmp_path: Path, name: str, column: str, value: Any
) -> None:
    rows = [
        {"prompt": f"p {i}", "gpt-4o": i % 2, "cost_gpt-4o": 0.1, column: value} for i in range(4)
    ]
    data = read_training_data([write(tmp_path / name, rows)])
    assert data.models == ("gpt-4o",)
    assert data.graded[0].costs == {"gpt-4o": 0.1}
    if column not in ("", "id"):
        said = [line for line in data.report.lines() if "columns not read as scores" in line]
        assert column in said[0]
        assert "the models are gpt-4o" in said[0]
    with pytest.raises(InvalidInputError, match=r"models are gpt-4o; choose two"):
        load_traffic(tmp_path / name, pair=ModelPair(strong=column or "x", weak="gpt-4o"))


@pytest.mark.parametrize(("low", "high"), [(1, 10), (0, 100), (-3, 4)])
def test_another_scale_is_read_by_both_and_said(tmp_path: Path, low: float, high: float) -> None:
    scores = [low, high, (low + high) / 2, high]
    rows = [{"prompt": f"p {s} {i}", "weak": s, "strong": high} for i, s in enumerate(scores)]
    path = write(tmp_path / "t.csv", rows)
    loaded = load_traffic(path)
    assert loaded.benchmark.weak.tolist() == scores
    data = read_training_data([path])
    assert [row.scores["weak"] for row in data.graded] == [0.0, 1.0, 0.5, 1.0]
    said = f"scores are from {low} to {high}"
    assert any(said in line for line in data.report.lines())
    assert said in loaded.report.column_lines()[0]


def test_a_score_outside_the_scale_of_the_others_is_malformed_in_both(tmp_path: Path) -> None:
    rows = [*ROWS, {"prompt": "x", "weak": 0, "strong": 10}]
    path = write(tmp_path / "t.jsonl", rows)
    for read in (load_traffic, lambda p: read_training_data([p])):
        with pytest.raises(InvalidInputError, match=r"line 4: score of 'strong' is 10.0, outside"):
            read(path)


def test_battles_of_the_judge_are_graded_traffic(tmp_path: Path) -> None:
    battles = [
        ("p1", "big", "small", "model_a"), ("p2", "small", "big", "model_a"),
        ("p3", "big", "small", "tie"), ("p4", "big", "small", "model_b"),
        ("p5", "big", "other", "model_a"),
    ]  # fmt: skip
    names = ("prompt", "model_a", "model_b", "winner")
    rows = [{"dataset": "d", **dict(zip(names, battle, strict=True))} for battle in battles]
    path = write(tmp_path / "b.jsonl", rows)
    loaded = load_traffic(path, pair=ModelPair(strong="big", weak="small"))
    assert loaded.benchmark.strong.tolist() == [1.0, 0.0, 0.5, 0.0]
    assert loaded.benchmark.weak.tolist() == [0.0, 1.0, 0.5, 1.0]
    assert loaded.unscored == 1
    with pytest.raises(InvalidInputError, match="models are big, other, small; choose two"):
        load_traffic(path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["strong=a", "strong=b"], "strong=COLUMN weak=COLUMN"),
        (["strong=a", "weak="], "strong=COLUMN weak=COLUMN"),
        (["a", "b"], "strong=COLUMN weak=COLUMN"),
        (["strong=a", "weak=a"], "two models"),
    ],
)
def test_pairs_that_are_none(words: list[str], message: str) -> None:
    assert parse_pair(["weak=x=1", "strong=y"]) == ModelPair(strong="y", weak="x=1")
    with pytest.raises(InvalidInputError, match=message):
        parse_pair(words)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", None, "can't be read: No such file"),
        ("t.xlsx", b"", "must end in .jsonl, .csv or .parquet"),
        ("t.parquet", b"PAR1 no", "can't be read as Parquet"),
        ("t.jsonl.gz", b"no gzip", "can't be read"),
        ("t.jsonl.gz", gzip.compress(b'{"prompt": "x"}' * 99, mtime=0)[:-20], "can't be read"),
        ("t.csv.gz", gzip.compress(b"prompt,weak\n" * 99, mtime=0)[:-20], "can't be read"),
        ("t.jsonl", b"", "no usable rows"),
    ],
)
def test_files_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInputError, match=message):
        load_traffic(tmp_path / name)


def test_parquet_without_pyarrow_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "t.parquet", ROWS)
    real_import = builtins.__import__

    def without_pyarrow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ModuleNotFoundError(name, name=name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(MissingDependencyError, match=r"fastroute\[scale\]"):
        load_traffic(path)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_long_cells_are_read_as_json_s_are(tmp_path: Path, name: str) -> None:
    rows = [ROWS[0] | {"prompt": "long " * 60_000}]
    assert load_traffic(write(tmp_path / name, rows)).benchmark.prompts == (rows[0]["prompt"],)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("prompt,weak,strong,weak\nx,0,1,1\n")
    for skip_bad in (False, True):
        with pytest.raises(InvalidInputError, match="2 columns are named 'weak'"):
            load_traffic(path, skip_bad=skip_bad)
