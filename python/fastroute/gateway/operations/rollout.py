"""Threads that watch the journal: for a canary's stage, drift, and proposals of ``[learn]``."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from fastroute.errors import FastRouteError, JournalError
from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.canary import renew_canary
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.metrics import Metrics
from fastroute.journal.database import open_journal, reason
from fastroute.journal.jobs import Job
from fastroute.rollout.canary import Canary
from fastroute.rollout.drift import Drift
from fastroute.rollout.states import read, take_over
from fastroute.rollout.watch import Watcher

if TYPE_CHECKING:
    from fastroute.gateway.gateway import Gateway

#: Seconds between looks at a canary's stage; between readings of the journal, over all processes;
#: and until another process reads it where one was killed at that.
_LOOK_S, _STEP_S, _LEASE_S = 1.0, 2.0, 20.0


class Repeated:
    """A thread that does ``step`` every so often; that it fails is logged once until it does not.

    ``complaint`` says what a failure means.
    """

    def __init__(
        self,
        name: str,
        every_s: float,
        step: Callable[[], None],
        complaint: str,
    ) -> None:
        self._every_s, self._step, self._complaint = every_s, step, complaint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_stopping(self) -> bool:
        """Whether the step should end."""
        return self._stop.is_set()

    def _run(self) -> None:
        failed = False
        while not self._stop.wait(self._every_s):
            try:
                self._step()
                failed = False
            except Exception as error:  # the database may be away for a while
                if not failed:
                    known = isinstance(error, FastRouteError)
                    reason = str(error) if known else type(error).__name__
                    log(self._complaint, logging.ERROR, reason=reason)
                failed = True

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10.0)


class Watching:
    """Threads that follow a canary's stage and advance canary and drift by the journal, and the
    worker of ``[learn]``. One process at a time advances them, over all workers and replicas.

    ``gateway`` gives the current one.
    """

    def __init__(self, config: Config, metrics: Metrics, gateway: Callable[[], Gateway]) -> None:
        from fastroute.gateway.operations.learning import Learning

        journal, canary, drift = config.journal, config.canary, config.drift
        assert journal is not None
        self._metrics = metrics
        self._connect = partial(open_journal, journal.url, password=journal.password)
        self._engine: Engine | None = None
        self._opening = threading.Lock()
        self._watcher = Watcher(
            self.engine,
            self._tell,
            canary=canary is not None,
            drift=drift is not None,
            **({} if drift is None else {"settle_s": drift.settle_s}),
        )
        self._drift_file = None if drift is None else Path(drift.state)
        self._threads: list[Repeated] = []
        if canary is not None or drift is not None:
            complaint = "canary and drift can't be watched"
            self._threads.append(Repeated("rollout", _LOOK_S, self._advance, complaint))
        if canary is not None:

            def follow() -> None:
                renew_canary(gateway(), self.engine())

            complaint = "the canary's stage can't be read"
            self._threads.append(Repeated("canary", _LOOK_S, follow, complaint))
        self.learning = None if config.learn is None else Learning(config, metrics, self.engine)

    def engine(self) -> Engine:
        """The journal. Raises JournalError where it can't be opened."""
        with self._opening:
            if self._engine is None:
                self._engine = self._connect()
            return self._engine

    def _advance(self) -> None:
        job = Job(self.engine(), "rollout", lease_s=_LEASE_S)
        if job.begin(time.time(), _STEP_S) is None:
            return
        try:
            if self._drift_file is not None:
                take_over(job.engine, Drift, self._drift_file)
            self._watcher.step(time.time())
        finally:
            job.end()

    def _tell(self, event: str, level: int = logging.INFO, **facts: Any) -> None:
        log(event, level, **facts)
        self._metrics.rollout_events.labels(event).inc()

    def close(self) -> None:
        """End the threads."""
        for thread in self._threads:
            thread.close()
        if self.learning is not None:
            self.learning.close()
        if self._engine is not None:
            self._engine.dispose()


def rollout_json(config: Config, watching: Watching | None) -> dict[str, Any]:
    """What the page shows: null for what is off. Raises JournalError where the journal is away."""
    learning = watching and watching.learning
    found: dict[str, Any] = {"canary": None, "drift": None}
    found["learn"] = learning and learning.summary()
    try:
        if watching is not None and config.canary is not None:
            canary = read(watching.engine(), Canary)
            found["canary"] = canary and canary.summary()
        if watching is not None and config.drift is not None:
            found["drift"] = (read(watching.engine(), Drift) or Drift()).summary()
    except SQLAlchemyError as error:
        raise JournalError(f"the journal can't be read: {reason(error)}") from error
    return found
