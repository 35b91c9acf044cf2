"""``fastroute journal``: counts, exports that tune reads, and deletions that leave nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from fastroute.cli import main
from fastroute.data.row_files import read_rows
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, METADATA, REQUESTS, SHADOWS
from fastroute.learning import read_export
from journal.traffic import Traffic


@pytest.fixture
def traffic(url: str) -> Traffic:
    made = Traffic(400)
    engine = open_journal(url)
    made.write(engine)
    engine.dispose()
    return made


def counts(url: str) -> dict[str, int]:
    engine = open_journal(url)
    with engine.connect() as connection:
        found = {
            name: connection.scalar(select(func.count()).select_from(table)) or 0
            for name, table in METADATA.tables.items()
        }
    engine.dispose()
    return found


def test_stats(url: str, traffic: Traffic, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["journal", "stats", url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"]["requests"] == 400
    assert found["rows"]["shadows"] == len(traffic.shadows)
    assert found["graded_requests"] == found["rows"]["feedback"] == 200
    by_model = {model["model"]: model for model in found["models"]}
    for name in ("strong", "weak"):
        rows = [row for row in traffic.requests if row["chosen"] == name]
        assert by_model[name]["requests"] == len(rows)
        assert by_model[name]["cost_usd"] == pytest.approx(sum(row["cost_usd"] for row in rows))
    assert main(["journal", "stats", url]) == 0
    assert "400 requests, 2026-09-21" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_tune_reads_an_export(
    url: str, traffic: Traffic, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = open_journal(url)
    with writing(engine) as connection:
        connection.execute(delete(JUDGEMENTS))
    engine.dispose()
    file = tmp_path / f"export.{kind}"
    words = ["journal", "export", url, "--output", str(file)]
    assert main(words) == 0
    assert f"{400 + len(traffic.shadows):,} rows" in capsys.readouterr().out
    export = read_export(str(file), weak="weak", strong="strong", need_grades=False)
    assert len(export) == 400
    grades = {row["request_id"]: row["score"] for row in traffic.feedback}
    assert export.times is not None
    for i, row in enumerate(traffic.requests):
        prompt, graded, moment = export.prompts[i], export.grades[i], export.times[i]
        assert prompt == row["prompt"]
        assert moment == pytest.approx(row["time"])
        score = grades.get(row["request_id"])
        if score is not None:
            assert graded[("weak", "strong").index(row["chosen"])] == score
    assert export.usd is not None
    assert main(words) == 2
    assert "exists; pass --overwrite" in capsys.readouterr().err


def test_an_export_does_not_mix_scores_with_comparisons(
    url: str, traffic: Traffic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "export.jsonl"
    assert main(["journal", "export", url, "--output", str(file)]) == 0
    # One comparison grades both models' answers to a request; no score does.
    assert {row["score"] for _, row in read_rows(file)} == {0.5, None}
    said = capsys.readouterr().err
    assert f"{len(traffic.feedback)} grades by scores are left out" in said


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_table_is_exported_as_it_is(
    url: str, traffic: Traffic, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / f"requests.{kind}"
    words = ["journal", "export", url, "--table", "requests", "--since", "2026-10-01"]
    assert main([*words, "--output", str(file)]) == 0
    rows: list[Any] = [row for _, row in read_rows(file)]
    expected = [row for row in traffic.requests if row["time"] >= 1790812800]
    assert [row["request_id"] for row in rows] == [row["request_id"] for row in expected]
    scores = rows[0]["scores"]
    assert (json.loads(scores) if isinstance(scores, str) else scores)["strong"] == 0.5


def test_deleting_a_caller_leaves_nothing_of_theirs(
    url: str, traffic: Traffic, capsys: pytest.CaptureFixture[str]
) -> None:
    before = counts(url)
    theirs = {row["request_id"] for row in traffic.requests if row["caller"] == "caller 1"}
    assert main(["journal", "prune", url, "--caller", "caller 1"]) == 0
    assert "200 requests deleted" in capsys.readouterr().out
    after = counts(url)
    shadows = sum(row["request_id"] in theirs for row in traffic.shadows)
    assert after["requests"] == 200
    assert after["shadows"] == before["shadows"] - shadows
    assert after["feedback"] == 0  # odd ones only were graded
    assert after["judgements"] == 1


def test_deleting_one_request(url: str, traffic: Traffic) -> None:
    before = counts(url)
    assert main(["journal", "prune", url, "--id", traffic.requests[0]["request_id"]]) == 0
    after = counts(url)
    assert (before["requests"] - after["requests"], after["judgements"]) == (1, 0)


def test_texts_alone_can_be_erased(url: str, traffic: Traffic, tmp_path: Path) -> None:
    before = counts(url)
    assert main(["journal", "prune", url, "--older-than", "0", "--texts"]) == 0
    assert counts(url) == before
    engine = open_journal(url)
    with engine.connect() as connection:
        for column in (REQUESTS.c.prompt, REQUESTS.c.answer, SHADOWS.c.answer, FEEDBACK.c.comment):
            assert connection.scalar(select(func.count(column))) == 0
        assert connection.scalar(select(func.count(JUDGEMENTS.c.judge))) == 1
        assert connection.scalar(select(func.sum(REQUESTS.c.cost_usd))) == pytest.approx(
            sum(row["cost_usd"] for row in traffic.requests)
        )
    engine.dispose()
    for file in tmp_path.glob("journal.db*"):
        assert b"prompt 39" not in file.read_bytes()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["stats", "sqlite:////nowhere/j.db"], 1, "there is no journal"),
        (["prune", "{url}"], 2, "say what to delete"),
        (["export", "{url}", "--output", "x.txt"], 2, "must end in .csv, .jsonl or .parquet"),
        (["export", "{url}", "--output", "x.csv", "--since", "2030-01-01"], 2, "no such rows"),
        (["export", "{url}", "--output", "x.csv", "--since", "now"], 2, "not a date"),
    ],
)
def test_what_cannot_be_done_is_said(
    url: str, traffic: Traffic, words: list[str], status: int, said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    try:
        found = main(["journal", *(word.format(url=url) for word in words)])
    except SystemExit as error:
        found = int(str(error.code))
    assert (found, len(traffic.requests)) == (status, 400)
    assert said in capsys.readouterr().err
