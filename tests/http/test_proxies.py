"""Proxies from the environment, and netrc files, against proxies in other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import proxy, tls
from fakes.planned import Server, View
from fastroute.errors import DispatchError, ProviderConnectionError
from fastroute.http import Endpoint, Request
from fastroute.http.environment import find_proxy
from http_ways import WAYS, Send

KEY = "sk-test-0123456789abcdef"
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
VARIABLES = [f"{kind}_proxy" for kind in ("http", "https", "all", "no")]


@pytest.fixture(scope="module")
def http_proxy() -> Iterator[str]:
    with proxy.start("http") as address:
        yield address


@pytest.fixture(scope="module")
def socks_proxy() -> Iterator[str]:
    with proxy.start("socks") as address:
        yield address


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def send(request: pytest.FixtureRequest) -> Send:
    chosen: Send = request.param
    return chosen


def make(base_url: str) -> Request:
    return Request(Endpoint(base_url, KEY, timeout_s=20.0, max_retries=0), BODY)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["", "http://", "HTTP://"])
def test_a_proxy_is_used(
    send: Send, http_proxy: str, monkeypatch: pytest.MonkeyPatch, variable: str, scheme: str
) -> None:
    monkeypatch.setenv(variable, scheme + http_proxy)
    (answer,) = send(make("http://provider.example/v1"))
    seen = json.loads(answer)["seen"]
    assert seen["line"].startswith("POST http://provider.example/v1/chat/completions")
    assert seen["headers"]["authorization"] == f"Bearer {KEY}"


def test_a_proxy_with_a_password_gets_it_and_nobody_else(
    send: Send, http_proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://user:pass%40word@{http_proxy}")
    (answer,) = send(make("http://provider.example/v1"))
    headers = json.loads(answer)["seen"]["headers"]
    assert headers["proxy-authorization"] == "Basic dXNlcjpwYXNzQHdvcmQ="
    assert headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "*", "other.example, 127.0.0.1"])
def test_no_proxy_is_heeded(
    send: Send, running: Server, monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("no_proxy", no_proxy)
    (answer,) = send(make(running.base_url))
    assert b"echo: hi" in answer


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
@pytest.mark.parametrize("host", ["127.0.0.1", "behind.the.proxy"])
def test_a_socks_proxy_is_used_and_resolves_names(
    send: Send,
    running: Server,
    socks_proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    host: str,
) -> None:
    server = View(running)
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://{socks_proxy}")
    base_url = server.base_url.replace("127.0.0.1", host)
    assert all(b"echo: hi" in answer for answer in send(*[make(base_url)] * 2))
    seen = server.requests()
    assert seen[0]["headers"]["host"].startswith(host)
    assert seen[0]["headers"]["authorization"] == f"Bearer {KEY}"
    assert len({request["port"] for request in seen}) == 1  # connections are kept


@pytest.mark.parametrize(
    "value", ["ftp://x:secret@host:1", "socks4://host:1", "http://host:port", "http://", "://x"]
)
def test_a_proxy_that_can_not_be_used_is_an_error_that_does_not_show_it(
    send: Send, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("all_proxy", value)
    with pytest.raises(DispatchError, match="ALL_PROXY is not a usable proxy") as caught:
        send(make("http://provider.example/v1"))
    assert "secret" not in str(caught.value)


def test_a_tunnel_is_made_for_https(
    send: Send, http_proxy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with tls.start(tmp_path) as (base_url, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        monkeypatch.setenv("https_proxy", http_proxy)
        # The server closes each connection after its answer: a kept tunnel is replaced too.
        assert send(*[make(base_url)] * 2) == [b"{}"] * 2
        monkeypatch.setenv("https_proxy", "127.0.0.1:1")  # so it was the proxy
        with pytest.raises(ProviderConnectionError):
            send(make(base_url))


def test_a_netrc_file_changes_nothing(
    send: Send,
    running: Server,
    http_proxy: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    netrc = tmp_path / ".netrc"
    lines = [f"machine {host} login other password x" for host in ("127.0.0.1", "p.example")]
    netrc.write_text("\n".join([*lines, "default login any password y"]))
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    server = View(running)
    send(make(server.base_url))
    monkeypatch.setenv("http_proxy", http_proxy)
    (answer,) = send(make("http://p.example/v1"))
    without_key = Request(Endpoint("http://p.example/v1", max_retries=0), BODY)
    (unnamed,) = send(without_key)
    seen = [server.requests()[0]["headers"], json.loads(answer)["seen"]["headers"]]
    assert [headers["authorization"] for headers in seen] == [f"Bearer {KEY}"] * 2
    assert "authorization" not in json.loads(unnamed)["seen"]["headers"]


@pytest.mark.parametrize("way", WAYS)
def test_a_missing_socks_package_is_named_with_its_command(way: str) -> None:
    code = (
        "import sys\n"
        "sys.modules['socksio'] = sys.modules['aiohttp_socks'] = None\n"
        "from fastroute.errors import MissingDependencyError\n"
        "from fastroute.http import Endpoint, Request\n"
        "from http_ways import WAYS\n"
        "try:\n"
        f"    WAYS[{way!r}](Request(Endpoint('http://provider.example/v1'), b'{{}}'))\n"
        "except MissingDependencyError as error:\n"
        "    print(error)\n"
    )
    environment = {**os.environ, "ALL_PROXY": "socks5://127.0.0.1:1"}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'pip install "fastroute[socks]"' in done.stdout


def test_https_and_http_have_their_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "secure:1")
    monkeypatch.setenv("http_proxy", "plain:1")
    assert find_proxy("https://x.example/v1") == "http://secure:1"
    assert find_proxy("http://x.example/v1") == "http://plain:1"
    monkeypatch.delenv("https_proxy")
    assert find_proxy("https://x.example/v1") is None
    monkeypatch.setenv("all_proxy", "socks5h://both:1")
    assert find_proxy("https://x.example/v1") == "socks5://both:1"
    assert find_proxy("http://x.example/v1") == "http://plain:1"
