"""Keys, limits, logs, metrics, shutdown: the gateway as whoever runs it sees it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.openai_chat import event
from fakes.planned import Server, View
from fastroute.gateway.config.settings import KeyConfig
from fastroute.gateway.protocol.auth import KeyRing, hash_key

ASK = [{"role": "user", "content": "a secret prompt"}]
LONG = [{"role": "user", "content": "a long question " * 20}]
PROVIDER = {"PROVIDER_KEY": "sk-provider-0123456789abcdef"}
KEY = "fr-0123456789abcdef0123456789abcdef"


def extended(config_file: str, text: str) -> str:
    path = Path(config_file)
    path.write_text(path.read_text() + text)
    return config_file


def test_a_key_ring() -> None:
    keys = [KeyConfig(name=n, sha256=hash_key(k)) for n, k in (("a", "key-a"), ("b", "key-b"))]
    ring = KeyRing(keys)
    assert ring.caller({"authorization": "Bearer key-b"}) == "b"
    assert ring.caller({"authorization": "bearer key-a"}) == "a"
    assert ring.caller({"x-api-key": "key-a"}) == "a"
    for wrong in ("", "key-a", "Basic key-a", "Bearer key-c", "Bearer", "Bearer key-a x"):
        assert ring.caller({"authorization": wrong}) is None
        assert ring.caller({"authorization": wrong, "x-api-key": "key-a"}) is None
    for missing in ({}, {"x-api-key": ""}, {"x-api-key": "Bearer key-a"}):
        assert ring.caller(missing) is None
    assert KeyRing(()).caller({}) == "anyone"
    assert "key-a" not in repr(keys)


def test_keys_are_asked_for_everywhere_but_health(config_file: str, upstream: View) -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "fastroute", "serve", "--hash-key"],
        input=KEY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    path = extended(config_file, f"\n{printed}")
    good = {"Authorization": f"Bearer {KEY}"}
    body = {"model": "weak", "messages": ASK}
    with gateways.start("--config", path, environment=PROVIDER) as gateway:
        for method, where in (
            ("POST", "/v1/chat/completions"),
            ("POST", "/v1/route"),
            ("GET", "/v1/models"),
            ("GET", "/metrics"),
        ):
            sent = body if method == "POST" else None
            for headers in ({}, {"Authorization": "Bearer wrong-key-wrong-key"}):
                refused = gateway.ask(method, where, sent, headers)
                assert (refused.status, refused.json()["error"]["code"]) == (401, "invalid_api_key")
            assert gateway.ask(method, where, sent, good).status == 200
        assert gateway.ask("GET", "/health").status == 200
        assert gateway.ask("GET", "/ready").status == 200
        with openai.OpenAI(base_url=gateway.base_url, api_key=KEY) as client:
            client.chat.completions.create(model="weak", messages=ASK)
        assert gateway.events("request")[-1]["caller"] == "caller"
        logged = "".join(gateway.lines)
    assert KEY not in logged
    assert "wrong-key" not in logged
    assert all(KEY not in str(seen["headers"]) for seen in upstream.requests())


def test_logs_have_no_prompts_and_no_keys(gateway: Gateway, upstream: View) -> None:
    upstream.plan({"kind": "status", "status": 400, "message": "you said: a secret prompt"})
    before = len(gateway.lines)
    for _ in range(2):
        gateway.ask("POST", "/v1/chat/completions", {"model": "fastroute", "messages": ASK})
    lines = gateway.wait_for(lambda: gateway.events("request")[-2:])
    gateway.wait_for(lambda: len(gateway.lines) >= before + 2)
    assert [line["status"] for line in gateway.events("request")[-2:]] == [400, 200]
    assert lines
    logged = "".join(gateway.lines[before:])
    assert "secret" not in logged
    assert PROVIDER["PROVIDER_KEY"] not in logged


def test_prompts_are_logged_if_asked_for(config_file: str) -> None:
    arguments = ("--config", config_file, "--log-prompts")
    with gateways.start(*arguments, environment=PROVIDER) as gateway:
        gateway.ask("POST", "/v1/chat/completions", {"model": "fastroute", "messages": ASK})
        line = gateway.wait_for(lambda: gateway.events("request"))[0]
        assert line["prompt"] == "a secret prompt"


def test_it_listens_on_this_machine_only_unless_told_otherwise(gateway: Gateway) -> None:
    assert gateway.events("serving")[0]["host"] == "127.0.0.1"


# Limits


@pytest.fixture(scope="module")
def small(upstream_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    text = f"""
[server]
max_body_bytes = 2000
max_concurrency = 2
retry_after_s = 7
body_timeout_s = 0.5
[routing]
strong_model = "strong"
weak_model = "weak"
router = "length"
[endpoint]
base_url = "{upstream_server.base_url}"
other_models = false
"""
    path = gateways.write_config(tmp_path_factory.mktemp("small"), text)
    with gateways.start("--config", path) as running:
        yield running


def test_a_long_body_is_refused(small: Gateway, upstream: View) -> None:
    body = {"model": "weak", "messages": ASK, "pad": "x" * 3000}
    answer = small.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.json()["error"]["code"]) == (413, "body_too_long")
    with socket.create_connection(("127.0.0.1", small.port)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\n"
            b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(b"7d0\r\n" + b"x" * 2000 + b"\r\n7d0\r\n" + b"x" * 2000 + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")
    assert upstream.requests() == []


def test_a_slow_body_is_refused(small: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", small.port)) as connection:
        connection.sendall(
            b"POST /v1/route HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n{"
        )
        connection.settimeout(10)
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "headers", [b"a: b\r\n" * 500, b"a: " + b"b" * 100_000 + b"\r\n"], ids=["many", "long"]
)
def test_too_many_headers_are_refused(small: Gateway, headers: bytes) -> None:
    with socket.create_connection(("127.0.0.1", small.port)) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + headers + b"\r\n")
        assert b" 400 Bad Request\r\n" in connection.recv(100)
    assert small.ask("GET", "/health").status == 200


def test_too_many_requests_at_once_are_told_when_to_come_back(
    small: Gateway, upstream: View
) -> None:
    upstream.plan(*[{"kind": "endless", "seconds": 0.05}] * 2)
    body = {"model": "weak", "messages": ASK, "stream": True}
    with openai.OpenAI(base_url=small.base_url, api_key="x", max_retries=0) as client:
        streams = [client.chat.completions.create(**body) for _ in range(2)]
        answer = small.ask("POST", "/v1/chat/completions", body)
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        for stream in streams:
            stream.close()
    small.wait_for(lambda: small.ask("POST", "/v1/route", body).status == 200)


def test_models_that_are_not_served_are_refused(small: Gateway) -> None:
    answer = small.ask("POST", "/v1/chat/completions", {"model": "other", "messages": ASK})
    assert (answer.status, answer.json()["error"]["code"]) == (404, "model_not_found")


# Metrics


def _value(text: str, name: str, **labels: str) -> float:
    for line in text.splitlines():
        if line.startswith(name + ("{" if labels else " ")) and all(
            f'{k}="{v}"' in line for k, v in labels.items()
        ):
            return float(line.rsplit(" ", 1)[1])
    return 0.0


def test_metrics_count_decisions_tokens_and_dollars(gateway: Gateway, upstream: View) -> None:
    def read() -> str:
        return gateway.ask("GET", "/metrics").body.decode()

    before, requests = read(), len(gateway.events("request"))
    usage = {"usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
    stream = event("x") + f"data: {json.dumps({'choices': [], **usage})}\n\ndata: [DONE]\n\n"
    upstream.plan(
        {"kind": "reply", "body": {"choices": [], **usage}},
        {"kind": "events", "raw": stream, "pieces": 7},
    )
    ask = {"model": "router-length-0.5", "messages": ASK}
    gateway.ask("POST", "/v1/chat/completions", ask)
    gateway.ask("POST", "/v1/chat/completions", ask | {"stream": True})
    # The second answer is counted when its stream has ended, which its client may see first.
    gateway.wait_for(lambda: len(gateway.events("request")) >= requests + 2)
    after = read()

    def grown(name: str, **labels: str) -> float:
        return _value(after, name, **labels) - _value(before, name, **labels)

    assert grown("fastroute_decisions_total", router="length", model="weak") == 2
    assert grown("fastroute_win_rate_count", router="length") == 2
    billed = {"model": "weak", "source": "provider"}
    assert grown("fastroute_tokens_total", way="input", **billed) == 2000
    assert grown("fastroute_spent_dollars_total", **billed) == pytest.approx(2 * 0.0012)
    # The strong model would have cost 0.013 each.
    assert grown("fastroute_saved_dollars_total", router="length") == pytest.approx(2 * 0.0118)
    assert grown("fastroute_upstream_seconds_count", model="weak") == 2


# Sticky conversations, through the gateway


def test_a_conversation_stays_where_it_is(config_file: str) -> None:
    path = Path(config_file)
    path.write_text(re.sub(r'by = "none"', 'by = "messages"', path.read_text()))
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:

        def ask(*contents: str) -> Any:
            messages = [{"role": "user", "content": content} for content in contents]
            body = {"model": "router-length-0.5", "messages": messages}
            return gateway.ask("POST", "/v1/chat/completions", body).headers

        hard, easy = "a long question " * 20, "yes, do it"
        assert ask(easy)["x-fastroute-model"] == "weak"
        assert ask(hard)["x-fastroute-model"] == "strong"
        stayed = ask(hard, easy)
        assert (stayed["x-fastroute-model"], stayed["x-fastroute-sticky"]) == ("strong", "stayed")
        # A conversation that another process served before: its turns are in the request.
        assert ask("another " + hard, easy)["x-fastroute-model"] == "strong"
        # Past the margin it moves.
        assert ask(hard, "a question that is not short at all, but easy")["x-fastroute-model"] == (
            "weak"
        )


# Shutdown


def test_shutdown_finishes_streams_and_takes_no_more(config_file: str, upstream: View) -> None:
    raw = "".join(event(f"{i} ") for i in range(10)) + "data: [DONE]\n\n"
    upstream.plan({"kind": "events", "raw": raw, "pieces": 10, "seconds": 0.2})
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        with openai.OpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
            stream = client.chat.completions.create(model="weak", messages=ASK, stream=True)
            first = next(iter(stream)).choices[0].delta.content
            gateway.signal(signal.SIGTERM)
            rest = [chunk.choices[0].delta.content for chunk in stream]
        assert "".join([first, *rest]) == "".join(f"{i} " for i in range(10))
        assert gateway.process.wait(timeout=10) == 0
        with pytest.raises(ConnectionRefusedError):
            gateway.ask("GET", "/health")


# The command


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--check", "--strong-model", "s"], "weak_model: missing key"),
        (["--check", "--strong-model", "s", "--weak-model", "w", "--api-key-env", "NO"], "NO is"),
        (
            ["--config", "nowhere.toml"],
            "nowhere.toml: the file can't be read: No such file or directory\n",
        ),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fastroute", "serve", *arguments], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_check_makes_the_routers(tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(
        '[routing]\nstrong_model = "s"\nweak_model = "w"\n[routers.mf]\ncheckpoint_path = "gone"\n'
    )
    done = subprocess.run(
        [sys.executable, "-m", "fastroute", "serve", "--check", "--config", str(config)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "gone" in done.stderr
    assert "Traceback" not in done.stderr


def test_routellms_flags(upstream: View) -> None:
    arguments = ("--routers", "length", "--strong-model", "big", "--weak-model", "little")
    with gateways.start(
        *arguments, "--base-url", upstream.base_url, "--api-key", "sk-flag"
    ) as gateway:
        body = {"model": "router-length-0.5", "messages": LONG}
        assert gateway.ask("POST", "/v1/chat/completions", body).status == 200
        seen = upstream.requests()[0]
        assert (seen["model"], seen["headers"]["authorization"]) == ("big", "Bearer sk-flag")


def test_many_clients_at_once_all_get_their_own_answers(gateway: Gateway) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        with openai.OpenAI(base_url=gateway.base_url, api_key="x", max_retries=0) as client:
            for i in range(10):
                text = f"{number}-{i}"
                answer = client.chat.completions.create(
                    model="router-random-0.5",
                    messages=[{"role": "user", "content": text}],
                )
                if answer.choices[0].message.content != f"echo: {text}":
                    wrong.append(text)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_slow_router_does_not_hold_up_others(upstream: View) -> None:
    # A prompt of some megabytes takes the router long; health must answer meanwhile.
    arguments = ("--routers", "mf", "--strong-model", "s", "--weak-model", "w")
    with gateways.start(*arguments, "--base-url", upstream.base_url) as gateway:
        body = {
            "model": "router-mf-0.5",
            "messages": [{"role": "user", "content": "word " * 10**6}],
        }
        taken: list[float] = []

        def route() -> None:
            assert gateway.ask("POST", "/v1/route", body).status == 200

        thread = threading.Thread(target=route)
        thread.start()
        while thread.is_alive():
            began = time.monotonic()
            gateway.ask("GET", "/health")
            taken.append(time.monotonic() - began)
        thread.join()
        assert len(taken) > 3  # it answered while the router was at work
