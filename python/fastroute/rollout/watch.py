"""Reads the journal every few seconds, and lets canary and drift decide by what has settled.

Every worker and replica may do so: the state has how far it has come, and of two that change it at
once one begins again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, select

from fastroute.journal.schema import PRICES
from fastroute.rollout.canary import CANARY, CONTROL, GRACE_S, Canary, Event, Settled
from fastroute.rollout.conversations import Conversation, first_grades, settled
from fastroute.rollout.drift import Alarm, Drift
from fastroute.rollout.states import change

#: Seconds until a grade is in the journal, and its request's row.
_LAG_S = 10.0
_PRICE_NAMES = ("input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok")


class Log(Protocol):
    """Writes a line to a log."""

    def __call__(self, event: str, level: int = ..., **facts: Any) -> None: ...


class Watcher:
    """Advances the states in the journal.

    Args:
        connect: opens the journal, at the first step.
        log: is told of alarms and of a canary's stages.
        canary, drift: whether they are on. A canary is there already.
        settle_s: for drift; a canary has its own.
    """

    def __init__(
        self,
        connect: Callable[[], Engine],
        log: Log,
        *,
        canary: bool = False,
        drift: bool = False,
        settle_s: float = 600.0,
    ) -> None:
        self._connect, self._log = connect, log
        self._canary, self._drift, self._settle_s = canary, drift, settle_s
        self._engine: Engine | None = None

    def step(self, now: float) -> None:
        """Count what has settled since the last step, anybody's. Raises as SQLAlchemy does, and
        InvalidInputError for a state that can't be read."""
        if self._engine is None:
            self._engine = self._connect()
        with self._engine.connect() as connection:
            alarms: Sequence[Alarm] = ()
            if self._drift:
                alarms = self._step_drift(connection, now)
            if self._canary:
                self._step_canary(connection, now, alarms)

    def close(self) -> None:
        """Close the journal."""
        if self._engine is not None:
            self._engine.dispose()

    def _step_canary(self, connection: Connection, now: float, alarms: Sequence[Alarm]) -> None:
        news: list[Event] = []

        def advance(canary: Canary | None) -> Canary | None:
            news.clear()
            if canary is None or canary.status == "reverted":
                return None
            told, cursor = len(canary.events), canary.cursor
            for found in settled(connection, cursor, now, canary.rules.settle_s):
                counted = _of_canary(found, canary)
                if counted is not None:
                    canary.observe(counted, now + GRACE_S)
                canary.cursor = max(canary.cursor, found.began)
            canary.drifted(alarms, now)
            news.extend(canary.events[told:])
            return canary if canary.cursor > cursor or news else None

        change(connection.engine, Canary, advance)
        for event in news:
            level = logging.ERROR if event.reason.startswith("alarm") else logging.WARNING
            self._log(f"canary: {event.what}", level, reason=event.reason)

    def _step_drift(self, connection: Connection, now: float) -> Sequence[Alarm]:
        """Returns the latest alarms, old ones too: a process may have been killed after it wrote
        them and before it changed the canary."""
        news: list[Alarm] = []

        def advance(before: Drift | None) -> Drift | None:
            # What was in the journal before is not watched: it may be of another configuration.
            drift = Drift({"cursor": now - self._settle_s}) if before is None else before
            told, cursors = len(drift.alarms), (drift.cursor, drift.grades_cursor)
            is_new = _observe_prices(connection, drift) or before is None
            for found in settled(connection, drift.cursor, now, self._settle_s):
                _observe(drift, found)
                drift.cursor = max(drift.cursor, found.began)
            for grade, row in first_grades(connection, drift.grades_cursor, now - _LAG_S):
                is_of_router = row.router_checksum in (None, drift.router)
                if is_of_router and not _is_new(row) and not _failed(row):
                    score = row.win_rate
                    if score is None and row.scores:  # among candidates
                        score = row.scores.get(grade.model)
                    kind = f"{'comparison' if grade.compares else 'grade'}, rank {grade.rank}"
                    drift.observe_grade(grade.model, kind, score, grade.grade, row.time)
                drift.grades_cursor = grade.time
            news[:] = drift.alarms[told:]
            is_new = is_new or cursors != (drift.cursor, drift.grades_cursor)
            return drift if is_new else None

        drift = change(connection.engine, Drift, advance)
        assert drift is not None
        for alarm in news:
            self._log(f"drift: {alarm.stream}", logging.WARNING, reason=alarm.reason)
        return drift.alarms


def _of_canary(found: Conversation, canary: Canary) -> Settled | None:
    """A conversation as a canary counts it; None for one that it did not assign."""
    arm = found.rows[0].arm
    if arm not in (CANARY, CONTROL) or canary.arm(found.name) != arm:
        return None
    kept = [(r, g) for r, g in zip(found.rows, found.grades, strict=True) if r.arm == arm]
    seconds = [r.latency_ms / 1000.0 for r, _ in kept if not _failed(r) and r.latency_ms]
    return Settled(
        found.began,
        arm,
        canary.share,
        _mean([g for _, g in kept if g is not None]),
        fmean(float(_failed(r)) for r, _ in kept),
        _mean(seconds),
        _mean([r.cost_usd for r, _ in kept if r.cost_usd is not None]),
    )


def _is_new(row: Any) -> bool:
    """Whether the new router may have routed a request."""
    return row.arm not in (None, CONTROL)


def _failed(row: Any) -> bool:
    """Whether a request failed by the provider's or the gateway's fault."""
    return row.status is not None and row.status >= 500


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _observe(drift: Drift, found: Conversation) -> None:
    first = found.rows[0]
    stream, score = "win_rate", first.win_rate
    if score is None and first.scores:  # among candidates: the mean of what each promises
        stream, score = "score", fmean(first.scores.values())
    if score is not None and not _is_new(first) and drift.observe_router(first.router_checksum):
        drift.observe(stream, score, first.time)
    seen: set[str] = set()
    for row in found.rows:
        model = row.answered_by or row.chosen
        if model is None or row.output_tokens is None or _is_new(row) or _failed(row):
            continue
        if model not in seen:
            seen.add(model)
            drift.observe(f"output tokens of {model}", float(row.output_tokens), row.time)


def _observe_prices(connection: Connection, drift: Drift) -> bool:
    before = dict(drift.prices)
    for row in connection.execute(select(PRICES).order_by(PRICES.c.time)):
        if row.input_usd_per_mtok is not None and row.time > drift.prices_cursor:
            prices = [float(getattr(row, name) or 0.0) for name in _PRICE_NAMES]
            drift.observe_price(row.model, prices, row.time)
    return drift.prices != before
