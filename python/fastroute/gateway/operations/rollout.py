"""A canary's router and who gets it, and the thread that watches the journal."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastroute.decider import Decider
from fastroute.errors import FastRouteError, InvalidInputError
from fastroute.gateway.config.candidates import PolicyConfig
from fastroute.gateway.config.rollout import router_choice
from fastroute.gateway.config.settings import Config
from fastroute.gateway.operations.logs import log
from fastroute.gateway.request.candidates import candidate_decider
from fastroute.many_models import CandidateDecider
from fastroute.rollout.canary import CANARY, CONTROL, Canary
from fastroute.rollout.files import change, read_canary, read_drift

if TYPE_CHECKING:
    from fastroute.gateway.gateway import Gateway
    from fastroute.gateway.operations.metrics import Metrics

#: Seconds between looks at the state's file, and between readings of the journal.
_LOOK_S, _READ_S = 1.0, 2.0
#: How folders of routers begin that [learn] has proposed.
PROPOSED = "proposed-"


class CanaryRouter:
    """The new router, or the new choice among candidates, and which conversations it has now.

    A state of another router is replaced by a new canary; one of the same router goes on.

    Attributes:
        folder: of a router that was proposed; "" of the one that the configuration names.
        router, threshold: of a pair.
    """

    def __init__(self, config: Config, folder: str = "") -> None:
        section, routing = config.canary, config.routing
        assert section is not None
        self.folder, self._chooser = folder, None
        if config.candidates:
            policy = _canary_policy(config, folder or section.router)
            self._chooser = candidate_decider(config, policy)
            router = self.chooser.router
            checksum = None if router is None else router.provenance.checksum
            self._label = f"{checksum or 'priors'} with {policy.choose}"
        else:
            self.router = router_choice(f"mf={folder}" if folder else section.router or "").make()
            # It checks that the router is one for these models, and has the default.
            decider = Decider([self.router], routing.strong_model, routing.weak_model)
            own = decider.default_threshold(self.router.name)
            self.threshold = own if section.threshold is None else section.threshold
            name = self.router.provenance.checksum or section.router
            self._label = f"{name} at {self.threshold:g}"
        self._path = Path(section.state)

        def begin(before: Canary | None) -> Canary | None:
            if before is not None and before.router == self._label:
                return None
            return Canary.start(self._label, section.rules, time.time(), folder)

        found = change(self._path, read_canary, begin)
        assert found is not None
        self._canary, self._looked_s, self._changed = found, 0.0, 0

    @property
    def chooser(self) -> CandidateDecider:
        """What chooses among candidates."""
        assert self._chooser is not None
        return self._chooser

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
        if self._canary.router != self._label:  # another process has begun with another router
            return CONTROL
        return self._canary.arm(conversation.hex())

    def _look(self) -> None:
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._changed:
                self._canary = read_canary(self._path) or self._canary
                self._changed = changed
        except (OSError, InvalidInputError) as error:  # as it was, until it can be read again
            log("the canary's state can't be read", logging.ERROR, reason=str(error))


def _canary_policy(config: Config, router: str | None) -> PolicyConfig:
    """How the canary chooses among candidates: as beside its router, unless its section says."""
    assert config.canary is not None
    choose = config.canary.policy
    if router is not None and choose is None:
        with contextlib.suppress(OSError, ValueError, KeyError):  # another file, or none
            beside = tomllib.loads(Path(router, "gateway.toml").read_text("utf-8"))
            choose = PolicyConfig(choose=beside["policy"]["choose"]).choose
    changed = {"choose": choose, "router": router}
    return config.policy.model_copy(update={k: v for k, v in changed.items() if v is not None})


def renew_canary(gateway: Gateway) -> None:
    """Give ``gateway`` the canary of its configuration; where that names no router, of the latest
    that ``[learn]`` has proposed, once the one before is rolled back. Raises as routers do."""
    config, present = gateway.config, gateway.canary
    section, folder = config.canary, ""
    if section is None:
        return
    if section.router is None and section.policy is None:
        assert config.learn is not None
        state = read_canary(Path(section.state))
        is_on = state is not None and state.status != "reverted" and state.folder
        proposed = Path(config.learn.output).glob(f"{PROPOSED}*")
        folder = state.folder if state and is_on else max(map(str, proposed), default="")
        if not folder:
            return
    if present is not None and present.folder == folder:
        return
    found = CanaryRouter(config, folder)
    if not config.candidates:  # a router beside the others
        gateway.decider.routers = {**gateway.decider.routers, CANARY: found.router}
    gateway.canary = found
    log("canary", router=section.router or folder, share=found.share)


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
    """A thread that advances canary and drift by the journal, and the worker of ``[learn]``.

    ``gateway`` gives the current one.
    """

    def __init__(self, config: Config, metrics: Metrics, gateway: Callable[[], Gateway]) -> None:
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

        def step() -> None:
            watcher.step(time.time())
            renew_canary(gateway())

        self._thread = Repeated(
            "rollout", _READ_S, step, watcher.close, "canary and drift can't be watched"
        )
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
