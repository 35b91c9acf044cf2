"""Budgets and rates of callers, over one process and over replicas whose server fails."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fakes import openai_billed, replicas
from fakes import redis as servers
from fakes.gateway import Answer, Gateway
from fakes.planned import Server
from fakes.redis import Redis
from fakes.replicas import FAILING, ROUTING, ask, state_of
from fastroute.errors import ConfigError
from fastroute.gateway.config.settings import load_config
from fastroute.gateway.protocol.auth import hash_key

EASY = "yes, do it"

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
def redis(tmp_path: Path) -> Iterator[Redis]:
    (tmp_path / "redis").mkdir()
    with servers.start(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def billed() -> Iterator[Server]:
    with openai_billed.start() as server:
        yield server


def metric(gateway: Gateway, name: str) -> float:
    headers = {"authorization": "Bearer key-of-team-0123456789"}
    page = gateway.ask("GET", "/metrics", headers=headers).body.decode()
    return sum(float(n) for n in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", page, re.M))


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
                if answer.status == 429 and answer.json()["error"]["code"] == "budget_exhausted":
                    return answer
                assert answer.status in (200, 429, 503), answer.body
                time.sleep(0.1 if answer.status != 200 else 0.0)

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


@pytest.mark.parametrize("seed", range(2))
def test_whatever_dies_a_budget_is_passed_by_no_more_than_the_leases(
    tmp_path: Path, redis: Redis, billed: Server, seed: int
) -> None:
    usd, chance = 0.3, random.Random(seed)
    with servers.network(redis.port) as network:
        text = FAILING.format(base_url=billed.base_url, url=network.url)
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
    text = FAILING.format(base_url=billed.base_url, url=redis.url) + BUDGETS.format(usd=1.0)
    with replicas.start(tmp_path, text, 1) as (gateway,):
        gateway.wait_for(lambda: redis.ask("KEYS", "fastroute:budget:*"))  # the lease is taken
        redis.kill()
        answers = [spend(gateway) for _ in range(20)]
        assert {answer.status for answer in answers} == {200, 503}
        assert answers[0].status == 200
        assert answers[-1].json()["error"]["code"] == "budget_unknown"
        assert 0.5 * 0.05 <= dollars(billed) <= 0.05
        redis.start()
        gateway.wait_for(lambda: spend(gateway).status == 200)


def test_a_rate_holds_over_replicas(tmp_path: Path, redis: Redis, billed: Server) -> None:
    text = ROUTING.format(base_url=billed.base_url, url=redis.url)
    text += "[budgets]\nrequests_per_minute = 40\n"
    with replicas.start(tmp_path, text, 2) as gateways:
        if time.time() % 60 > 35:  # all of it must be in one minute
            time.sleep(61.0 - time.time() % 60)
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
