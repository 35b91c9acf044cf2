"""Replicas that share a real Redis server, which is killed, paused and cut off under them."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fakes import openai_any, openai_billed, replicas
from fakes import redis as servers
from fakes.gateway import Answer, Gateway
from fakes.planned import Server
from fakes.redis import Redis
from fakes.replicas import state_of
from fastroute.errors import ConfigError
from fastroute.gateway.config.settings import load_config
from fastroute.gateway.protocol.auth import hash_key

ROUTING = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
threshold = 0.5

[routers.length]
half_length = 100.0

[routing.session_affinity]
by = "header"
margin = 0.1

[endpoint]
base_url = "{base_url}"

[models.strong]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 30.0

[models.weak]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 2.0

[state]
url = "{url}"
wait_s = 0.2  # this machine may be busy
"""
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


def ask(gateway: Gateway, text: str, session: str = "", **more: Any) -> Answer:
    body = {"model": "fastroute", "messages": [{"role": "user", "content": text}], **more}
    headers = {"x-session-id": session} if session else {}
    return gateway.ask("POST", "/v1/chat/completions", body, headers)


def model_of(answer: Answer) -> str:
    assert answer.status == 200, answer.body
    return answer.headers["x-fastroute-model"]


def moves(gateways: list[Gateway], conversations: int, seed: int) -> int:
    """Conversations that left their model: each asks any of the replicas, and a half is hard at
    first, so that only who knows that sends the rest to the strong model too."""
    chance = random.Random(seed)

    def converse(number: int) -> bool:
        turns = [HARD if number % 2 else EASY, EASY, EASY, EASY]
        session = f"{seed}-{number}"
        asked = [model_of(ask(chance.choice(gateways), text, session)) for text in turns]
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
        text = ROUTING.format(base_url=upstream.base_url, url=network.url)
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
    assert sorted(traffic.seconds)[len(traffic.seconds) // 2] < 0.1
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
    text += "[resilience]\nretries = 0\nbreaker_failures = 3\nbreaker_open_s = 3.0\n"
    with replicas.start(tmp_path, text, 2) as (first, second):
        upstream.plan(*[{"kind": "status", "status": 500}] * 3)
        assert [ask(first, EASY).status for _ in range(4)] == [500, 500, 500, 503]
        time.sleep(1.2)
        before = len(upstream.requests())
        refused = ask(second, EASY)
        assert refused.json()["error"]["code"] == "provider_unavailable"
        assert len(upstream.requests()) == before
        time.sleep(3.0)
        assert ask(second, EASY).status == 200  # by a probe
        time.sleep(0.7)
        assert ask(first, EASY).status == 200


def metric(gateway: Gateway, name: str) -> float:
    headers = {"authorization": "Bearer key-of-team-0123456789"}
    page = gateway.ask("GET", "/metrics", headers=headers).body.decode()
    return sum(float(n) for n in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", page, re.M))


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
        for number in range(300):  # one replica is far from its share: the others make up for it
            text = f"prove theorem {number} of algebraic geometry" if number % 3 else "hello"
            models[model_of(ask(gateways[number % 3], text))] += 1
            if number % 30 == 29:
                time.sleep(0.6)
        assert abs(models["strong"] - 0.3 * 300) <= 1 / 0.05 + 30


KEYS = "\n".join(
    f'[[keys]]\nname = "{name}"\nsha256 = "{hash_key(f"key-of-{name}-0123456789")}"'
    for name in ("team", "other")
)
BUDGETS = f"""
{KEYS}

[resilience]
retries = 0

[budgets]
lease_share = 0.05
reserve_output_tokens = 100

[budgets.callers.team]
usd_per_day = {{usd}}
"""


@pytest.fixture
def billed() -> Iterator[Server]:
    with openai_billed.start() as server:
        yield server


def spend(gateway: Gateway, caller: str = "team", path: str = "/v1/chat/completions") -> Answer:
    body = {"model": "strong", "messages": [{"role": "user", "content": "x" * 400}]}
    headers = {"authorization": f"Bearer key-of-{caller}-0123456789"}
    return gateway.ask("POST", path, body, headers)


def dollars(server: Server) -> float:
    """What the provider bills."""
    bills = [request["billed"] for request in server.requests() if "billed" in request]
    return sum(b["prompt_tokens"] * 10e-6 + b["completion_tokens"] * 30e-6 for b in bills)


def test_a_budget_is_used_up_by_all_replicas_together(
    tmp_path: Path, redis: Redis, billed: Server
) -> None:
    usd = 0.2
    text = ROUTING.format(base_url=billed.base_url, url=redis.url) + BUDGETS.format(usd=usd)
    with replicas.start(tmp_path, text, 2) as gateways:

        def serve(gateway: Gateway) -> Answer:
            while True:
                answer = spend(gateway)
                if answer.status == 429:
                    if answer.json()["error"]["code"] == "budget_exhausted":
                        return answer
                    time.sleep(0.1)
                else:
                    assert answer.status == 200, answer.body

        with ThreadPoolExecutor(4) as pool:
            refused = list(pool.map(serve, gateways * 2))
        assert 0.9 * usd <= dollars(billed) <= usd
        said = refused[0].json()["error"]["message"]
        assert re.fullmatch(
            r"of the caller's budget of \$0\.2 a day \$0\.0\d+ is left, and this request may cost "
            r"\$0\.00\d+; the budget renews at \d{4}-\d\d-\d\dT00:00:00Z",
            said,
        )
        assert 0 < int(refused[0].headers["retry-after"]) <= 86400
        assert refused[0].headers["x-should-retry"] == "false"
        assert spend(gateways[0], path="/v1/messages").json()["error"]["type"] == "rate_limit_error"
        assert spend(gateways[0], "other").status == 200  # has no budget
        route = spend(gateways[0], path="/v1/route")
        assert route.status == 200  # costs nothing
        assert sum(metric(g, "fastroute_budget_refusals_total") for g in gateways) >= 2
        # A new replica knows of it from its start.
        with replicas.start(tmp_path, text, 1) as (late,):
            assert spend(late).json()["error"]["code"] == "budget_exhausted"


@pytest.mark.parametrize("seed", range(3))
def test_whatever_dies_a_budget_is_passed_by_no_more_than_the_leases(
    tmp_path: Path, redis: Redis, billed: Server, seed: int
) -> None:
    usd, chance = 0.3, random.Random(seed)
    with servers.network(redis.port) as network:
        text = ROUTING.format(base_url=billed.base_url, url=network.url)
        with replicas.start(tmp_path, text + BUDGETS.format(usd=usd), 3) as gateways:
            alive, ends = list(gateways), threading.Event()

            def serve(number: int) -> None:
                while not ends.is_set():
                    gateway = gateways[number % 3]
                    if gateway not in alive:
                        return
                    try:
                        answer = spend(gateway)
                    except OSError:
                        assert gateway not in alive
                        return
                    assert answer.status in (200, 429, 503), answer.body
                    if answer.status != 200:
                        time.sleep(0.05)

            with ThreadPoolExecutor(6) as pool:
                done = [pool.submit(serve, number) for number in range(6)]
                for _ in range(3):
                    time.sleep(chance.uniform(0.1, 0.6))
                    fault = chance.choice(["kill", "pause", "cut", "replica"])
                    if fault == "replica" and len(alive) == 3:
                        dead = alive.pop(0)
                        dead.process.kill()
                    elif fault == "kill":
                        redis.kill()
                        time.sleep(0.2)
                        redis.start()
                    elif fault == "pause":
                        redis.pause()
                        time.sleep(0.3)
                        redis.resume()
                    else:
                        network.cut()
                        time.sleep(0.3)
                        network.restore()
                end = time.monotonic() + 20
                while time.monotonic() < end and any(
                    spend(gateway).status == 200 for gateway in alive
                ):
                    time.sleep(0.1)
                ends.set()
                for future in done:
                    future.result()
            assert usd / 2 <= dollars(billed) <= usd * (1 + 3 * 0.05)
            for gateway in alive:
                gateway.wait_for(lambda gateway=gateway: state_of(gateway) == "ready")


def test_without_its_server_a_replica_spends_its_lease_and_no_more(
    tmp_path: Path, redis: Redis, billed: Server
) -> None:
    text = ROUTING.format(base_url=billed.base_url, url=redis.url) + BUDGETS.format(usd=1.0)
    with replicas.start(tmp_path, text, 1) as (gateway,):
        time.sleep(0.7)  # the lease is taken
        redis.kill()
        answers = [spend(gateway) for _ in range(20)]
        assert {answer.status for answer in answers} == {200, 503}
        assert answers[0].status == 200
        assert answers[-1].json()["error"]["code"] == "budget_unknown"
        assert 0.5 * 0.05 <= dollars(billed) <= 0.05
        redis.start()
        gateway.wait_for(lambda: spend(gateway).status == 200)


def test_a_rate_holds_over_replicas(tmp_path: Path, redis: Redis, upstream: Server) -> None:
    text = ROUTING.format(base_url=upstream.base_url, url=redis.url)
    text += "[budgets]\nrequests_per_minute = 40\n"
    with replicas.start(tmp_path, text, 2) as gateways:
        time.sleep(max(0.0, 61.0 - time.time() % 60) if time.time() % 60 > 50 else 0.0)
        answers = [ask(gateways[number % 2], EASY) for number in range(60)]
        served = sum(answer.status == 200 for answer in answers)
        assert 36 <= served <= 40
        assert answers[-1].json()["error"]["code"] == "rate_limited"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60


def test_a_budget_of_one_process_needs_no_server(tmp_path: Path, billed: Server) -> None:
    text = ROUTING.format(base_url=billed.base_url, url="").partition("[state]")[0]
    with replicas.start(tmp_path, text + BUDGETS.format(usd=0.1), 1) as (gateway,):
        answers = [spend(gateway) for _ in range(40)]
        assert answers[-1].json()["error"]["code"] == "budget_exhausted"
        assert 0.08 <= dollars(billed) <= 0.1
        path = tmp_path / "gateway.toml"
        path.write_text(text + BUDGETS.format(usd=0.2))
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reloaded"))
        assert [spend(gateway).status for _ in range(40)].count(200) > 10
        assert 0.18 <= dollars(billed) <= 0.2  # what was used stays used


def test_a_model_without_a_price_is_refused_to_a_caller_with_a_budget(
    tmp_path: Path, billed: Server
) -> None:
    text = ROUTING.format(base_url=billed.base_url, url="").partition("[state]")[0]
    with replicas.start(tmp_path, text + BUDGETS.format(usd=0.1), 1) as (gateway,):
        body = {"model": "gpt-unknown", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"authorization": "Bearer key-of-team-0123456789"}
        refused = gateway.ask("POST", "/v1/chat/completions", body, headers)
        assert (refused.status, refused.json()["error"]["code"]) == (403, "model_without_price")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[budgets.callers.nobody]\nusd_per_day = 1.0", "no key has the name 'nobody'"),
        ("[budgets]\nusd_per_day = 1.0\n[server]\nworkers = 2", "several workers need [state]"),
        ("[budgets]\nrequests_per_minute = 0", "budgets.requests_per_minute"),
        ('[state]\nurl = "redis://u:p@host"', "must not have a user or password"),
        ('[state]\nurl = "redis://host"\npassword = "s3cret"', "password_env"),
    ],
)
def test_sections_that_can_not_hold(tmp_path: Path, more: str, said: str) -> None:
    text = ROUTING.format(base_url="http://127.0.0.1:1/v1", url="").partition("[state]")[0]
    path = tmp_path / "gateway.toml"
    path.write_text(text + more)
    with pytest.raises(ConfigError) as caught:
        load_config(str(path))
    assert said in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_budget_needs_prices(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(
        '[routing]\nstrong_model = "a"\nweak_model = "b"\n[budgets]\nusd_per_day = 1.0\n'
    )
    with pytest.raises(ConfigError, match="usd_per_day needs the prices of every model"):
        load_config(str(path))
