"""Limits over several replicas: what is used passes a limit by no more than lost leases."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

from fakes import redis as servers
from fakes.redis import Redis
from fakes.stores import claim, with_stores
from fastroute.state import (
    Claim,
    Grant,
    Ledger,
    MemoryStore,
    Refusal,
    Reservation,
    ValkeySettings,
    ValkeyStore,
    leases,
    valkey,
)

DAY_S = 86_400.0


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine may be busy."""
    for module in (valkey, leases):
        monkeypatch.setattr(module, "CLAIM_WAIT_S", 1.0)


def settings(redis: Redis) -> ValkeySettings:
    """Of a prefix that no other test has."""
    return ValkeySettings(redis.url, prefix=f"leases-{random.getrandbits(64):x}")


async def lease(store: ValkeyStore, *args: Any, **more: Any) -> Grant:
    grant = await store.lease(claim("account", *args, **more))
    assert grant is not None
    return grant


def test_leases_never_add_up_to_more_than_is_left(redis: Redis) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore) -> None:
        assert (await lease(a, wanted=30)).held == 30
        grant = await lease(b, wanted=30)
        assert grant[:4] == (25, 0, 30, 2)  # a quarter of what is left, for there are two
        assert (await lease(b, reserved=70, wanted=70)).held == 70  # what is needed goes first
        assert (await lease(a, reserved=50, wanted=50)).held == 30
        assert (await lease(b, used=70)).held == 0
        grant = await lease(a, used=30)
        assert (grant.held, grant.total, grant.known) == (0, 100, {b.replica: 70})

    with_stores(2, settings(redis), job)


def test_to_ask_twice_is_to_ask_once(redis: Redis) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore) -> None:
        for _ in range(3):
            assert (await lease(a, used=5, wanted=20)).held == 20
        assert (await lease(b)).total == 5

    with_stores(2, settings(redis), job)


def test_a_call_that_arrives_late_changes_no_lease_and_loses_no_use(redis: Redis) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore) -> None:
        held = (await lease(a, used=10, reserved=40, wanted=40)).held
        assert held == 40
        # An older call of the same replica, from a connection that was given up.
        late = ["0", "40", "40", "30000", "60000", a.replica, "12"]
        script = (Path(valkey.__file__).parent / "lease.lua").read_text()
        key = f"{a._settings.prefix}:account"
        redis.ask("EVAL", script, "1", key, "100", a.replica, *late)
        grant = await lease(b, reserved=60, wanted=60)
        assert (grant.held, grant.total, grant.others) == (50, 12, 38)

    with_stores(2, settings(redis), job)


def test_what_an_idle_replica_gives_back_others_can_use(redis: Redis) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore) -> None:
        await lease(a, wanted=40)
        assert (await lease(b, reserved=90, wanted=90)).held == 60
        assert (await lease(a, wanted=0)).held == 0
        assert (await lease(b, reserved=90, wanted=90)).held == 90

    with_stores(2, settings(redis), job)


def test_the_lease_of_a_replica_that_died_ends(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "LEASE_S", 1.0)

    async def job(a: ValkeyStore, b: ValkeyStore, c: ValkeyStore) -> None:
        assert (await lease(a, used=7, reserved=50, wanted=50)).held == 50
        assert (await lease(c, wanted=10)).held == 10  # and never uses any
        assert (await lease(b, reserved=90, wanted=90)).held == 33
        await asyncio.sleep(1.1)
        grant = await lease(b, reserved=90, wanted=90)
        assert grant[:4] == (90, 7, 0, 1)
        assert grant.known == {a.replica: 7}
        assert (await lease(b, used=93)).total == 100  # its use stays
        names = redis.ask("HKEYS", f"{b._settings.prefix}:account").split()
        assert not [name for name in names if c.replica in name]

    with_stores(3, settings(redis), job)


def test_a_server_that_lost_its_data_learns_from_any_replica_what_all_had_used(
    redis: Redis,
) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore, dead: ValkeyStore) -> None:
        await lease(dead, used=20, wanted=0)
        await lease(a, used=30, wanted=0)
        known = (await lease(b, used=10, wanted=0)).known
        assert known == {dead.replica: 20, a.replica: 30}
        redis.ask("DEL", f"{a._settings.prefix}:account")
        assert (await lease(b, used=11, known=known)).total == 61
        assert (await lease(a, used=35, known={dead.replica: 20})).total == 66  # counted once

    with_stores(3, settings(redis), job)


async def reserve(ledger: Ledger, amount: int, limit: int = 100) -> Reservation:
    found = await ledger.reserve("caller", limit, amount)
    assert isinstance(found, Reservation), found
    return found


async def refused(ledger: Ledger, amount: int, limit: int = 100) -> Refusal:
    found = await ledger.reserve("caller", limit, amount)
    assert isinstance(found, Refusal)
    return found


def test_one_process_uses_a_limit_up_and_has_it_again_in_the_next_window() -> None:
    now = [1000 * DAY_S + 5.0]

    async def run() -> None:
        ledger = Ledger(MemoryStore(), "budget", DAY_S, 0.02, clock=lambda: now[0])
        first, second = await reserve(ledger, 60), await reserve(ledger, 40)
        assert (await refused(ledger, 1))[:2] == ("held", 0)
        first.settle(10)
        first.settle(10)  # only once
        assert (await refused(ledger, 51)).left == 50
        (await reserve(ledger, 50)).settle(55)  # more than was reserved
        second.settle(40)
        found = await refused(ledger, 1)
        assert found == Refusal("used_up", 0, 1001 * DAY_S)
        late = await reserve(ledger, 100, limit=300)
        now[0] += DAY_S
        late.settle(100)  # counts for yesterday
        (await reserve(ledger, 100)).settle(100)

    asyncio.run(run())


def test_a_request_waits_for_no_server_where_the_lease_is_enough(tmp_path: Path) -> None:
    async def job(store: ValkeyStore) -> None:
        ledger = Ledger(store, "budget", DAY_S, 0.2)
        await ledger.open("caller", 100)
        server.pause()
        began = time.perf_counter()
        held = [await reserve(ledger, 5) for _ in range(4)]
        assert time.perf_counter() - began < 0.5
        assert (await refused(ledger, 5)).reason == "away"  # closed at what was leased
        for reservation in held:
            reservation.settle(4)
        assert (await refused(ledger, 5)).reason == "away"
        await reserve(ledger, 4)
        server.resume()
        while not store.is_up:
            await asyncio.sleep(0.01)
        await reserve(ledger, 50)
        await ledger.aclose()

    with servers.start(tmp_path) as server:
        with_stores(1, ValkeySettings(server.url), job)


def test_a_rate_goes_on_at_its_part_without_a_server(tmp_path: Path) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore) -> None:
        now = 1e9
        ledgers = [
            Ledger(store, "rate", 60.0, 0.25, fails_open=True, clock=lambda: now)
            for store in (a, b)
        ]
        for ledger in ledgers * 2:
            (await reserve(ledger, 1)).settle(1)
            await asyncio.sleep(0.6)  # told
        server.kill()
        for ledger in ledgers:
            for _ in range(48):
                (await reserve(ledger, 1)).settle(1)
            assert (await refused(ledger, 1)).reason == "away"

    with servers.start(tmp_path) as server:
        with_stores(2, ValkeySettings(server.url), job)


def test_replicas_that_share_a_limit_use_it_up_together_and_no_more(redis: Redis) -> None:
    async def job(*stores: ValkeyStore) -> None:
        ledgers = [Ledger(store, "budget", DAY_S, 0.1) for store in stores]
        used = 0

        async def serve(ledger: Ledger) -> None:
            nonlocal used
            chance = random.Random(1)
            while True:
                amount = chance.randint(1, 60)
                found = await ledger.reserve("caller", 10_000, amount)
                if isinstance(found, Refusal):
                    ledger.renew()
                    if found.reason == "used_up":
                        return
                    await asyncio.sleep(0.05)
                    continue
                await asyncio.sleep(0)
                actual = chance.randint(0, amount)
                used += actual
                found.settle(actual)

        async with asyncio.timeout(30):
            await asyncio.gather(*(serve(ledger) for ledger in ledgers * 2))
        assert 10_000 - 60 <= used <= 10_000
        for ledger in ledgers:
            await ledger.aclose()
        name = (await stores[0]._client.keys(f"{stores[0]._settings.prefix}:budget:*"))[0]
        told = redis.ask("HGETALL", name.decode()).split()
        assert (
            sum(int(n) for f, n in zip(told[::2], told[1::2], strict=True) if f[0] == "s") == used
        )

    with_stores(3, settings(redis), job)


class _Replica:
    """The part of a ledger that a death or a lost message can interrupt anywhere."""

    def __init__(self, store: ValkeyStore) -> None:
        self.store = store
        self.used = self.granted = 0
        self.known: dict[str, int] = {}

    def claim(self, limit: int, wanted: int) -> Claim:
        return Claim("account", limit, self.used, 0, wanted, 60.0, self.known)

    async def ask(self, limit: int, wanted: int, *, lose_reply: bool) -> None:
        sent = self.claim(limit, wanted)
        grant = await self.store.lease(sent)
        if grant is not None and not lose_reply:
            self.granted, self.known = sent.used + grant.held, dict(grant.known)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_lost_use_passes_the_limit_by_no_more_than_the_leases_lost(
    redis: Redis, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(valkey, "LEASE_S", 0.005)
    limit, wanted = 2000, 50

    async def job(*stores: ValkeyStore) -> None:
        chance = random.Random(seed)
        replicas = [_Replica(store) for store in stores]
        used = deaths = 0
        for _ in range(1500):
            replica = chance.choice(replicas)
            what = chance.random()
            if what < 0.5:
                amount = chance.randint(0, max(0, replica.granted - replica.used))
                replica.used += amount
                used += amount
            elif what < 0.97:
                await replica.ask(limit, wanted, lose_reply=chance.random() < 0.2)
            elif what < 0.98 and deaths < 5:  # another takes its place, and its use is not told
                deaths += 1
                replica.store.replica = f"{seed}-{deaths}"
                replica.used = replica.granted = 0
                replica.known = {}
            elif what < 0.99:
                await asyncio.sleep(0.006)  # every lease ends
            elif chance.random() < 0.2:
                redis.ask("DEL", f"{replica.store._settings.prefix}:account")
        for _ in range(3):
            for replica in replicas:
                await replica.ask(limit, 0, lose_reply=False)
        assert used <= limit + (len(stores) + deaths) * wanted
        assert used >= limit / 2  # or nothing was shown

    with_stores(4, settings(redis), job)
