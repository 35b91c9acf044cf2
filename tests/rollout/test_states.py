"""The state in a journal: changed by one at a time, and taken over from a file of before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, update

from fakes.journals import opened
from fastroute.errors import InvalidInputError
from fastroute.journal.database import writing
from fastroute.journal.schema import ROLLOUTS
from fastroute.rollout.canary import Canary, Rules
from fastroute.rollout.drift import Drift
from fastroute.rollout.states import change, read, read_newer, take_over

CANARY = Canary.start("new", Rules(), 100.0)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with opened(tmp_path) as made:
        yield made


def test_who_is_late_changes_what_is_there_then(engine: Engine) -> None:
    change(engine, Canary, lambda _: CANARY)
    seen: list[str] = []

    def freeze_late(found: Canary | None) -> Canary | None:
        assert found is not None
        seen.append(found.status)
        if len(seen) == 1:  # another process is faster
            change(engine, Canary, lambda _: Canary.start("other", Rules(), 200.0))
        found.freeze(300.0)
        return found

    made = change(engine, Canary, freeze_late)
    assert seen == ["running", "running"]
    found = read(engine, Canary)
    assert found is not None
    assert made is not None
    assert found.to_dict() == made.to_dict()
    assert (found.router, found.status) == ("other", "frozen")


def test_only_a_change_is_written_and_read(engine: Engine) -> None:
    assert read(engine, Canary) is None
    assert change(engine, Canary, lambda _: None) is None
    change(engine, Canary, lambda _: CANARY)
    version, found = read_newer(engine, Canary, 0) or (0, None)
    assert found is not None
    assert change(engine, Canary, lambda _: None).name == CANARY.name  # type: ignore[union-attr]
    assert read_newer(engine, Canary, version) is None
    assert read(engine, Drift) is None  # each has its own


def write_file(path: Path, state: Canary | Drift, schema: int = 1) -> None:
    path.write_text(json.dumps({"schema": schema, **state.to_dict()}))


@pytest.mark.parametrize("state", [CANARY, Drift({"cursor": 7.0})])
def test_a_file_of_before_is_taken_over_once(
    engine: Engine, tmp_path: Path, state: Canary | Drift
) -> None:
    kind: Any = type(state)
    path = tmp_path / "state.json"
    assert not take_over(engine, kind, path)
    write_file(path, state)
    assert take_over(engine, kind, path)
    found = read(engine, kind)
    assert found is not None
    assert found.to_dict() == state.to_dict()
    assert [p.name for p in tmp_path.glob("state*")] == ["state.json.taken-over"]
    write_file(path, Canary.start("old", Rules(), 0.0))
    assert not take_over(engine, kind, path)
    assert path.exists()
    found = read(engine, kind)
    assert found is not None
    assert found.to_dict() == state.to_dict()


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"schema": 99}', '{"schema": 1}'])
def test_a_file_that_is_no_state_is_refused(engine: Engine, tmp_path: Path, content: str) -> None:
    path = tmp_path / "canary.json"
    path.write_text(content)
    with pytest.raises(InvalidInputError, match=r"canary\.json can't be read .*: remove it"):
        take_over(engine, Canary, path)
    assert path.exists()


def test_a_damaged_state_is_refused(engine: Engine) -> None:
    change(engine, Canary, lambda _: CANARY)
    with writing(engine) as connection:
        connection.execute(update(ROLLOUTS).values(state="{}"))
    with pytest.raises(InvalidInputError, match=r"state of canary can't be read \(KeyError\)"):
        read(engine, Canary)
