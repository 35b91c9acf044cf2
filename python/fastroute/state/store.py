"""The interface of a store, and the one in this process."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

#: Values that are kept here, or wait to be written while a server is away.
MAX_VALUES = 100_000


@dataclass(frozen=True)
class Claim:
    """What a replica asks for in one account: the use of one caller in one window of time.

    All amounts are whole numbers of one unit, such as requests or nanodollars.

    Attributes:
        key: names the account.
        limit: what all replicas may use together.
        used: what this replica has used so far.
        reserved: what its requests under way may use beyond that.
        wanted: what it would like to hold, at least ``reserved``, to serve requests without asking.
        expire_s: seconds after which the account may be forgotten.
        known: what other replicas had used when last heard of. A server that lost its data
            learns it again from here.
    """

    key: str
    limit: int
    used: int
    reserved: int
    wanted: int
    expire_s: float
    known: Mapping[str, int] = field(default_factory=dict)


class Grant(NamedTuple):
    """The answer to a Claim.

    Attributes:
        held: what the replica may use from now on, beyond ``used``.
        total: what all replicas have used, this one included.
        others: what other replicas hold.
        replicas: how many hold a lease.
        known: what each other replica has used.
    """

    held: int
    total: int
    others: int
    replicas: int
    known: Mapping[str, int]


class Store(Protocol):
    """Values, sums and leases that replicas share. Nothing here raises: a store that can't be
    reached answers None."""

    #: Whether other processes see it.
    is_shared: bool

    @property
    def is_up(self) -> bool:
        """Whether it answers now."""
        ...

    def start(self) -> None:
        """Begin, in a running event loop."""

    async def get(self, *keys: str, wait_s: float | None = None) -> list[bytes | None] | None:
        """The values of ``keys``; None if they did not come in ``wait_s`` seconds, or else in the
        time that a decision may wait."""

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep ``value`` for ``ttl_s`` seconds. Returns at once; of several values for a key, the
        last is kept."""

    async def written(self, key: str) -> None:
        """Wait until others can see what was put for ``key``, as long as a decision may wait."""

    async def total(self, key: str, own: float, ttl_s: float) -> float | None:
        """The sum of what every replica gave as ``own`` last, this one included."""

    async def lease(self, claim: Claim) -> Grant | None:
        """A lease by ``claim``. To ask twice has the same effect as to ask once."""

    async def aclose(self) -> None:
        """Write what waits, and close connections."""


class MemoryStore:
    """A store for one process: nobody else uses what it holds."""

    is_shared = False
    is_up = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: OrderedDict[str, tuple[bytes, float]] = OrderedDict()

    def start(self) -> None:
        """There is nothing to begin."""

    async def get(self, *keys: str, wait_s: float | None = None) -> list[bytes | None]:  # noqa: ARG002
        """The values of ``keys``."""
        now = self._clock()
        found = (self._values.get(key, (None, 0.0)) for key in keys)
        return [value if now < end_s else None for value, end_s in found]

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep ``value`` for ``ttl_s`` seconds, among the newest MAX_VALUES."""
        self._values[key] = (value, self._clock() + ttl_s)
        self._values.move_to_end(key)
        if len(self._values) > MAX_VALUES:
            self._values.popitem(last=False)

    async def written(self, key: str) -> None:
        """There is nothing to wait for."""

    async def total(self, key: str, own: float, ttl_s: float) -> float:  # noqa: ARG002
        """``own``: there is no other replica."""
        return own

    async def lease(self, claim: Claim) -> Grant:
        """All that is left."""
        return Grant(max(0, claim.limit - claim.used), claim.used, 0, 1, {})

    async def aclose(self) -> None:
        """There is nothing to close."""
