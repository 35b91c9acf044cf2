"""What routing saved: against the truth of made-up traffic, with its intervals."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from sqlalchemy import delete, insert

from fastroute.cli import main
from fastroute.journal.database import open_journal, writing
from fastroute.journal.savings import savings
from fastroute.journal.schema import JUDGEMENTS, PRICES, SHADOWS
from journal.traffic import DAY_S, START_S, Traffic


def test_the_report_is_the_truth(url: str) -> None:
    made = Traffic(1500, seed=3)
    engine = open_journal(url)
    made.write(engine)
    with engine.connect() as connection:
        months = savings(connection)
        callers = savings(connection, ("caller", "model"))
    engine.dispose()
    assert [row["month"] for row in months] == ["2026-09", "2026-10", "2026-11"]
    assert [(row["caller"], row["model"]) for row in callers] == [
        (caller, model) for caller in ("caller 0", "caller 1") for model in ("strong", "weak")
    ]
    shadows = sum(row["cost_usd"] for row in made.shadows)
    for rows in (months, callers):
        paid = sum(row["paid_usd"] for row in rows)
        assert paid == pytest.approx(sum(row["cost_usd"] for row in made.requests))
        assert sum(row["shadow_usd"] for row in rows) == pytest.approx(shadows)
        assert sum(row["judge_usd"] for row in rows) == pytest.approx(0.01)
        strong = sum(row["always_strong_usd"]["usd"] for row in rows)
        weak = sum(row["always_weak_usd"]["usd"] for row in rows)
        assert strong == pytest.approx(made.strong_usd, rel=0.02)
        assert weak == pytest.approx(made.weak_usd, rel=0.02)
        saved = sum(row["saved_usd"]["usd"] for row in rows)
        assert saved == pytest.approx(strong - paid - shadows - 0.01)
        assert sum(row["requests"] for row in rows) == 1500
        assert all(row["unpriced"] == 0 for row in rows)


def test_the_intervals_cover_the_truth(tmp_path: Path) -> None:
    covered = {"strong": 0, "weak": 0}
    for seed in range(60):
        made = Traffic(600, seed=100 + seed, days=1.0)
        engine = open_journal(f"sqlite:///{tmp_path}/{seed}.db")
        made.write(engine)
        with engine.connect() as connection:
            (row,) = savings(connection)
        engine.dispose()
        for side, truth in (("strong", made.strong_usd), ("weak", made.weak_usd)):
            found = row[f"always_{side}_usd"]
            covered[side] += found["low"] <= truth <= found["high"]
            assert found["high"] - found["low"] < 0.1 * truth
    assert min(covered.values()) >= 53  # 57 expected


def test_without_shadows_the_tokens_are_taken_to_be_the_same(url: str) -> None:
    made = Traffic(50)
    engine = open_journal(url)
    made.write(engine)
    with writing(engine) as connection:
        connection.execute(delete(SHADOWS))
    with engine.connect() as connection:
        (row,) = savings(connection, (), until=START_S + 365 * DAY_S)
    engine.dispose()
    assert row["always_strong_usd"]["low"] is None
    assert row["always_strong_usd"]["usd"] < made.strong_usd  # which writes more
    assert row["saved_usd"]["high"] is None


def test_each_request_has_the_prices_of_its_time(url: str) -> None:
    made = Traffic(200)
    engine = open_journal(url)
    made.write(engine)
    later = {
        "model": "strong", "time": START_S + 30 * DAY_S, "role": "strong",
        "input_usd_per_mtok": 100.0, "output_usd_per_mtok": 300.0,
    }  # fmt: skip
    with engine.connect() as connection:
        before = savings(connection, ())[0]["always_strong_usd"]["usd"]
    with writing(engine) as connection:
        connection.execute(insert(PRICES), [later])
    with engine.connect() as connection:
        after = savings(connection, ())[0]["always_strong_usd"]["usd"]
        early = savings(connection, (), until=START_S + 30 * DAY_S)[0]
    engine.dispose()
    assert 5 * before < after < 7 * before  # half of them cost ten times as much
    assert early["always_strong_usd"]["usd"] < before


def test_the_command(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    engine = open_journal(url)
    Traffic(300).write(engine)
    with writing(engine) as connection:
        connection.execute(delete(JUDGEMENTS))
    engine.dispose()
    words = ["journal", "savings", url, "--by", "month,model"]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert main([*words, "--csv"]) == 0
    table = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == len(table) == 6
    for row, line in zip(rows, table, strict=True):
        assert float(line["paid_usd"]) == pytest.approx(row["paid_usd"])
        assert float(line["saved_usd_low"]) == pytest.approx(row["saved_usd"]["low"])
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "2026-10, weak: " in shown
    assert "$-" not in shown
    assert "saved -$" in shown
    assert main(["journal", "savings", url, "--by", "week"]) == 2
    assert "--by 'week': write some of month,caller,model" in capsys.readouterr().err
