"""The watcher: what it counts of a journal, once, whoever reads it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, insert

from fakes.journals import read_state, write_state
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import FEEDBACK, JUDGEMENTS, PRICES, REQUESTS
from fastroute.rollout.canary import CANARY, CONTROL, STALE, Canary, Rules
from fastroute.rollout.conversations import first_grades, settled
from fastroute.rollout.drift import Drift
from fastroute.rollout.quality import QualityStream
from fastroute.rollout.watch import Watcher
from loop_journal import write_traffic
from loop_traffic import draw


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_journal(f"sqlite:///{tmp_path}/journal.db")
    yield made
    made.dispose()


def row(
    request_id: str, time: float, conversation: str | None = None, **more: Any
) -> dict[str, Any]:
    return {
        "request_id": request_id, "time": time, "conversation": conversation, "path": "/x",
        "chosen": "weak", "answered_by": "weak", "status": 200, "arm": None, "win_rate": 0.4,
        "output_tokens": 10, "cost_usd": 0.001, "latency_ms": 100.0, "scores": None,
        "router_checksum": None,
    } | more  # fmt: skip


def put(engine: Engine, *rows: dict[str, Any]) -> None:
    with writing(engine) as connection:
        connection.execute(insert(REQUESTS), list(rows))


def grade(engine: Engine, request_id: str, time: float, score: float) -> None:
    with writing(engine) as connection:
        connection.execute(
            insert(FEEDBACK).values(
                request_id=request_id, source="user", idempotency_key="", time=time, score=score
            )
        )


def test_conversations_settle_once_in_the_order_of_their_first_request(engine: Engine) -> None:
    put(
        engine,
        row("a1", 10.0, "a"), row("b1", 12.0, "b"), row("a2", 15.0, "a"), row("alone", 13.0),
        row("a3", 200.0, "a"), row("c1", 95.0, "c"), row("old", 5.0, "d"), row("d2", 14.0, "d"),
    )  # fmt: skip
    grade(engine, "a1", 20.0, 1.0)
    grade(engine, "b1", 500.0, 1.0)  # too late
    with engine.connect() as connection:
        found = list(settled(connection, 6.0, 110.0, 50.0))
        assert [(c.name, len(c.rows)) for c in found] == [("a", 2), ("b", 1), ("alone", 1)]
        assert [list(c.grades) for c in found] == [[1.0, None], [None], [None]]
        again = list(settled(connection, found[-1].began, 1000.0, 50.0))
        assert [c.name for c in again] == ["c"]


def test_new_conversations_are_found_without_reading_the_old(engine: Engine) -> None:
    counts = []
    for old in (200, 5000):
        known = len(counts) and 200
        put(engine, *(row(f"o{i}", 1.0 + i / old, f"o{i}") for i in range(known, old)))
        if not known:
            put(engine, *(row(f"n{i}", 10.0 + i, f"n{i}") for i in range(100)))
        with engine.connect() as connection:
            steps = count()
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.set_progress_handler(lambda steps=steps: next(steps) < 0, 100)
            assert len(list(settled(connection, 5.0, 200.0, 50.0))) == 100
            driver.set_progress_handler(None, 0)
        counts.append(next(steps))
    assert counts[1] < 1.5 * counts[0]


def test_grades_are_read_as_they_come_once_a_conversation_and_model(engine: Engine) -> None:
    put(engine, row("a1", 10.0, "a"), row("a2", 20.0, "a"), row("b1", 12.0, "b"), row("c", 13.0))
    with writing(engine) as connection:
        connection.execute(
            insert(JUDGEMENTS).values(request_id="b1", judge="x", model_a="strong", model_b="weak",
                                      winner="strong", time=9000.0)
        )  # fmt: skip
    for name, time in (("a2", 30.0), ("a1", 8000.0), ("c", 40.0), ("b1", 9500.0)):
        grade(engine, name, time, 1.0)
    with engine.connect() as connection:

        def read(cursor: float, until: float) -> list[tuple[str, str, float]]:
            found = first_grades(connection, cursor, until)
            return [(g.request_id, g.model, g.grade) for g, row in found if row.request_id]

        assert read(0.0, 39.0) == [("a2", "weak", 1.0)]
        assert read(30.0, 8000.0) == [("c", "weak", 1.0)]  # a1 is of a conversation that had one
        assert read(8000.0, 9999.0) == [("b1", "strong", 1.0), ("b1", "weak", 0.0)]
        assert read(9999.0, 99999.0) == []


def test_quality_is_watched_by_late_grades_of_this_router_s_requests(
    engine: Engine, tmp_path: Path
) -> None:
    write_state(tmp_path, Drift())
    put(
        engine,
        *(row(f"{i}", 1.0 + i, router_checksum="now") for i in range(40)),
        row("among candidates", 30.0, router_checksum="now", win_rate=None, scores={"weak": 0.9}),
        row("named outright", 31.0, win_rate=None),
        *(row(f"failed {i}", 1.0 + i, status=502, router_checksum="now") for i in range(5)),
        *(row(f"canary {i}", 1.0 + i, arm=CANARY, router_checksum="now") for i in range(5)),
        *(row(f"before {i}", 0.5, router_checksum="old") for i in range(5)),
    )
    watcher = Watcher(lambda: engine, lambda *_, **__: None, drift=True, settle_s=10.0)
    watcher.step(100.0)
    for name in [*(f"{i}" for i in range(40)), "among candidates", "named outright"] + [
        f"{kind} {i}" for kind in ("failed", "canary", "before") for i in range(5)
    ]:
        grade(engine, name, 5000.0, 1.0)
    for now in (5005.0, 5020.0, 5030.0):
        watcher.step(now)
    drift = read_state(tmp_path, Drift)
    assert drift is not None
    stream = drift.streams["quality of weak"]
    assert isinstance(stream, QualityStream)
    counts = {kind: fit.count - 2 for kind, fit in stream.fits.items()}
    assert counts == {"grade, rank 0": 41, "grade, rank 0, no score": 1}


def canary_rows(canary: Canary, count: int, start: float, rng: np.random.Generator,
                quality: float) -> list[dict[str, Any]]:  # fmt: skip
    rows = []
    for i in range(count):
        name = f"conversation {start} {i}"
        arm = canary.arm(name)
        failed = arm == CANARY and rng.random() > quality
        rows.append(
            row(f"{start} {i}", start + i / 10, name, arm=arm, status=502 if failed else 200)
        )
    return rows


def test_a_canary_is_rolled_back_by_what_is_in_the_journal(engine: Engine, tmp_path: Path) -> None:
    rules = Rules(stages=(0.5,), settle_s=60.0)
    canary = Canary.start("new", rules, 1000.0)
    write_state(tmp_path, canary)
    said: list[tuple[str, dict[str, Any]]] = []

    def log(event: str, *_: int, **facts: Any) -> None:
        said.append((event, facts))

    put(engine, *canary_rows(canary, 600, 1001.0, np.random.default_rng(0), 0.7))
    # Two workers: what one has counted the other does not count again.
    watchers = [Watcher(partial(open_journal, str(engine.url)), log, canary=True) for _ in range(2)]
    watchers[0].step(1040.0)
    assert read_state(tmp_path, Canary).conversations == {CANARY: 0, CONTROL: 0}  # type: ignore[union-attr]
    for now in (1070.0, 1080.0, 1200.0):
        for watcher in watchers:
            watcher.step(now)
    for watcher in watchers:
        watcher.close()
    found = read_state(tmp_path, Canary)
    assert found is not None
    assert found.status == "reverted"
    assert sum(found.conversations.values()) <= 600
    assert said == [("canary: reverted", {"reason": "alarm: errors worse than allowed"})]


def test_a_conversation_that_the_canary_did_not_assign_is_not_counted(
    engine: Engine, tmp_path: Path
) -> None:
    canary = Canary.start("new", Rules(stages=(0.5,), settle_s=10.0), 0.0)
    write_state(tmp_path, canary)
    name = next(n for n in map(str, range(99)) if canary.arm(n) == CANARY)
    put(
        engine, row("1", 1.0, name, arm=CONTROL), row("2", 2.0, "named outright"),
        row("3", 3.0, name + " ", arm=STALE),
    )  # fmt: skip
    watcher = Watcher(lambda: engine, lambda *_, **__: None, canary=True)
    watcher.step(100.0)
    assert read_state(tmp_path, Canary).conversations == {CANARY: 0, CONTROL: 0}  # type: ignore[union-attr]


CHANGES: dict[str, dict[str, Any]] = {
    "win_rate": {"win_rate": 0.9},
    "output_tokens": {"output_tokens": 500},
}


def watch_a_change(
    engine: Engine, folder: Path, canary: Canary, *, arm: str | None = None, changed: str
) -> Canary:
    """The canary after traffic in which a value of each later request differs, and two steps."""
    write_state(folder, canary)
    write_state(folder, Drift())
    put(
        engine,
        *(
            row(f"{i}", 100.0 + i / 10, arm=arm) | (CHANGES.get(changed, {}) if i >= 350 else {})
            for i in range(700)
        ),
    )
    for i in range(700):
        grade(engine, f"{i}", 170.5, float(i < 350 or changed != "quality"))
    watcher = Watcher(
        lambda: engine, lambda *_, **__: None, canary=True, drift=True, settle_s=100.0
    )
    watcher.step(1000.0)
    watcher.step(1002.0)
    found = read_state(folder, Canary)
    assert found is not None
    return found


def running(**more: Any) -> Canary:
    return Canary.start("new", Rules(stages=(0.5,), settle_s=10.0, **more), 50.0)


@pytest.mark.parametrize(
    ("changed", "stream"), [("win_rate", "win_rate"), ("quality", "quality of weak")]
)
def test_drift_rolls_a_running_canary_back(
    engine: Engine, tmp_path: Path, changed: str, stream: str
) -> None:
    found = watch_a_change(engine, tmp_path, running(), changed=changed)
    assert [(e.what, e.reason) for e in found.events] == [
        ("started", ""), ("reverted", f"drift of {stream}"),
    ]  # fmt: skip


def test_what_drift_does_not_roll_back(engine: Engine, tmp_path: Path) -> None:
    frozen = running()
    frozen.freeze(60.0)
    assert watch_a_change(engine, tmp_path, frozen, changed="win_rate").status == "frozen"
    drift = read_state(tmp_path, Drift)
    assert drift is not None
    [alarm] = drift.alarms
    for canary in (
        running(on_drift="none"),
        Canary.start("new", Rules(), alarm.time),  # begun when the change had been noticed
    ):
        canary.drifted(drift.alarms, 1000.0)
        assert canary.status == "running"
    saved = running(on_drift="none").to_dict()
    assert Canary.from_dict(saved).rules.on_drift == "none"
    del saved["rules"]["on_drift"]  # as a file of before has it
    assert Canary.from_dict(saved).rules.on_drift == "revert"


def test_longer_answers_do_not_roll_a_canary_back(engine: Engine, tmp_path: Path) -> None:
    found = watch_a_change(engine, tmp_path, running(), changed="output_tokens")
    assert read_state(tmp_path, Drift).alarms  # type: ignore[union-attr]
    assert found.status == "running"


@pytest.mark.parametrize("arm", [CANARY, STALE])
def test_what_a_canary_routed_is_no_drift(engine: Engine, tmp_path: Path, arm: str) -> None:
    watch_a_change(engine, tmp_path, running(), arm=arm, changed="quality")
    drift = read_state(tmp_path, Drift)
    assert drift is not None
    assert not drift.streams
    assert not drift.alarms


def test_drift_of_a_journal(engine: Engine, tmp_path: Path) -> None:
    said: list[str] = []
    watcher = Watcher(
        lambda: engine, lambda event, *_, **__: said.append(event), drift=True, settle_s=10.0
    )
    watcher.step(0.0)
    rng = np.random.default_rng(0)
    traffic = draw(700, rng, turns=1.0)
    traffic.win_rate[350:] = 0.9
    write_traffic(engine, traffic, traffic.log(rng), start=100.0)
    with writing(engine) as connection:
        for time, dollars in ((1.0, 0.5), (2.0, 0.7)):
            connection.execute(
                insert(PRICES).values(model="weak", time=time, input_usd_per_mtok=dollars)
            )
    for now in (300.0, 600.0, 2000.0):
        watcher.step(now)
    watcher.close()
    drift = read_state(tmp_path, Drift)
    assert drift is not None
    assert {alarm.stream for alarm in drift.alarms} == {"win_rate", "price of weak"}
    assert sorted(said) == ["drift: price of weak", "drift: win_rate"]
    assert drift.streams["quality of weak"].seen > 100


def test_prompts_drift_among_candidates_too(engine: Engine, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [
        row(f"r{i}", 1.0 + i, win_rate=None, chosen="b", answered_by="b", output_tokens=None,
            scores={"a": float(rng.random()) / 2 + 0.4 * (i >= 300), "b": 0.6})
        for i in range(500)
    ]  # fmt: skip
    put(engine, *rows)
    write_state(tmp_path, Drift({"cursor": 0.5}))
    watcher = Watcher(
        partial(open_journal, f"sqlite:///{tmp_path}/journal.db"),
        lambda *_, **__: None,
        drift=True,
        settle_s=10.0,
    )
    watcher.step(10_000.0)
    watcher.close()
    drift = read_state(tmp_path, Drift)
    assert drift is not None
    [alarm] = drift.alarms
    assert alarm.stream == "score"
    assert alarm.time > 300
    assert alarm.is_of_traffic
