"""Pairs of answers in a journal, compared blind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select

from fastroute.errors import InvalidInputError, JournalError
from fastroute.journal.database import open_journal, writing
from fastroute.journal.grades import mean_grades, read_grades
from fastroute.journal.labelling import JournalPairs
from fastroute.journal.schema import JUDGEMENTS, REQUESTS, SHADOWS


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    opened = open_journal(url)
    yield opened
    opened.dispose()


def fill(engine: Engine, count: int, caller: str = "me", **changes: Any) -> list[str]:
    """Requests with a shadow each, the latest last."""
    ids = [f"{caller}{i:04d}" for i in range(count)]
    with writing(engine) as connection:
        for i, request_id in enumerate(ids):
            row = {
                "request_id": request_id, "time": 1000.0 + i, "caller": caller, "path": "/x",
                "chosen": "weak", "answered_by": "weak", "prompt": f"prompt {i}", "answer": "w",
            }  # fmt: skip
            connection.execute(insert(REQUESTS).values({**row, **changes}))
            shadow = {
                "request_id": request_id,
                "model": "strong",
                "time": 1000.0 + i,
                "weight": 1.0,
            }
            connection.execute(insert(SHADOWS).values({**shadow, "answer": "s"}))
    return ids


def test_the_latest_pair_comes_first_and_a_verdict_is_a_judgement(engine: Engine) -> None:
    ids = fill(engine, 3)
    pairs = JournalPairs(lambda: engine, "me")
    assert pairs.progress() == (0, 3)
    first = pairs.next([])
    assert first is not None
    assert first.prompt == "prompt 2"
    assert {first.model_a: first.answer_a, first.model_b: first.answer_b} == {
        "weak": "w", "strong": "s",
    }  # fmt: skip
    pairs.grade(first.id, "model_a")
    assert pairs.progress() == (1, 3)
    with engine.connect() as connection:
        (row,) = connection.execute(select(JUDGEMENTS)).mappings()
        grades = mean_grades(read_grades(connection, since=0.0))
    assert (row["request_id"], row["judge"], row["winner"]) == (ids[2], "user", first.model_a)
    assert grades == {(ids[2], first.model_a): 1.0, (ids[2], first.model_b): 0.0}
    second = pairs.next([])
    assert second is not None
    assert second.prompt == "prompt 1"
    skipped = pairs.next([second.id])
    assert skipped is not None
    assert skipped.prompt == "prompt 0"
    assert pairs.next([second.id, skipped.id]) is None
    pairs.grade(second.id, "tie")
    assert pairs.undo() == second
    assert pairs.undo() == first
    assert pairs.undo() is None
    assert pairs.progress() == (0, 3)


def test_a_pair_has_one_verdict(engine: Engine) -> None:
    fill(engine, 1)
    pairs = JournalPairs(lambda: engine, "me")
    first = pairs.next([])
    assert first is not None
    pairs.grade(first.id, "tie")
    for pair_id in (first.id, "unknown", ""):
        with pytest.raises(InvalidInputError, match="load again"):
            pairs.grade(pair_id, "model_b")


def test_nobody_sees_the_requests_of_others(engine: Engine) -> None:
    fill(engine, 2, "me")
    fill(engine, 3, "other")
    mine, others = (JournalPairs(lambda: engine, name) for name in ("me", "other"))
    assert (mine.progress().total, others.progress().total) == (2, 3)
    pair = others.next([])
    assert pair is not None
    with pytest.raises(InvalidInputError):
        mine.grade(pair.id, "tie")
    others.grade(pair.id, "tie")
    assert mine.undo() is None


@pytest.mark.parametrize("missing", [{"prompt": None}, {"answer": None}, {"answered_by": "strong"}])
def test_what_can_not_be_compared_is_no_pair(engine: Engine, missing: dict[str, Any]) -> None:
    fill(engine, 2, **missing)
    pairs = JournalPairs(lambda: engine, "me")
    assert (pairs.progress(), pairs.next([])) == ((0, 0), None)


def test_either_answer_is_shown_first(engine: Engine) -> None:
    fill(engine, 60)
    pairs = JournalPairs(lambda: engine, "me")
    shown: list[str] = []
    first: list[str] = []
    while (pair := pairs.next(shown)) is not None:
        shown.append(pair.id)
        first.append(pair.model_a)
    assert len(set(shown)) == 60
    assert 15 < first.count("weak") < 45


def test_a_judges_verdict_is_not_a_persons(engine: Engine) -> None:
    (request_id,) = fill(engine, 1)
    with writing(engine) as connection:
        connection.execute(insert(JUDGEMENTS).values(
            request_id=request_id, judge="gpt", model_a="weak", model_b="strong", winner="weak",
            time=1.0,
        ))  # fmt: skip
    pairs = JournalPairs(lambda: engine, "me")
    assert pairs.progress() == (0, 1)
    assert pairs.undo() is None


def test_a_database_that_fails_is_an_error(engine: Engine) -> None:
    with writing(engine) as connection:
        JUDGEMENTS.drop(connection)
    with pytest.raises(JournalError, match="can't be used now"):
        JournalPairs(lambda: engine, "me").next([])
