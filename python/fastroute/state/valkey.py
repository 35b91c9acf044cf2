"""A store in Valkey or Redis: one server, Sentinel or Cluster, through the library redis-py.

Calls of one moment go out together on one connection. Nobody waits for a server that is away: the
store knows that it is, and tries again in the background.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from fastroute._extras import needed_for
from fastroute.errors import InvalidInputError
from fastroute.state.store import MAX_VALUES, Claim, Grant

#: A server that has not answered for this long is away: nobody waits for it until it answers.
SLOW_S = 0.05
#: Seconds that a connection waits for the server before it is given up, at least.
SOCKET_S = 0.5
#: Seconds until the next attempt to reach a server that is away, at most.
RETRY_S = 1.0
#: Seconds for which a lease is kept for a replica that is no longer heard of.
LEASE_S = 30.0
#: Seconds that a claim waits: only what would be refused otherwise asks and waits.
CLAIM_WAIT_S = 0.1
_MOST_AT_ONCE = 500
_TURNS = 8
#: A wait is measured in so many parts, of at least a millisecond: uvloop's timers know no less.
_PARTS, _LEAST_S = 4, 1e-3


@dataclass(frozen=True)
class ValkeySettings:
    """Where the server is.

    Attributes:
        url: ``redis://host:port/database``, ``rediss://`` for TLS, or ``unix://path``. Options of
            the library may stand in its query, such as ``?ssl_ca_certs=/etc/ca.pem``. With
            ``sentinel_service`` its hosts are Sentinels: ``redis://host:port,host:port/database``.
        username, password: of the server; None: no authentication.
        prefix: what the name of every key begins with.
        cluster: whether it is a node of a Cluster.
        sentinel_service: the service that Sentinels are asked for.
        wait_s: seconds that a decision waits for a value.

    Raises InvalidInputError for values that do not fit this description.
    """

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    prefix: str = "fastroute"
    cluster: bool = False
    sentinel_service: str | None = None
    wait_s: float = 0.002

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("redis", "rediss", "unix"):
            raise InvalidInputError(
                "url must start with redis://, rediss:// (TLS) or unix://, got "
                f"{parts.scheme[:20]!r}"
            )
        if "@" in parts.netloc:  # it must not be printed
            raise InvalidInputError("url must not have a user or password; give them beside it")
        if parts.scheme != "unix" and not parts.netloc:
            raise InvalidInputError(f"url has no host, got {self.url!r}")
        if self.cluster and self.sentinel_service is not None:
            raise InvalidInputError("give cluster or sentinel_service, not both")

    def connect(self) -> list[Any]:
        """A client of redis-py, and those of Sentinels that it asks; to be closed. Raises
        MissingDependencyError without the library."""
        with needed_for("[state]"):
            from redis.asyncio import Redis
            from redis.asyncio.cluster import RedisCluster
            from redis.asyncio.retry import Retry
            from redis.asyncio.sentinel import Sentinel
            from redis.backoff import NoBackoff
        options: dict[str, Any] = {
            "username": self.username,
            "password": self.password,
            "socket_timeout": max(SOCKET_S, self.wait_s),
            "socket_connect_timeout": max(SOCKET_S, self.wait_s),
        }
        if self.cluster:
            return [RedisCluster.from_url(self.url, **options)]
        options["retry"] = Retry(NoBackoff(), 0)  # the store tries again itself
        parts = urlsplit(self.url)
        if self.sentinel_service is None:
            return [Redis.from_url(self.url, **options)]
        options |= dict(parse_qsl(parts.query), ssl=parts.scheme == "rediss")
        hosts = [host.rpartition(":") for host in parts.netloc.split(",")]
        sentinels = Sentinel(  # type: ignore[no-untyped-call] # it has no types
            [(host or port, int(port) if host else 26379) for host, _, port in hosts],
            sentinel_kwargs={n: v for n, v in options.items() if n.startswith(("socket", "ssl"))},
            **options,
        )
        database = int(parts.path.strip("/") or 0)
        return [sentinels.master_for(self.sentinel_service, db=database), *sentinels.sentinels]


class _Call(NamedTuple):
    """A command and who waits for its reply; None for a value that is put."""

    command: tuple[Any, ...]
    reply: asyncio.Future[Any] | None


class ValkeyStore:
    """A store that all replicas with the same server and prefix share.

    Args:
        settings: where the server is.
        waited: told how each wait ended ("answered", "late", "away") and its seconds.
        changed: told when the server is reached or lost, and by which error;
            for another error again.
    """

    is_shared = True

    def __init__(
        self,
        settings: ValkeySettings,
        *,
        waited: Callable[[str, float], None] = lambda _how, _seconds: None,
        changed: Callable[[bool, str | None], None] = lambda _up, _reason: None,
    ) -> None:
        self.replica = os.urandom(6).hex()
        self._settings = settings
        self._client, *self._sentinels = settings.connect()
        self._waited, self._changed = waited, changed
        self._calls: deque[_Call] = deque()
        self._puts: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._sending: set[str] = set()
        self._sent: dict[str, asyncio.Future[None]] = {}  # who waits until a key is written
        self._numbers = itertools.count(1)
        self._wake = asyncio.Event()
        self._is_up = False
        self._reason: str | None = None
        self._slow_s = max(SLOW_S, settings.wait_s)
        self._task: asyncio.Task[None] | None = None

    @property
    def is_up(self) -> bool:
        """Whether the server answers now."""
        return self._is_up

    def start(self) -> None:
        """Connect in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def get(self, *keys: str, wait_s: float | None = None) -> list[bytes | None] | None:
        """The values of ``keys``; None if they did not come in ``wait_s`` seconds, by default those
        of the settings."""
        wait_s = self._settings.wait_s if wait_s is None else wait_s
        return await self._ask(wait_s, *(("GET", self._name(key)) for key in keys))

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep ``value`` for ``ttl_s`` seconds; it is sent soon, or when the server is back."""
        self._puts[key] = (value, ttl_s)
        self._puts.move_to_end(key)
        if len(self._puts) > MAX_VALUES:
            self._puts.popitem(last=False)
        self._wake.set()

    async def written(self, key: str) -> None:
        """Wait until others can see what was put for ``key``, as long as a decision may wait."""
        if self._is_up and (key in self._puts or key in self._sending):
            sent = self._sent.setdefault(key, asyncio.get_running_loop().create_future())
            if not await _wait([sent], self._settings.wait_s):
                self._sent.pop(key, None)

    async def total(self, key: str, own: float, ttl_s: float) -> float | None:
        """The sum of what every replica gave as ``own`` last, this one included."""
        name = self._name(key)
        replies = await self._ask(
            CLAIM_WAIT_S,
            ("HSET", name, self.replica, repr(own)),
            ("HVALS", name),
            ("PEXPIRE", name, round(ttl_s * 1000)),
        )
        return None if replies is None else sum(map(float, replies[1]))

    async def lease(self, claim: Claim) -> Grant | None:
        """A lease by ``claim``."""
        others = ((name, n) for name, n in claim.known.items() if name != self.replica)
        replies = await self._ask(
            CLAIM_WAIT_S,
            (
                *("EVAL", self._script, 1, self._name(claim.key)),
                *(claim.limit, self.replica, next(self._numbers), claim.reserved, claim.wanted),
                *(round(LEASE_S * 1000), round(claim.expire_s * 1000)),
                *(self.replica, claim.used),
                *itertools.chain.from_iterable(others),
            ),
        )
        if replies is None:
            return None
        held, total, others_hold, replicas, pairs = replies[0]
        words = pairs.decode().split()
        known = dict(zip(words[::2], map(int, words[1::2]), strict=True))
        known.pop(self.replica, None)
        return Grant(held, total, others_hold, replicas, known)

    async def aclose(self) -> None:
        """Send what waits, if the server answers, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            if self._puts and self.is_up:
                await self._send(self._take())
        for client in (self._client, *self._sentinels):
            with contextlib.suppress(Exception):  # of a connection that is broken
                await client.aclose()

    @cached_property
    def _script(self) -> str:
        return resources.files("fastroute.state").joinpath("lease.lua").read_text("utf-8")

    def _name(self, key: str) -> str:
        return f"{self._settings.prefix}:{key}"

    async def _ask(self, wait_s: float, *commands: tuple[Any, ...]) -> list[Any] | None:
        """The replies to ``commands``, or None."""
        if not self._is_up:
            self._waited("away", 0.0)
            return None
        began = perf_counter()
        loop = asyncio.get_running_loop()
        calls = [_Call(command, loop.create_future()) for command in commands]
        self._calls.extend(calls)
        self._wake.set()
        replies = [call.reply for call in calls if call.reply is not None]
        found = None
        if await _wait(replies, wait_s):
            found = [reply.result() for reply in replies]
            found = None if any(isinstance(reply, Exception) for reply in found) else found
        else:
            for reply in replies:
                reply.cancel()
        self._waited("late" if found is None else "answered", perf_counter() - began)
        return found

    async def _run(self) -> None:
        """Send what waits; while the server is away, look whether it is back."""
        pause_s = 0.0
        while True:
            if self._is_up and not self._calls and not self._puts:
                await self._wake.wait()
            self._wake.clear()
            if pause_s:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
            error = await self._send(self._take())
            self._set_up(error is None, error)
            pause_s = 0.0 if error is None else min(RETRY_S, max(SLOW_S, 2 * pause_s))

    def _take(self) -> list[_Call]:
        """The next calls to send; a PING if there are none."""
        taken: list[_Call] = []
        while self._calls and len(taken) < _MOST_AT_ONCE:
            call = self._calls.popleft()
            if call.reply is None or not call.reply.done():
                taken.append(call)
        while self._puts and len(taken) < _MOST_AT_ONCE:
            key, (value, ttl_s) = self._puts.popitem(last=False)
            self._sending.add(key)
            command = ("SET", self._name(key), value, "PX", max(1, round(ttl_s * 1000)))
            taken.append(_Call(command, None))
        return taken or [_Call(("PING",), None)]

    async def _send(self, calls: list[_Call]) -> str | None:
        """Send ``calls`` and hand out their replies; returns the error if there was one."""
        slow = asyncio.get_running_loop().call_later(self._slow_s, self._note_late)
        failure: Exception | None = None
        try:
            pipeline = self._client.pipeline(transaction=False)
            for call in calls:
                pipeline.execute_command(*call.command)
            replies = await pipeline.execute(raise_on_error=False)
        except Exception as error:  # whatever it is, the gateway goes on without the server
            failure = error
            replies = [error] * len(calls)
        finally:
            slow.cancel()
        for call, reply in zip(calls, replies, strict=True):
            failed = isinstance(reply, Exception)
            if call.reply is not None and not call.reply.done():
                call.reply.set_result(reply)
            elif failed and call.command[0] == "SET":  # unless there is a newer one already
                _, name, value, _, ttl_ms = call.command
                key = name.removeprefix(f"{self._settings.prefix}:")
                self._puts.setdefault(key, (value, ttl_ms / 1000))
            if failed:
                failure = reply
        for key in self._sending - self._puts.keys():
            if key in self._sent:
                self._sent.pop(key).set_result(None)
        self._sending.clear()
        return None if failure is None else f"{type(failure).__name__}: {failure}"

    def _note_late(self) -> None:
        if self._is_up:
            self._set_up(False, f"no reply in {self._slow_s * 1000:g} ms")

    def _set_up(self, up: bool, reason: str | None) -> None:
        if (self._is_up, self._reason) != (up, reason):
            self._is_up, self._reason = up, reason
            self._changed(up, reason)


async def _wait(replies: list[asyncio.Future[Any]], wait_s: float) -> bool:
    """Wait for ``replies``, for ``wait_s`` seconds of the server's time; whether they are here.

    What a busy event loop adds is not the server's: of a part that took longer than it was to, only
    what it was to take counts. (uvloop's timers may also end too early in a busy loop.)
    """
    left_s = wait_s
    waiting: set[asyncio.Future[Any]] = {reply for reply in replies if not reply.done()}
    while waiting and left_s > 0.0:
        part_s = max(_LEAST_S, min(left_s, wait_s / _PARTS))
        began = perf_counter()
        _, waiting = await asyncio.wait(waiting, timeout=part_s)
        left_s -= min(part_s, perf_counter() - began)
    for _ in range(_TURNS):  # what is here already, but was not read in a busy loop
        if all(reply.done() for reply in replies):
            return True
        await asyncio.sleep(0)
    return all(reply.done() for reply in replies)
