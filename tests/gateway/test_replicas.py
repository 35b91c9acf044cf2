"""Replicas that share a real Redis server, which is killed, paused and cut off under them."""

from __future__ import annotations

import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fakes import openai_any, replicas
from fakes import redis as servers
from fakes.gateway import Answer, Gateway
from fakes.planned import Server
from fakes.redis import Redis
from fakes.replicas import FAILING, ROUTING, ask, state_of

HARD, EASY = "hard " * 200, "yes, do it"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Server]:
    with openai_any.start() as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    with servers.start(tmp_path / "redis") as server:
        yield server


def model_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.headers["x-fastroute-model"]


def moves(gateways: list[Gateway], conversations: int, seed: int, *, history: bool = False) -> int:
    """Conversations that left their model: each asks any of the replicas, and a half is hard at
    first, so that only who knows that sends the rest to the strong model too. Requests have the
    turns before, if they have a ``history``."""
    chance = random.Random(seed)

    def converse(number: int) -> bool:
        turns = [HARD if number % 2 else EASY, EASY, EASY, EASY]
        session = f"{seed}-{number}"
        asked = [
            model_of(ask(chance.choice(gateways), text, session, turns[:n] if history else ()))
            for n, text in enumerate(turns)
        ]
        return len(set(asked)) > 1

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(converse, range(conversations)))


class Traffic:
    """Requests to replicas in the background; every one that fails is kept."""

    def __init__(self, gateways: list[Gateway]) -> None:
        self.failed: list[str] = []
        self.seconds: list[float] = []
        self._gateways = list(gateways)
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def leave(self, gateway: Gateway) -> None:
        """Ask ``gateway`` no more, as a load balancer would not."""
        self._gateways.remove(gateway)
        time.sleep(0.1)

    def _run(self) -> None:
        number = 0
        while not self._ends.is_set():
            for gateway in list(self._gateways):
                number += 1
                began = time.perf_counter()
                answer = ask(gateway, EASY, f"traffic-{number}")
                self.seconds.append(time.perf_counter() - began)
                if answer.status != 200:
                    self.failed.append(f"{answer.status} {answer.body!r}")


@pytest.mark.parametrize("count", [2, 4])
def test_conversations_stay_with_their_model_on_any_replica(
    tmp_path: Path, redis: Redis, upstream: Server, count: int
) -> None:
    text = ROUTING.format(base_url=upstream.base_url, url=redis.url)
    with replicas.start(tmp_path, text, count) as gateways:
        assert moves(gateways, 60, seed=count) == 0
        keys = redis.ask("KEYS", "*").split()
        assert len([key for key in keys if key.startswith("fastroute:session:")]) == 60
        assert all(0 < int(redis.ask("TTL", key)) <= 3600 for key in keys[:20])


@pytest.mark.parametrize("by", ["header", "messages"])
@pytest.mark.parametrize("delay_s", [0.01, 0.1])
def test_conversations_stay_without_waiting_where_requests_have_their_history(
    tmp_path: Path, redis: Redis, upstream: Server, by: str, delay_s: float
) -> None:
    """Every value comes too late, and with the longer delay the server counts as away."""
    with servers.network(redis.port) as network:
        text = ROUTING.format(base_url=upstream.base_url, url=network.url)
        text = text.replace("wait_s = 5.0", "").replace('"header"', f'"{by}"')
        with replicas.start(tmp_path, text, 2) as gateways:
            network.delay_s = delay_s
            assert moves(gateways, 30, seed=6, history=True) == 0
            page = gateways[0].ask("GET", "/metrics").body.decode()
            assert re.search(
                r'fastroute_state_wait_seconds_count\{[^}]*"(late|away)"\} [1-9]', page
            )


def test_workers_of_one_gateway_are_replicas_too(
    tmp_path: Path, redis: Redis, upstream: Server
) -> None:
    text = ROUTING.format(base_url=upstream.base_url, url=redis.url) + "[server]\nworkers = 2\n"
    text += "[budgets]\nrequests_per_minute = 100000\n"
    with replicas.start(tmp_path, text, 1) as gateways:
        assert moves(gateways, 30, seed=5) == 0
        page = gateways[0].ask("GET", "/metrics").body.decode()
        assert "fastroute_state_up 1.0" in page


def test_without_a_server_they_do_not(tmp_path: Path, upstream: Server) -> None:
    text = ROUTING.format(base_url=upstream.base_url, url="").partition("[state]")[0]
    with replicas.start(tmp_path, text, 2) as gateways:
        assert moves(gateways, 20, seed=1) > 0
        page = gateways[0].ask("GET", "/metrics").body.decode()
        assert "fastroute_state_up NaN" in page


def test_no_request_fails_for_a_server_that_is_killed_paused_or_cut_off(
    tmp_path: Path, redis: Redis, upstream: Server
) -> None:
    with servers.network(redis.port) as network:
        text = FAILING.format(base_url=upstream.base_url, url=network.url)
        with replicas.start(tmp_path, text, 2) as gateways, Traffic(gateways) as traffic:

            def degraded() -> None:
                for gateway in gateways:
                    gateway.wait_for(lambda gateway=gateway: state_of(gateway) == "degraded")
                    page = gateway.ask("GET", "/metrics").body.decode()
                    assert "fastroute_state_up 0.0" in page
                moves(gateways, 10, seed=0)  # they are served, by what each replica knows
                time.sleep(0.7)

            def recovered(seed: int) -> None:
                for gateway in gateways:
                    gateway.wait_for(lambda gateway=gateway: state_of(gateway) == "ready")
                seeds = iter(range(100 * seed, 100 * seed + 99))
                gateways[0].wait_for(lambda: moves(gateways, 20, seed=next(seeds)) == 0)

            redis.pause()
            degraded()
            redis.resume()
            recovered(seed=1)
            network.cut()
            degraded()
            network.restore()
            recovered(seed=2)
            redis.kill()
            degraded()
            redis.start()
            recovered(seed=3)
    assert traffic.failed == []
    assert len(traffic.seconds) > 100
    assert sorted(traffic.seconds)[len(traffic.seconds) // 2] < 0.4
    lost = [line["reason"] for line in gateways[0].events("no answer from the server of [state]")]
    assert any("Connect" in reason or "refused" in reason for reason in lost), lost


def test_the_other_replica_goes_on_with_the_conversations_of_one_that_was_killed(
    tmp_path: Path, redis: Redis, upstream: Server
) -> None:
    text = ROUTING.format(base_url=upstream.base_url, url=redis.url)
    with replicas.start(tmp_path, text, 2) as gateways, Traffic(gateways) as traffic:
        first, second = gateways
        for number in range(20):
            assert model_of(ask(first, HARD, str(number))) == "strong"
        traffic.leave(first)
        first.process.kill()
        for number in range(20):
            assert model_of(ask(second, EASY, str(number))) == "strong"
    assert traffic.failed == []


def test_an_endpoint_that_fails_for_one_replica_is_spared_by_the_others(
    tmp_path: Path, redis: Redis, upstream: Server
) -> None:
    text = ROUTING.format(base_url=upstream.base_url, url=redis.url)
    text += "[resilience]\nretries = 0\nbreaker_failures = 3\nbreaker_open_s = 5.0\n"
    with replicas.start(tmp_path, text, 2) as (first, second):
        upstream.plan(*[{"kind": "status", "status": 500}] * 3)
        assert [ask(first, EASY).status for _ in range(4)] == [500, 500, 500, 503]
        second.wait_for(
            lambda: second.events("an endpoint fails for another replica, and is skipped")
        )
        before = len(upstream.requests())
        refused = ask(second, EASY)
        assert refused.json()["error"]["code"] == "provider_unavailable"
        assert len(upstream.requests()) == before
        second.wait_for(lambda: ask(second, EASY).status == 200)  # by a probe
        first.wait_for(lambda: ask(first, EASY).status == 200)


def test_the_share_is_held_over_all_replicas(
    tmp_path: Path, redis: Redis, upstream: Server
) -> None:
    text = (
        ROUTING.format(base_url=upstream.base_url, url=redis.url)
        .replace(
            "threshold = 0.5",
            "strong_share = 0.3\n[routing.held_share]\nenabled = true\nstep = 0.05",
        )
        .replace('routers = ["length"]', 'routers = ["mf"]')
    )
    with replicas.start(tmp_path, text, 3) as gateways:
        models: Counter[str] = Counter()
        for number in range(180):  # one replica is far from its share: the others make up for it
            text = f"prove theorem {number} of algebraic geometry" if number % 3 else "hello"
            models[model_of(ask(gateways[number % 3], text))] += 1
            if number % 30 == 29:
                time.sleep(0.6)
        assert abs(models["strong"] - 0.3 * 180) <= 1 / 0.05 + 30
