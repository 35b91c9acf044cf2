"""What an attacker tried on the gateway, and what keeps it from working."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.planned import View
from fastroute.gateway.protocol.origin import refuse_other_pages
from fastroute.gateway.protocol.replies import RefusalError

ASK = [{"role": "user", "content": "hello"}]
PROVIDER = {"PROVIDER_KEY": "sk-provider-0123456789abcdef"}


def replace(config_file: str, old: str, new: str) -> None:
    path = Path(config_file)
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Origin": "https://evil.example", "Content-Type": "text/plain"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/route", "/ui/stats", "/metrics"])
def test_pages_of_others_can_not_use_a_gateway_without_keys(
    gateway: Gateway, upstream: View, path: str, headers: dict[str, str]
) -> None:
    body = {"model": "weak", "messages": ASK} if path.startswith("/v1") else None
    answer = gateway.ask("POST" if body else "GET", path, body, headers)
    assert answer.status == 403
    assert b"this gateway has no keys" in answer.body
    assert not upstream.requests()


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:1", "[::1]:8000"])
def test_its_own_page_and_plain_clients_can(gateway: Gateway, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, "Origin": f"http://{host.lower()}"}):
        assert gateway.ask("GET", "/v1/models", None, headers).status == 200
    assert gateway.ask("GET", "/health", None, {"Host": "probe.example"}).status == 200


def test_beyond_loopback_any_name_may_be_its_own_but_not_another_pages() -> None:
    headers = {"host": "gateway.example:6060", "origin": "http://gateway.example:6060"}
    refuse_other_pages("/v1/models", headers, "0.0.0.0")
    with pytest.raises(RefusalError, match=r"a page of 'http://evil\.example'"):
        refuse_other_pages("/v1/models", headers | {"origin": "http://evil.example"}, "0.0.0.0")


@pytest.mark.parametrize("host", ["127.1", "::ffff:127.0.0.1", "0x7f000001", "localhost"])
def test_every_way_to_write_a_loopback_address_is_guarded(config_file: str, host: str) -> None:
    with gateways.start("--config", config_file, "--host", host, environment=PROVIDER) as gateway:
        refused = gateway.ask("GET", "/v1/models", None, {"Host": "evil.example"})
        assert refused.status == 403
        assert gateway.ask("GET", "/v1/models", None, {"Host": f"127.0.0.1:{gateway.port}"})
        assert not gateway.events("no keys: everybody who can reach this address can use it")


@pytest.mark.parametrize(
    "path",
    ["/v1/chat%2fcompletions", "/v1%2Fchat/completions", "/v1/%63hat/completions", "/%76%31/route"],
)
def test_an_escaped_path_is_another_path(gateway: Gateway, upstream: View, path: str) -> None:
    answer = gateway.ask("POST", path, {"model": "weak", "messages": ASK})
    assert (answer.status, answer.json()["error"]["code"]) == (404, "not_found")
    assert not upstream.requests()


def test_a_lone_surrogate_and_a_deep_conversation_are_answered(config_file: str) -> None:
    deep = "[" * 980 + "]" * 980
    message = '{"role": "user", "content": "a", "z": ' + deep + "}"
    replace(config_file, 'by = "none"', 'by = "messages"')
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        raw = b'{"model": "P\\ud800", "messages": [{"content": "a"}]}'
        assert gateway.ask("POST", "/v1/chat/completions", raw).status < 500
        body = ('{"model": "fastroute", "messages": [' + message + "]}").encode()
        # The decision alone: what the tests' upstream records could not be read back.
        assert gateway.ask("POST", "/v1/route", body).status == 200


def test_no_provider_and_no_client_speaks_for_the_gateway(gateway: Gateway, upstream: View) -> None:
    upstream.plan({"kind": "status", "status": 200, "headers": {"X-Fastroute-Router": "spoof"}})
    body = {"model": "weak", "messages": ASK}
    answer = gateway.ask("POST", "/v1/chat/completions", body, {"X-Fastroute-Foo": "bar"})
    assert answer.headers.get("x-fastroute-router") is None
    assert not any(k.startswith("x-fastroute-") for k in upstream.requests()[-1]["headers"])


def test_a_trailer_is_no_header(gateway: Gateway, upstream: View) -> None:
    body = b'{"model": "weak", "messages": [{"role": "user", "content": "hi"}]}'
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n\r\n"
    )
    chunks = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\nX-From-Trailer: yes\r\n\r\n"
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(head + chunks)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    assert answer.startswith(b"HTTP/1.1 200")
    assert "x-from-trailer" not in upstream.requests()[-1]["headers"]


def test_a_hang_up_signal_before_it_serves_does_not_end_it(config_file: str) -> None:
    with gateways.start("--config", config_file, environment=PROVIDER) as gateway:
        for _ in range(20):
            gateway.signal(signal.SIGHUP)
        assert gateway.ask("GET", "/health").status == 200


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--port", "70000"], "--port: must be less than or equal to 65535; found 70000"),
        (["--workers", "0"], "--workers: must be greater than or equal to 1; found 0"),
        (["--host", ""], "--host: must have at least 1 character"),
    ],
)
def test_flags_are_checked_like_the_file(config_file: str, flags: list[str], message: str) -> None:
    command = [sys.executable, "-m", "fastroute", "serve", "--check", "--config", config_file]
    done = subprocess.run(
        [*command, *flags], capture_output=True, text=True, check=False, env=PROVIDER
    )
    assert done.returncode == 2
    assert message in done.stderr


def test_a_secret_in_the_place_of_a_variables_name_is_not_shown(config_file: str) -> None:
    replace(config_file, "PROVIDER_KEY", "sk-real-secret")
    command = [sys.executable, "-m", "fastroute", "serve", "--check", "--config", config_file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert done.returncode == 2
    assert "api_key_env" in done.stderr
    assert "sk-real-secret" not in done.stderr
