"""Limits that hold over all replicas: each uses up leases, and asks for the next in time.

A replica holds a lease on a part of what is left of a limit. It serves requests from the lease
without asking, tells the store what it has used, and gives back what it does not need. The store
grants no more than is left. So use passes the limit by no more than the leases of replicas that
died, or lost their server, before they could tell what they had used.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from fastroute.state.store import Claim, Store
from fastroute.state.valkey import CLAIM_WAIT_S, LEASE_S

#: Seconds after which use is told to the store.
REPORT_S = 0.5
#: Seconds for which an answer of the store that nothing is left is believed.
REFUSED_S = 0.2


@dataclass(eq=False)
class _Account:
    """What one caller may use in one window of time."""

    key: str
    limit: int
    end_s: float  # of the window, by the clock of the ledger
    used: int = 0
    reserved: int = 0
    waiting: int = 0
    granted: int = 0
    total: int = 0
    others: int = 0
    replicas: int = 1
    known: dict[str, int] = field(default_factory=dict)
    asked_s: float = float("-inf")  # when the last answered claim was sent, monotonic
    call: asyncio.Task[bool] | None = None
    report: asyncio.TimerHandle | None = None

    @property
    def free(self) -> int:
        return self.granted - self.used - self.reserved

    @property
    def left(self) -> int:
        """What no replica has used or holds in reserve here, as far as is known."""
        return max(0, self.limit - max(self.total, self.used) - self.reserved)


class Refusal(NamedTuple):
    """Why nothing could be reserved.

    Attributes:
        reason: "used_up" until the window ends; "held" by requests under way here or elsewhere;
            "away": the store can't be asked, and the lease is used up.
        left: what is left of the limit.
        renews_s: when the window ends, in seconds since the epoch.
    """

    reason: str
    left: int
    renews_s: float


class Reservation:
    """A part of a lease, for one request."""

    def __init__(self, ledger: Ledger, account: _Account, amount: int) -> None:
        self.amount = amount
        self._ledger = ledger
        self._account: _Account | None = account

    def settle(self, used: int) -> None:
        """Note what was used in the end, more or less; only the first call counts."""
        account, self._account = self._account, None
        if account is not None:
            account.reserved -= self.amount
            account.used += used
            self._ledger.report_soon(account)


class Ledger:
    """The accounts of one limit by caller. For one event loop.

    Args:
        store: where replicas meet.
        name: what keys begin with.
        window_s: length of the windows that the limit is for, which begin at multiples of it.
        lease_share: the share of the limit that a replica holds.
        fails_open: whether a replica without a store goes on with its part of the limit, and not
            only with its lease.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: Store,
        name: str,
        window_s: float,
        lease_share: float,
        *,
        fails_open: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._name = name
        self._window_s = window_s
        self._lease_share = lease_share
        self._fails_open = fails_open
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def reserve(self, caller: str, limit: int, amount: int) -> Reservation | Refusal:
        """Reserve ``amount`` of the ``limit`` of ``caller``, without waiting where its lease is
        enough."""
        account = self._account(caller, limit)
        if self._can_take(account, amount):
            if self._store.is_shared and account.free - amount < self._wanted(account) // 2:
                self._claim(account)
            return self._take(account, amount)
        recent = time.monotonic() - account.asked_s < REFUSED_S
        if recent and account.limit - account.total - account.others < amount:
            return self._refusal(account, amount)
        account.waiting += amount
        answered = False
        try:
            for _ in range(3):  # a claim under way may not know of this request
                answered = await self._wait(self._claim(account))
                if not answered or account.free >= amount:
                    break
        finally:
            account.waiting -= amount
        # What was leased may be used without the store, even where that lease has ended there.
        part = account.limit // account.replicas - account.used - account.reserved
        if account.free >= amount or (not answered and self._fails_open and part >= amount):
            return self._take(account, amount)
        if not answered:
            return Refusal("away", account.left, account.end_s)
        return self._refusal(account, amount)

    async def open(self, caller: str, limit: int) -> None:
        """Take a lease for ``caller`` before its first request."""
        account = self._account(caller, limit)
        if not self._is_fresh(account):
            await self._wait(self._claim(account))

    def renew(self) -> None:
        """Renew leases that end soon, and give back where little is left; call it each second."""
        now = time.monotonic()
        for account in self._accounts.values():
            scarce = account.limit - account.total < (2 * account.replicas * self._wanted(account))
            if now - account.asked_s > (1.0 if scarce else LEASE_S / 3):
                self._claim(account)

    def report_soon(self, account: _Account) -> None:
        """Tell the store what was used, in REPORT_S seconds."""
        if self._store.is_shared and account.report is None:
            loop = asyncio.get_running_loop()
            account.report = loop.call_later(REPORT_S, self._report, account)

    async def aclose(self) -> None:
        """Tell what was used, and give back what is held."""
        if not self._store.is_shared:
            return
        for account in self._accounts.values():
            if account.report is not None:
                account.report.cancel()
            if account.call is not None:
                await self._wait(account.call)
            await self._store.lease(self._claim_of(account, account.reserved))

    def _account(self, caller: str, limit: int) -> _Account:
        window = int(self._clock() // self._window_s)
        end_s = (window + 1) * self._window_s
        account = self._accounts.get(caller)
        if account is None or account.end_s != end_s:
            key = f"{self._name}:{window}:{caller}"
            account = self._accounts[caller] = _Account(key, limit, end_s)
        if account.limit != limit:  # a reload changed it
            account.limit, account.asked_s = limit, float("-inf")
        return account

    def _wanted(self, account: _Account) -> int:
        return max(1, int(account.limit * self._lease_share))

    def _is_fresh(self, account: _Account) -> bool:
        """Whether the store keeps the lease of ``account`` for this replica."""
        return time.monotonic() - account.asked_s < LEASE_S

    def _can_take(self, account: _Account, amount: int) -> bool:
        return account.free >= amount and (not self._store.is_shared or self._is_fresh(account))

    def _take(self, account: _Account, amount: int) -> Reservation:
        account.reserved += amount
        return Reservation(self, account, amount)

    def _refusal(self, account: _Account, amount: int) -> Refusal:
        used_up = account.limit - max(account.total, account.used) < amount
        return Refusal("used_up" if used_up else "held", account.left, account.end_s)

    def _report(self, account: _Account) -> None:
        account.report = None
        if account.call is not None and not account.call.done():
            self.report_soon(account)  # the one under way has old numbers
        else:
            self._claim(account)

    def _claim(self, account: _Account) -> asyncio.Task[bool]:
        """The claim for ``account`` that is under way, or a new one."""
        if account.call is None or account.call.done():
            task = asyncio.get_running_loop().create_task(self._ask(account))
            account.call = task
        return account.call

    @staticmethod
    async def _wait(call: asyncio.Task[bool]) -> bool:
        done, _ = await asyncio.wait({call}, timeout=2 * CLAIM_WAIT_S)
        return bool(done) and call.result()

    def _claim_of(self, account: _Account, wanted: int) -> Claim:
        needed = account.reserved + account.waiting
        expire_s = max(0.0, account.end_s - self._clock()) + self._window_s
        return Claim(
            account.key, account.limit, account.used, needed, wanted, expire_s, account.known
        )

    async def _ask(self, account: _Account) -> bool:
        asked_s = time.monotonic()
        claim = self._claim_of(account, self._wanted(account) + account.reserved)
        grant = await self._store.lease(claim)
        if grant is None:
            # Use is told when the store is back; a lost account is asked for again at its next use.
            if account.used:
                self.report_soon(account)
            return False
        account.granted = claim.used + grant.held
        account.total = grant.total
        account.others, account.replicas = grant.others, grant.replicas
        account.known = dict(grant.known)
        account.asked_s = asked_s
        return True
