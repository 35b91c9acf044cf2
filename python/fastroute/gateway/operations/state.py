"""What is kept across reloads: the current gateway, the older ones still in use, the counts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastroute.errors import FastRouteError
from fastroute.gateway.config.settings import Config
from fastroute.gateway.gateway import Gateway
from fastroute.gateway.operations.logs import log
from fastroute.gateway.operations.memory import give_back_memory
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.resilience import build_transport
from fastroute.gateway.operations.shared import Shared
from fastroute.gateway.operations.tracing import NoTracing, OpenTelemetry, Tracing
from fastroute.gateway.protocol.limits import Admission
from fastroute.gateway.request.affinity import Sessions

if TYPE_CHECKING:
    from fastroute.gateway.journal.recorder import Recorder
    from fastroute.gateway.operations.rollout import Watching


class State:
    """Lends the current gateway to requests; a replaced one is closed with its last.

    ``accepted`` is called when what ``load`` returned last, or ``config``, can be used.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        metrics: Metrics,
        accepted: Callable[[], None] = lambda: None,
    ) -> None:
        self.metrics = metrics
        self.admission = Admission(config.server)
        self.started_s = time.time()
        self.draining = False
        self.host = config.server.host  # or what it stands for, once known
        self.tracing: Tracing = OpenTelemetry() if config.server.opentelemetry else NoTracing()
        self._load = load
        self._accepted = accepted
        self.shared = Shared(config, metrics)
        self._current = self._make(config)
        self.shared.use(self._current)
        metrics.held(self._current.decider.share_control)
        metrics.spending(self._current.candidates)
        self._users: dict[Gateway, int] = {self._current: 0}
        self._reloading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self.recorder = self._record(config)
        self.watching = self._watch(config)

    @property
    def gateway(self) -> Gateway:
        """The current gateway."""
        return self._current

    def lease(self) -> Gateway:
        """The current gateway, kept open until ``release``."""
        self._users[self._current] += 1
        return self._current

    def release(self, gateway: Gateway) -> None:
        """Release ``gateway``."""
        self._users[gateway] -= 1
        self._close_unused()

    async def reload(self) -> bool:
        """Read the config again, and serve new requests by it; requests under way keep the old.

        A config that can't be used changes nothing. Returns whether it was used.
        """
        async with self._reloading:
            try:
                # Routers may take seconds to load, so not in the event loop.
                made = await asyncio.to_thread(lambda: self._make(self._load()))
            except FastRouteError as error:
                log("reload refused", logging.ERROR, reason=str(error))
                return False
            made.sessions = self._carried_sessions(made)
            made.stored = self._current.stored
            self._carry_share(made)
            if made.canary is not None:
                made.canary.carry(self._current.canary)
            self.shared.use(made)
            _carry_account(self._current, made)
            before, self._current = self._current, made
            self._users[made] = 0
            self.metrics.held(made.decider.share_control)
            self.metrics.spending(made.candidates)
            self.admission.configure(made.config.server)
            if self.recorder is not None:
                self.recorder.configure(made.config)
            if made.config != before.config:
                watching, self.watching = self.watching, self._watch(made.config)
                if watching is not None:
                    await asyncio.to_thread(watching.close)
            fixed = ("host", "port", "workers", "opentelemetry", "log_level")
            old, new = before.config.server, made.config.server
            kept = [name for name in fixed if getattr(old, name) != getattr(new, name)]
            if _database(before.config) != _database(made.config):
                kept.append("journal")
            kept += ["state"] if before.config.state != made.config.state else []
            log("reloaded", needs_restart=kept)
            self._close_unused()
            return True

    async def aclose(self) -> None:
        """Close every gateway."""
        if self.recorder is not None:
            await self.recorder.aclose()
        for gateway in list(self._users):
            await gateway.aclose()
        self._users.clear()
        await self.shared.aclose()
        if self.watching is not None:
            await asyncio.to_thread(self.watching.close)
        await asyncio.to_thread(self.tracing.close)

    def _make(self, config: Config) -> Gateway:
        made = Gateway(config, build_transport(config, self.metrics, self.shared.circuits))
        self._accepted()
        return made

    def _record(self, config: Config) -> Recorder | None:
        if config.journal is None:
            return None
        from fastroute.gateway.journal.recorder import Recorder  # it needs the extra journal

        return Recorder(config, self)

    def _watch(self, config: Config) -> Watching | None:
        if config.canary is None and config.drift is None and config.learn is None:
            return None
        from fastroute.gateway.operations.rollout import Watching

        return Watching(config, self.metrics, lambda: self._current)

    def _carried_sessions(self, made: Gateway) -> Sessions:
        before = self._current
        same = (
            before.config.routing.session_affinity == made.config.routing.session_affinity
            and before.decider.model_pair == made.decider.model_pair
        )
        return before.sessions if same else made.sessions

    def _carry_share(self, made: Gateway) -> None:
        """A share goes on from where its threshold is, if it is the same of the same router."""
        before, after = self._current.decider, made.decider
        old, new = before.share_control, after.share_control
        if old is None or new is None or old.held != new.held:
            return
        routers = [d.routers[d.default_router] for d in (before, after)]
        checksums = {router.provenance.checksum for router in routers}
        if type(routers[0]) is type(routers[1]) and len(checksums) == 1:
            after.share_control = old

    def _close_unused(self) -> None:
        for gateway, users in list(self._users.items()):
            if users == 0 and gateway is not self._current:
                del self._users[gateway]
                task = asyncio.get_running_loop().create_task(_close(gateway))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)


def _database(config: Config) -> tuple[str, str | None] | None:
    journal = config.journal
    return None if journal is None else (journal.url, journal.password)


def _carry_account(before: Gateway, after: Gateway) -> None:
    """The policy goes on with its account, if it is the same."""
    old, new = before.candidates, after.candidates
    if old is not None and new is not None and repr(old.policy) == repr(new.policy):
        new.policy = old.policy


async def _close(gateway: Gateway) -> None:
    await gateway.aclose()
    del gateway
    await asyncio.to_thread(give_back_memory)
