"""Files of battles: what is read, and which line is at fault."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from fastroute.data.battles import read_battles
from fastroute.errors import InvalidInputError
from fastroute.types import Battle

ROW = {"prompt": "why is the sky blue?", "model_a": "a", "model_b": "b", "winner": "tie"}
GOOD = json.dumps(ROW)
#: Line ends of both kinds, separators that are none, a quote, an emoji.
HARD = 'why is "the sky",\r\nblue\u2028 or\n\x85 not, é\U0001f600?'
ROWS: list[dict[str, Any]] = [ROW, ROW | {"prompt": HARD, "winner": "model_b"}]


def content(kind: str, rows: list[dict[str, Any]]) -> bytes:
    """A file of ``rows``."""
    if kind == "csv":
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue().encode()
    if kind == "parquet":
        pyarrow = pytest.importorskip(
            "pyarrow", reason="pyarrow, which reads Parquet, is not installed"
        )
        from pyarrow import parquet

        sink = pyarrow.BufferOutputStream()
        parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
        return bytes(sink.getvalue())
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def written(folder: Path, name: str, rows: list[dict[str, Any]]) -> Path:
    file = folder / name
    raw = content(name.removesuffix(".gz").rsplit(".", 1)[-1], rows)
    file.write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    return file


def test_a_file(tmp_path: Path) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(f"{GOOD}\n\n{GOOD}\n")
    assert [tuple(battle) for battle in read_battles(file)] == [
        ("why is the sky blue?", "a", "b", "tie")
    ] * 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "battles", "a.txt", "a.json"])
@pytest.mark.parametrize("gz", ["", ".gz"])
def test_every_kind_of_file_holds_the_same(tmp_path: Path, name: str, gz: str) -> None:
    file = written(tmp_path, name + gz, [{"extra": "more", **row} for row in ROWS])
    assert read_battles(file) == [Battle(**row) for row in ROWS]
    assert read_battles(str(file)) == read_battles(file)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(GOOD, "utf-8-sig")
    assert len(read_battles(file)) == 1


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    written(tmp_path, "b.csv", [ROW | {"winner": "model_a"}])
    written(tmp_path, "a.jsonl.gz", [ROW])
    (tmp_path / "notes.txt").write_text("not battles")
    assert [battle.winner for battle in read_battles(tmp_path)] == ["tie", "model_a"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InvalidInputError, match=r"empty has no file that ends in \.jsonl, \.csv"):
        read_battles(empty)
    with pytest.raises(InvalidInputError, match="the path is empty"):
        read_battles("")


@pytest.mark.parametrize("line", ["[" * 200_000, '{"prompt":' * 200_000, "{", "nope"])
def test_a_line_that_is_no_json(tmp_path: Path, line: str) -> None:
    file = tmp_path / "battles.jsonl"
    file.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(InvalidInputError, match=r"battles\.jsonl, line 2: not JSON \("):
        read_battles(file)


@pytest.mark.parametrize(
    ("name", "raw", "said"),
    [
        ("a.jsonl", f"{GOOD}\n".encode() + b"\xff\n", "line 2: not UTF-8 text"),
        ("a.csv", b"prompt,model_a,model_b,winner\na long enough prompt,a,b\n", "line 2: 3 cells"),
        ("a.csv", b"prompt,model_a,model_b\na long enough prompt,a,b\n", "line 2: 'winner' must"),
        ("a.csv", b"prompt,a,a\n", "2 columns are named 'a'"),
        ("a.csv.gz", b"no gzip", "can't be read"),
        ("a.parquet", b"no Parquet", "can't be read as Parquet"),
    ],
)
def test_a_row_at_fault_is_named(tmp_path: Path, name: str, raw: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(InvalidInputError, match=said) as caught:
        read_battles(tmp_path / name)
    assert name in str(caught.value)


def test_a_missing_column_is_told_with_what_there_is(tmp_path: Path) -> None:
    row = {name: value for name, value in ROW.items() if name != "winner"} | {"preference": 0.5}
    with pytest.raises(InvalidInputError, match=r"it has prompt, .*preference .*train sw_ranking"):
        read_battles(written(tmp_path, "a.parquet", [row]))


def test_a_router_is_fitted_from_any_of_them(tmp_path: Path) -> None:
    from fastroute.routers.registry import create_router

    rows = [ROW | {"winner": winner} for winner in ("model_a", "model_b", "tie", "model_a")]
    options: dict[str, Any] = {"strong_model": "a", "weak_model": "b", "num_tiers": 2}
    rates = {
        create_router(
            "sw_ranking", battles=written(tmp_path, f"x.{kind}", rows), **options
        ).win_rate("why is the sky blue?")
        for kind in ("jsonl", "csv", "parquet", "csv.gz")
    }
    assert len(rates) == 1
