"""Verdicts on answers and their shadows: once each, within a day's dollars."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from fakes import openai_judge
from fakes.planned import Server, View
from fastroute.cli import main
from fastroute.embedders import StaticEmbedder
from fastroute.journal.database import open_journal, writing
from fastroute.journal.grades import mean_grades, read_grades
from fastroute.journal.schema import JUDGEMENTS, REQUESTS, SHADOWS


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with openai_judge.start() as running:
        yield running


@pytest.fixture
def provider(server: Server) -> View:
    return View(server)


def fill(url: str, answers: list[tuple[str, str]]) -> None:
    """Requests that the weak model answered, with shadows of the strong one."""
    engine = open_journal(url)
    with writing(engine) as connection:
        for i, (weak, strong) in enumerate(answers):
            name = f"{i:016x}"
            connection.execute(insert(REQUESTS), [{
                "request_id": name, "time": 1.0 + i, "path": "/x", "answered_by": "weak",
                "prompt": f"prompt {i}", "answer": weak,
            }])  # fmt: skip
            connection.execute(insert(SHADOWS), [{
                "request_id": name, "model": "strong", "time": 1.0 + i, "weight": 2.0,
                "answer": strong,
            }])  # fmt: skip
    engine.dispose()


def judgements(url: str) -> list[Any]:
    engine = open_journal(url)
    with engine.connect() as connection:
        found = connection.execute(select(JUDGEMENTS).order_by(JUDGEMENTS.c.request_id)).all()
    engine.dispose()
    return list(found)


def words(url: str, provider: View, tmp_path: Path, *more: str) -> list[str]:
    return [
        "journal", "judge", url, "--judge-model", "judge", "--judge-base-url", provider.base_url,
        "--judge-price", "10", "100", "--journal", str(tmp_path / "judge"), "--yes", *more,
    ]  # fmt: skip


def test_a_model_judges_each_pair_once(
    url: str, provider: View, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(url, [("a", "longer"), ("longer", "a"), ("same", "same"), ("MUMBLE", "x"), ("no", "ab")])
    assert main(words(url, provider, tmp_path)) == 0
    assert "5 pairs judged: 1 strong, 1 weak, 2 ties, 1 without" in capsys.readouterr().out
    found = judgements(url)
    assert [row.winner for row in found] == ["strong", "weak", "tie", None, "tie"]
    assert {(row.judge, row.model_a, row.model_b) for row in found} == {("judge", "strong", "weak")}
    each = (100 * 10 + 10 * 100) / 1e6  # by both orders
    assert [row.cost_usd for row in found] == pytest.approx([2 * each] * 2 + [0.0] + [2 * each] * 2)
    assert len(provider.requests()) == 8
    assert main(words(url, provider, tmp_path)) == 0
    assert "nothing to judge" in capsys.readouterr().out
    assert len(provider.requests()) == 8
    engine = open_journal(url)
    with writing(engine) as connection:  # as if it was killed before they were kept
        connection.execute(JUDGEMENTS.delete())
    assert main(words(url, provider, tmp_path)) == 0
    assert len(provider.requests()) == 8
    assert [row.winner for row in judgements(url)] == ["strong", "weak", "tie", None, "tie"]
    with engine.connect() as connection:
        grades = mean_grades(read_grades(connection, since=0.0))
    engine.dispose()
    assert grades[f"{0:016x}", "strong"] == 1.0
    assert grades[f"{0:016x}", "weak"] == 0.0
    assert grades[f"{2:016x}", "weak"] == 0.5


def test_the_day_s_dollars_are_not_passed(
    url: str, provider: View, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(url, [("a" * i, "b") for i in range(2, 42)])
    cap = ("--daily-usd", "0.5", "--judge-max-tokens", "200")
    assert main(words(url, provider, tmp_path, *cap)) == 0
    first = judgements(url)
    assert 5 <= len(first) <= 12  # 0.04 dollars each, at most
    assert main(words(url, provider, tmp_path, *cap)) == 0
    found = judgements(url)
    assert len(first) < len(found) < 40  # they cost less than they might
    for _ in range(60):
        assert main(words(url, provider, tmp_path, *cap)) == 0
    found = judgements(url)
    assert sum(row.cost_usd for row in found) <= 0.5
    capsys.readouterr()


def test_a_cap_reads_the_tokenizer_once(
    url: str, provider: View, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(url, [("a" * i, "b") for i in range(2, 22)])
    loads = []
    load = StaticEmbedder.load
    monkeypatch.setattr(StaticEmbedder, "load", lambda *folder: loads.append(1) or load(*folder))
    assert main(words(url, provider, tmp_path, "--daily-usd", "50")) == 0
    assert len(judgements(url)) == 20
    assert len(loads) <= 1  # 10 MB; each pair is estimated by itself


def test_equal_values_are_a_tie(
    url: str, provider: View, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(url, [("The answer is 42.", "It is 42"), ("42", "43"), ("An essay.", "Another essay.")])
    assert main(["journal", "judge", url, "--by", "evidence"]) == 0
    assert [row.winner for row in judgements(url)] == ["tie", None, None]
    assert {(row.judge, row.cost_usd) for row in judgements(url)} == {("evidence", 0.0)}
    assert provider.requests() == []
    assert "3 pairs judged" in capsys.readouterr().out


def test_an_answer_key_grades_both(
    url: str, provider: View, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(url, [("It is 41.", "It is 42."), ("7", "8"), ("5", "It is 5"), ("not", "in the key")])
    key = tmp_path / "key.csv"
    key.write_text("prompt,id,answer\nprompt 0,,42\nprompt 1,,9\n,0000000000000002,5\n")
    command = ["journal", "judge", url, "--by", "key", "--key", str(key)]
    assert main(command) == 0
    said = capsys.readouterr()
    assert "3 pairs judged: 1 strong, 0 weak, 2 ties, 0 without a verdict" in said.out
    assert "left out 1 pairs that are not in the key" in said.err
    rows = judgements(url)
    assert [(r.winner, r.score_a, r.score_b) for r in rows] == [
        ("strong", 1.0, 0.0), ("tie", 0.0, 0.0), ("tie", 1.0, 1.0),
    ]  # fmt: skip
    assert {row.judge for row in rows} == {"key"}
    engine = open_journal(url)
    with engine.connect() as connection:
        grades = mean_grades(read_grades(connection, since=0.0))
    engine.dispose()
    assert [grades[f"{i:016x}", "weak"] for i in range(3)] == [0.0, 0.0, 1.0]
    assert main(command) == 0
    assert len(judgements(url)) == 3
    assert provider.requests() == []
    capsys.readouterr()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ((), "give --judge-model, or --by evidence"),
        (("--by", "key"), "--by key and --key FILE go together"),
        (("--judge-model", "m", "--daily-usd", "1"), "--daily-usd needs --judge-price"),
    ],
)
def test_what_is_missing_is_said(
    url: str, more: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(url, [])
    assert main(["journal", "judge", url, *more]) == 2
    assert said in capsys.readouterr().err
