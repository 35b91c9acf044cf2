"""Both stores do the same; that in Redis never keeps a caller waiting."""

from __future__ import annotations

import asyncio
import subprocess
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from fakes import redis as servers
from fakes import tls
from fakes.redis import Redis
from fakes.stores import claim, found, up, with_stores
from fastroute.errors import InvalidInputError
from fastroute.state import MemoryStore, Store, ValkeySettings, ValkeyStore


async def _values(store: Store) -> None:
    await found(store, "a", None)
    store.put("a", b"old", 60.0)
    store.put("a", b"1", 60.0)
    store.put("b", b"\x00\xff", 0.6)
    await found(store, "a", b"1")
    assert await store.get("a", "b", "c", wait_s=1.0) == [b"1", b"\x00\xff", None]
    await asyncio.sleep(0.65)
    assert await store.get("a", "b", wait_s=1.0) == [b"1", None]
    assert await store.total("sum", 2.5, 60.0) == 2.5
    assert await store.total("sum", -1.5, 60.0) == -1.5
    grant = await store.lease(claim("account", 10**15, 123_456_789_012_345))
    assert grant is not None
    assert (grant.held >= 10, grant.total) == (True, 123_456_789_012_345)
    assert (grant.others, grant.replicas, grant.known) == (0, 1, {})


def test_a_store_in_this_process() -> None:
    asyncio.run(_values(MemoryStore()))


def test_a_store_in_this_process_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastroute.state.store.MAX_VALUES", 2)

    async def run() -> None:
        store = MemoryStore()
        for name in ("a", "b", "a", "c"):
            store.put(name, name.encode(), 60.0)
        assert await store.get("a", "b", "c") == [b"a", None, b"c"]

    asyncio.run(run())


def test_a_store_in_redis(redis: Redis) -> None:
    with_stores(1, ValkeySettings(redis.url, prefix="values"), _values)


def test_replicas_see_each_other_and_no_other_prefix(redis: Redis) -> None:
    async def job(a: ValkeyStore, b: ValkeyStore) -> None:
        a.put("key", b"1", 60.0)
        await found(b, "key", b"1")
        assert await a.total("sum", 2.0, 60.0) == 2.0
        assert await b.total("sum", 3.0, 60.0) == 5.0

    with_stores(2, ValkeySettings(redis.url, prefix="one"), job)
    other = ValkeySettings(redis.url, prefix="other")
    with_stores(1, other, lambda store: found(store, "key", None))


def test_every_key_has_the_prefix_and_an_end(tmp_path: Path) -> None:
    async def job(store: ValkeyStore) -> None:
        store.put("a", b"1", 60.0)
        await found(store, "a", b"1")
        await store.total("sum", 1.0, 60.0)
        await store.lease(claim("account"))

    with servers.start(tmp_path) as server:
        with_stores(1, ValkeySettings(server.url, prefix="p"), job)
        keys = server.ask("KEYS", "*").splitlines()
        assert sorted(keys) == ["p:a", "p:account", "p:sum"]
        assert all(0 < int(server.ask("PTTL", key)) <= 60_000 for key in keys)


def test_calls_of_one_moment_go_together(redis: Redis) -> None:
    async def job(store: ValkeyStore) -> None:
        before = int(redis.ask("INFO", "clients").partition("connected_clients:")[2].split()[0])
        asked = await asyncio.gather(*(store.get(f"k{i}", wait_s=5.0) for i in range(2000)))
        assert asked == [[None]] * 2000
        after = int(redis.ask("INFO", "clients").partition("connected_clients:")[2].split()[0])
        assert after == before

    with_stores(1, ValkeySettings(redis.url, prefix="many"), job)


def test_a_busy_event_loop_is_no_slow_server(redis: Redis) -> None:
    async def job(store: ValkeyStore) -> None:
        store.put("a", b"1", 60.0)
        await found(store, "a", b"1")
        asked = asyncio.create_task(store.get("a"))
        await asyncio.sleep(0)
        time.sleep(1.1)  # longer than a decision waits, and before the question is sent
        assert await asked == [b"1"]

    with_stores(1, ValkeySettings(redis.url, prefix="busy"), job, wait_s=1.0)


def test_nobody_waits_for_a_server_that_is_paused_and_it_is_back_by_itself(tmp_path: Path) -> None:
    waits: list[tuple[str, float]] = []
    changes: list[bool] = []

    async def job(store: ValkeyStore) -> None:
        server.pause()
        began = time.perf_counter()
        assert await store.get("a") is None
        assert await store.lease(claim("account")) is None
        assert time.perf_counter() - began < 1.0
        assert not store.is_up
        began = time.perf_counter()
        for _ in range(1000):
            assert await store.get("a") is None
        assert time.perf_counter() - began < 1.0
        for i in range(10):
            store.put("kept", str(i).encode(), 60.0)
        await asyncio.sleep(0.8)  # beyond what a connection waits
        server.resume()
        await up(store)
        await found(store, "kept", b"9")

    with servers.start(tmp_path) as server:
        more = {
            "waited": lambda how, seconds: waits.append((how, seconds)),
            "changed": lambda up, _: changes.append(up),
        }
        with_stores(1, ValkeySettings(server.url), job, wait_s=0.002, **more)
    assert [up for up, _ in groupby(changes)] == [True, False, True]
    assert waits[0][0] == "late"
    assert sum(how == "away" for how, _ in waits) >= 1000
    assert waits[-1][0] == "answered"


def test_a_server_that_was_killed_is_back_by_itself_with_what_was_put_meanwhile(
    tmp_path: Path,
) -> None:
    reasons: list[str | None] = []

    async def job(store: ValkeyStore) -> None:
        store.put("lost", b"1", 60.0)
        await found(store, "lost", b"1")
        server.kill()
        while store.is_up:
            assert await store.get("lost") is None
            await asyncio.sleep(0.01)
        store.put("kept", b"2", 60.0)
        server.start()
        await up(store)
        await found(store, "kept", b"2")
        await found(store, "lost", None)

    with servers.start(tmp_path) as server:
        changed = lambda _, reason: reasons.append(reason)  # noqa: E731
        with_stores(1, ValkeySettings(server.url), job, changed=changed)
    assert "Connect" in str(reasons[1])


def test_a_network_that_drops_everything_is_noticed(redis: Redis) -> None:
    async def job(store: ValkeyStore) -> None:
        network.cut()
        assert await store.get("a") is None
        await asyncio.sleep(0.6)
        assert not store.is_up
        network.restore()
        await up(store)

    with servers.network(redis.port) as network:
        with_stores(1, ValkeySettings(network.url), job)


def test_a_server_that_refuses_to_write_is_no_server(tmp_path: Path) -> None:
    async def job(store: ValkeyStore) -> None:
        server.ask("CONFIG", "SET", "maxmemory", "1")
        store.put("a", b"1", 60.0)
        while store.is_up:
            await asyncio.sleep(0.01)
        server.ask("CONFIG", "SET", "maxmemory", "0")
        await found(store, "a", b"1")

    with servers.start(tmp_path) as server:
        with_stores(1, ValkeySettings(server.url), job)


def test_tls_a_user_and_a_password(tmp_path: Path) -> None:
    with tls.start(tmp_path):  # for its certificate
        pass
    user = ("--user", *["gateway", "on", ">secret", "~*", "+@all"], "--requirepass", "other-secret")
    certificate = tmp_path / "certificate.pem"
    keys = ("--tls-cert-file", str(certificate), "--tls-key-file", str(tmp_path / "key.pem"))
    secure = ("--tls-auth-clients", "no", *keys)
    query = f"?ssl_ca_certs={certificate}"
    with servers.start(tmp_path, *user, *secure, tls=True) as server:
        url = f"rediss://127.0.0.1:{server.port}/0"
        good = ValkeySettings(url + query, "gateway", "secret")
        with_stores(1, good, lambda store: found(store, "a", None))
        assert "secret" not in repr(good)

        async def run(settings: ValkeySettings, expected: str) -> None:
            reasons: list[str | None] = []
            store = ValkeyStore(settings, changed=lambda _, reason: reasons.append(reason))
            store.start()
            await asyncio.sleep(0.3)
            assert not store.is_up
            assert expected in str(reasons)
            await store.aclose()

        asyncio.run(run(ValkeySettings(url + query, "gateway", "wrong"), "invalid username"))
        asyncio.run(run(ValkeySettings(url), "certificate verify failed"))


def test_a_cluster(tmp_path: Path) -> None:
    with servers.start(tmp_path, "--cluster-enabled", "yes") as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        while "cluster_state:ok" not in server.ask("CLUSTER", "INFO"):
            time.sleep(0.02)
        with_stores(1, ValkeySettings(f"redis://127.0.0.1:{server.port}", cluster=True), _values)


def test_sentinels_name_the_new_server_after_a_failover(tmp_path: Path) -> None:
    async def job(store: ValkeyStore) -> None:
        await _values(store)
        first.kill()
        while store.is_up:
            await store.get("a")
            await asyncio.sleep(0.01)
        await up(store, timeout_s=25)
        store.put("after", b"1", 60.0)
        await found(store, "after", b"1")

    folders = [tmp_path / name for name in ("first", "second", "sentinel")]
    for folder in folders:
        folder.mkdir()
    with servers.start(folders[0]) as first:
        replica = ("--replicaof", f"127.0.0.1 {first.port}", "--repl-diskless-sync-delay", "0")
        with servers.start(folders[1], *replica) as second:
            while "master_link_status:up" not in second.ask("INFO", "replication"):
                time.sleep(0.05)
            path = folders[2] / "sentinel.conf"
            path.write_text(
                f"sentinel monitor main 127.0.0.1 {first.port} 1\n"
                "sentinel down-after-milliseconds main 500\n"
                "sentinel failover-timeout main 2000\n"
            )
            sentinel = Redis(folders[2], str(path), "--sentinel")
            try:
                url = f"redis://127.0.0.1:1,127.0.0.1:{sentinel.port}/0"  # the first is down
                with_stores(1, ValkeySettings(url, sentinel_service="main"), job)
                assert second.ask("GET", "fastroute:after") == "1"
            finally:
                sentinel.kill()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"url": "http://host"}, "must start with redis://"),
        ({"url": "redis://user:secret@host"}, "must not have a user or password"),
        ({"url": "redis://"}, "has no host"),
        ({"url": "redis://h", "cluster": True, "sentinel_service": "main"}, "not both"),
    ],
)
def test_settings_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        ValkeySettings(**given)
    assert "secret" not in str(caught.value)


def test_without_the_library_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError('none here', name='redis')")
    code = (
        "from fastroute.state import ValkeySettings, ValkeyStore\n"
        "from fastroute.errors import MissingDependencyError\n"
        "try:\n    ValkeyStore(ValkeySettings('redis://host'))\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        ["env", f"PYTHONPATH={tmp_path}:{_path()}", "python", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert '[state] needs redis: pip install "fastroute[state]"' in done.stdout


def _path() -> str:
    import fastroute

    return str(Path(fastroute.__file__).parents[1])
