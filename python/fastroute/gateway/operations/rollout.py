"""A canary's router and who gets it, and the thread that watches the journal."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.decider import Decider
from fastroute.errors import FastRouteError, InvalidInputError
from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.logs import log
from fastroute.rollout.canary import Canary
from fastroute.rollout.files import change, read_canary, read_drift

if TYPE_CHECKING:
    from fastroute.gateway.operations.metrics import Metrics

#: Seconds between looks at the state's file, and between readings of the journal.
_LOOK_S, _READ_S = 1.0, 2.0


class CanaryRouter:
    """The new router, and which conversations it has now.

    A state of another router is replaced by a new canary; one of the same router goes on.
    """

    def __init__(self, config: Config) -> None:
        section, routing = config.canary, config.routing
        assert section is not None
        self.router = section.choice.make()
        # It checks that the router is one for these models, and has the default.
        decider = Decider([self.router], routing.strong_model, routing.weak_model)
        own = decider.default_threshold(self.router.name)
        self.threshold = own if section.threshold is None else section.threshold
        self._path = Path(section.state)
        checksum = f"{self.router.provenance.checksum or section.router} at {self.threshold:g}"

        def begin(before: Canary | None) -> Canary | None:
            if before is not None and before.router == checksum:
                return None
            return Canary.start(checksum, section.rules, time.time())

        found = change(self._path, read_canary, begin)
        assert found is not None
        self._canary, self._looked_s, self._changed = found, 0.0, 0

    @property
    def share(self) -> float:
        """The share of conversations that it has."""
        return self._canary.share

    def arm(self, conversation: bytes) -> str:
        """Which router a conversation gets, "canary" or "control"."""
        now = time.monotonic()
        if now - self._looked_s >= _LOOK_S:
            self._looked_s = now
            self._look()
        return self._canary.arm(conversation.hex())

    def _look(self) -> None:
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._canary = read_canary(self._path) or self._canary
                self._changed = changed
        except (OSError, InvalidInputError) as error:  # as it was, until it can be read again
            log("the canary's state can't be read", logging.ERROR, reason=str(error))


class Repeated:
    """A thread that does ``step`` every so often; that it fails is logged once until it does not.

    ``last`` is done at its end. ``complaint`` says what a failure means.
    """

    def __init__(
        self,
        name: str,
        every_s: float,
        step: Callable[[], None],
        last: Callable[[], None],
        complaint: str,
    ) -> None:
        self._every_s, self._step, self._last, self._complaint = every_s, step, last, complaint
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
        self._last()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join(10.0)


class Watching:
    """A thread that advances canary and drift by the journal, and the worker of ``[learn]``."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        from fastroute.gateway.operations.learning import Learning
        from fastroute.journal.database import open_journal
        from fastroute.rollout.watch import Watcher

        self._metrics = metrics
        journal, canary, drift = config.journal, config.canary, config.drift
        assert journal is not None
        watcher = Watcher(
            partial(open_journal, journal.url, password=journal.password),
            self._tell,
            canary=None if canary is None else Path(canary.state),
            drift=None if drift is None else Path(drift.state),
            **({} if drift is None else {"settle_s": drift.settle_s}),
        )
        self._thread = Repeated(
            "rollout", _READ_S, lambda: watcher.step(time.time()), watcher.close,
            "canary and drift can't be watched",
        )  # fmt: skip
        self.learning = None if config.learn is None else Learning(config, metrics)

    def _tell(self, event: str, level: int = logging.INFO, **facts: Any) -> None:
        log(event, level, **facts)
        self._metrics.rollout_events.labels(event).inc()

    def close(self) -> None:
        """End the threads."""
        self._thread.close()
        if self.learning is not None:
            self.learning.close()


def rollout_json(config: Config, watching: Watching | None) -> dict[str, Any]:
    """What the page shows: null for what is off."""
    learning = watching and watching.learning
    canary = config.canary and read_canary(Path(config.canary.state))
    drift = config.drift and read_drift(Path(config.drift.state))
    return {
        "canary": canary and canary.summary(),
        "drift": (drift.summary() if drift else {"streams": [], "alarms": []})
        if config.drift
        else None,
        "learn": learning and learning.summary(),
    }
