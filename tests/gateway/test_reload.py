"""SIGHUP reads the config again and drops nothing; a worker that dies is started again."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import openai

from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.openai_chat import event
from fakes.planned import View

PROVIDER = {"PROVIDER_KEY": "sk-provider-0123456789abcdef"}
ASK = [{"role": "user", "content": "short"}]
ROUTE = {"model": "fastroute", "messages": ASK}


def test_a_reload_serves_new_requests_by_the_new_config(config_file: str) -> None:
    path = Path(config_file)
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        assert gateway.ask("POST", "/v1/route", ROUTE).json()["threshold"] == 0.5
        path.write_text(path.read_text().replace("threshold = 0.5", "threshold = 0.01"))
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reloaded"))
        said = gateway.ask("POST", "/v1/route", ROUTE).json()
        assert (said["threshold"], said["model"]) == (0.01, "strong")


def test_a_bad_config_changes_nothing(config_file: str) -> None:
    path = Path(config_file)
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        path.write_text(path.read_text().replace("threshold = 0.5", "threshold = 5"))
        gateway.signal(signal.SIGHUP)
        line = gateway.wait_for(lambda: gateway.events("reload refused"))[0]
        assert "routing.threshold" in line["reason"]
        assert gateway.ask("POST", "/v1/route", ROUTE).json()["threshold"] == 0.5


def test_a_reload_drops_no_request(config_file: str, upstream: View) -> None:
    raw = "".join(event(f"{i} ") for i in range(10)) + "data: [DONE]\n\n"
    upstream.plan({"kind": "events", "raw": raw, "pieces": 10, "seconds": 0.25})
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        failures: list[BaseException] = []
        done = threading.Event()

        def ask_on() -> None:
            with openai.OpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
                while not done.is_set():
                    try:
                        client.chat.completions.create(model="weak", messages=ASK)
                    except openai.OpenAIError as error:
                        failures.append(error)

        with openai.OpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
            stream = client.chat.completions.create(model="weak", messages=ASK, stream=True)
            text = [next(iter(stream)).choices[0].delta.content]
            threads = [threading.Thread(target=ask_on) for _ in range(3)]
            for thread in threads:
                thread.start()
            for number in range(3):
                gateway.signal(signal.SIGHUP)
                gateway.wait_for(lambda n=number: len(gateway.events("reloaded")) > n)
            text += [chunk.choices[0].delta.content for chunk in stream]
            done.set()
            for thread in threads:
                thread.join()
        assert "".join(text) == "".join(f"{i} " for i in range(10))
        assert failures == []


def _worker_pids(gateway: Gateway) -> list[int]:
    return [line["pid"] for line in gateway.events("worker started")]


def test_a_killed_worker_is_started_again_and_the_other_serves_on(
    config_file: str, upstream: View, record_property: Callable[[str, object], None]
) -> None:
    arguments = ("--config", config_file, "--workers", "2")
    with gateways.start(*arguments, environment=PROVIDER) as gateway:
        gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
        outcomes: list[str] = []

        def ask(count: int) -> None:
            for _ in range(count):
                try:
                    answer = gateway.ask("POST", "/v1/chat/completions", ROUTE)
                    outcomes.append(str(answer.status))
                except (OSError, http.client.HTTPException) as error:
                    outcomes.append(type(error).__name__)

        threads = [threading.Thread(target=ask, args=(40,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        os.kill(_worker_pids(gateway)[0], signal.SIGKILL)
        for thread in threads:
            thread.join()
        gateway.wait_for(lambda: len(gateway.events("serving")) == 3)
        # Clients of the dead worker saw their connection break, at most those under way; no
        # request was answered by anything but 200 or its connection's end.
        broken = [outcome for outcome in outcomes if outcome != "200"]
        record_property("clients_saw", dict(Counter(outcomes)))
        print("kill -9 of one of two workers: clients saw", dict(Counter(outcomes)))
        assert len(outcomes) == 160
        assert set(broken) <= {"ConnectionResetError", "RemoteDisconnected", "IncompleteRead"}
        assert len(broken) <= 8

        # The counts of all workers are there, whichever is asked; those of the dead one too, but
        # for what it had answered and not yet counted: at most one request a client.
        def counted() -> int:
            text = gateway.ask("GET", "/metrics").body.decode()
            # Nor is what the dead one was serving still under way.
            assert "fastroute_requests_in_flight" in text
            if "fastroute_requests_in_flight 0.0" not in text:
                return 0
            found = re.findall(
                r'fastroute_requests_total\{path="/chat/completions",status="200"\} (\d+)', text
            )
            return sum(map(int, found))

        assert gateway.wait_for(lambda: counted() >= 160 - len(broken) - 4)
        assert counted() <= 160
        assert len(upstream.requests()) >= 160 - len(broken)
        gateway.signal(signal.SIGTERM)
        assert gateway.process.wait(timeout=20) == 0


def test_workers_reload_together(config_file: str) -> None:
    path = Path(config_file)
    arguments = ("--config", config_file, "--workers", "2")
    with gateways.start(*arguments, environment=PROVIDER) as gateway:
        gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
        path.write_text(path.read_text().replace("threshold = 0.5", "threshold = 0.25"))
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: len(gateway.events("reloaded")) == 2)
        said = [gateway.ask("POST", "/v1/route", ROUTE).json()["threshold"] for _ in range(8)]
        assert set(said) == {0.25}


def test_a_request_without_a_model_goes_to_the_default_one(
    config_file: str, upstream: View
) -> None:
    path = Path(config_file)
    config = path.read_text()
    systems = [{"role": "system", "content": "be brief"}, {"role": "developer", "content": "x"}]
    named = (
        ("weak", "weak", ASK),
        ("router-length-0", "strong", ASK),
        ("fastroute", "weak", systems),
    )
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        for count, (default, model, messages) in enumerate(named, 1):
            path.write_text(config.replace("[routing]", f'[routing]\ndefault_model = "{default}"'))
            gateway.signal(signal.SIGHUP)
            gateway.wait_for(lambda n=count: len(gateway.events("reloaded")) == n)
            for body in ({"messages": messages}, {"model": None, "messages": messages}):
                answer = gateway.ask("POST", "/v1/chat/completions", body)
                assert (answer.status, answer.headers["x-fastroute-model"]) == (200, model)
                assert upstream.requests()[-1]["model"].startswith(model)  # its name there
                assert upstream.requests()[-1]["messages"] == messages
        said = "the request names no model: routing.default_model is used"
        gateway.wait_for(lambda: len(gateway.events(said)) == 6)
        models = [line["model"] for line in gateway.events(said)]
        assert models == [default for default, _, _ in named for _ in range(2)]
        path.write_text(config.replace("[routing]", '[routing]\ndefault_model = "router-mf-x"'))
        gateway.signal(signal.SIGHUP)
        line = gateway.wait_for(lambda: gateway.events("reload refused"))[0]
        assert "routing.default_model" in line["reason"]
