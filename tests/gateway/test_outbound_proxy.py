"""A gateway behind a proxy of its environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes import openai_chat, proxy
from fakes.planned import Server, View

from .conftest import CONFIG, PROVIDER_KEY

BODY = {"model": "weak", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with openai_chat.start() as server:
        yield server


def environment(folder: Path, all_proxy: str) -> dict[str, str]:
    """Variables of a gateway with a proxy, and a netrc file with another password for all."""
    netrc = folder / ".netrc"
    netrc.write_text("default login other password of-netrc")
    netrc.chmod(0o600)
    files = {"HOME": str(folder), "NETRC": str(netrc)}
    return {"PROVIDER_KEY": PROVIDER_KEY, "ALL_PROXY": all_proxy, **files}


def test_an_http_proxy_gets_the_providers_key_and_no_netrc(tmp_path: Path) -> None:
    path = gateways.write_config(tmp_path, CONFIG.format(base_url="http://provider.example/v1"))
    with proxy.start("http") as address:
        variables = environment(tmp_path, address)
        with gateways.start("--config", path, environment=variables) as gateway:
            answer = gateway.ask("POST", "/v1/chat/completions", BODY)
    seen = json.loads(answer.body)["seen"]
    assert seen["line"].startswith("POST http://provider.example/v1/chat/completions ")
    assert seen["headers"]["authorization"] == f"Bearer {PROVIDER_KEY}"


def test_a_socks_proxy_is_used(tmp_path: Path, running: Server) -> None:
    server = View(running)
    base_url = server.base_url.replace("127.0.0.1", "behind.the.proxy")
    path = gateways.write_config(tmp_path, CONFIG.format(base_url=base_url))
    with proxy.start("socks") as address:
        variables = environment(tmp_path, f"socks5h://{address}")
        with gateways.start("--config", path, environment=variables) as gateway:
            assert gateway.ask("POST", "/v1/chat/completions", BODY).status == 200
    assert server.requests()[0]["headers"]["authorization"] == f"Bearer {PROVIDER_KEY}"


def test_a_proxy_that_can_not_be_used_ends_the_start(tmp_path: Path) -> None:
    path = gateways.write_config(tmp_path, CONFIG.format(base_url="http://provider.example/v1"))
    variables = environment(tmp_path, "ftp://user:secret@host:1")
    with (
        pytest.raises(AssertionError, match="ALL_PROXY is not a usable proxy") as caught,
        gateways.start("--config", path, environment=variables),
    ):
        pass
    assert "secret" not in str(caught.value)
    assert "Traceback" not in str(caught.value)
