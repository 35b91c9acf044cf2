"""What this process shares with other replicas: sessions, circuits, the held share, limits."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastroute.candidates.policies import DAY_S, ChoicePolicy, DayAccount, SpendPerDay
from fastroute.gateway.operations.budgets import Budgets
from fastroute.gateway.operations.logs import log, log_failure
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.resilience.breaker import BreakerTransport
from fastroute.state.store import MemoryStore, Store
from fastroute.state.valkey import CLAIM_WAIT_S, ValkeyStore

if TYPE_CHECKING:
    from fastroute.gateway.config.settings import Config
    from fastroute.gateway.gateway import Gateway
    from fastroute.gateway.operations.metrics import Metrics
    from fastroute.gateway.request.document import Document
    from fastroute.http.request import Endpoint, Request
    from fastroute.share_control import ShareControl
    from fastroute.state.leases import Reservation

#: Seconds between looks at what other replicas say.
BEAT_S = 0.5
#: Seconds after which the held share forgets replicas, if all have stopped.
_SHARE_TTL_S = 86_400.0


class Circuits:
    """Tells other replicas of endpoints that fail here, and learns of theirs."""

    def __init__(self, store: Store, open_s: float) -> None:
        self._store = store
        self._open_s = open_s
        self._endpoints: dict[str, Endpoint] = {}
        self._breaker: BreakerTransport | None = None

    def attach(
        self, breaker: BreakerTransport, endpoints: Iterable[Endpoint], open_s: float
    ) -> None:
        """Keep ``breaker`` up to date."""
        self._breaker, self._open_s = breaker, open_s
        self._endpoints = {_name(endpoint): endpoint for endpoint in endpoints}

    def observe(self, event: str, request: Request) -> None:
        """Tell what a breaker found."""
        if event in ("breaker_opened", "breaker_closed"):
            found = json.dumps([event == "breaker_opened", time.time()]).encode()
            self._store.put(_name(request.endpoint), found, self._open_s)

    async def learn(self) -> None:
        """Take over what other replicas found."""
        breaker, names = self._breaker, list(self._endpoints)
        found = await self._store.get(*names, wait_s=CLAIM_WAIT_S) if breaker is not None else None
        for name, value in zip(names, found or (), strict=False):
            if value is not None and breaker is not None:
                opened, at_s = json.loads(value)
                ago_s = time.time() - at_s
                if breaker.adopt(self._endpoints[name], opened=opened, ago_s=ago_s):
                    log("an endpoint fails for another replica, and is skipped", logging.WARNING)


def _name(endpoint: Endpoint) -> str:
    # The key may differ in rights and limits; neither it nor the address is shown.
    said = json.dumps([endpoint.base_url, endpoint.api_key, endpoint.api])
    return f"circuit:{hashlib.blake2b(said.encode(), digest_size=16).hexdigest()}"


class Shared:
    """The store of this process, and what is kept in it. It outlives reloads."""

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._metrics = metrics
        self.store: Store = MemoryStore()
        if config.state is not None:
            self.store = ValkeyStore(
                config.state.settings, waited=metrics.waited_for_state, changed=self._changed
            )
        self.circuits = Circuits(self.store, config.resilience.breaker_open_s)
        self.budgets: Budgets | None = None
        self._callers: list[str] = []
        self._control: tuple[str, ShareControl] | None = None
        self._gateway: Gateway | None = None
        self._beat: asyncio.Task[None] | None = None

    @property
    def is_degraded(self) -> bool:
        """Whether this replica goes on without the server that it should share."""
        return not self.store.is_up

    def use(self, gateway: Gateway) -> None:
        """Serve the config of ``gateway`` from now on."""
        config, store = gateway.config, self.store
        if store.is_shared:
            gateway.sessions.store = store
        self._callers = [key.name for key in config.keys] or ["anyone"]
        if config.budgets is None:
            self.budgets = None
        elif self.budgets is None:
            self.budgets = Budgets(store, config.budgets)
        else:
            self.budgets.configure(config.budgets)
        self._gateway = gateway
        control, decider = gateway.decider.share_control, gateway.decider
        self._control = None
        if control is not None and store.is_shared:
            checksum = decider.routers[decider.default_router].provenance.checksum
            said = f"{decider.default_router} {checksum} {control.held}"
            name = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
            self._control = (f"share:{name}", control)

    async def start(self) -> None:
        """Connect to the server, and begin to look at it."""
        if self.store.is_shared:
            self.store.start()
            self._beat = asyncio.get_running_loop().create_task(self._look())

    async def admit(
        self, gateway: Gateway, document: Document, caller: str, *, is_billed: bool
    ) -> Reservation | None:
        """As Budgets.admit."""
        if self.budgets is None:
            return None
        try:
            return await self.budgets.admit(gateway, document, caller, is_billed=is_billed)
        except RefusalError as refusal:
            self._metrics.budget_refusals.labels(caller, refusal.code).inc()
            raise

    async def aclose(self) -> None:
        """Tell the server what is left to tell, and leave it."""
        if self._beat is not None:
            self._beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._beat
        if self.budgets is not None:
            await self.budgets.aclose()
        if self.store.is_shared:
            await self._spend_together()
        await self.store.aclose()

    async def _look(self) -> None:
        while True:
            try:
                await self.circuits.learn()
                await self._share()
                await self._spend_together()
                if self.budgets is not None:
                    await self.budgets.open(self._callers)
                    self.budgets.renew()
            except Exception:
                log_failure("shared state could not be read")
            await asyncio.sleep(BEAT_S)

    async def _share(self) -> None:
        """Hold the share over all replicas."""
        if self._control is not None:
            name, control = self._control
            total = await self.store.total(name, own := control.own_excess, _SHARE_TTL_S)
            if total is not None:
                control.others_excess = total - own

    async def _spend_together(self) -> None:
        """Hold a day's dollars of many models over all replicas."""
        gateway = self._gateway
        if gateway is None or gateway.candidates is None:
            return
        await self._spend("control", gateway.candidates.policy)
        if gateway.canary is not None:
            await self._spend("canary", gateway.canary.chooser.policy)
        self._metrics.spending(gateway.candidates)

    async def _spend(self, arm: str, policy: ChoicePolicy) -> None:
        if not isinstance(policy, SpendPerDay):
            return
        own, store = policy.account, self.store
        name = f"spend:{arm}:{policy!r}:{own.since_s // DAY_S:.0f}"
        # Who has stopped has spent, but asks no more: that sum begins anew each hour.
        hour = f"{name}:{time.time() // 3600:.0f}"
        usd = await store.total(name, own.spent_usd, 2 * DAY_S)
        requests = await store.total(hour, own.requests, 2 * 3600.0)
        begun = await store.get(f"{name}:since", wait_s=CLAIM_WAIT_S)
        if usd is None or requests is None or begun is None:
            return
        since_s = own.since_s if begun[0] is None else float(begun[0])
        if begun[0] is None or own.since_s < since_s:
            store.put(f"{name}:since", repr(own.since_s).encode(), 2 * DAY_S)
        policy.hear(DayAccount(since_s, usd - own.spent_usd, requests - own.requests))

    def _changed(self, up: bool, reason: str | None) -> None:
        self._metrics.state_up(up)
        if up:
            log("the server of [state] answers")
        else:
            log("no answer from the server of [state]", logging.WARNING, reason=reason)
