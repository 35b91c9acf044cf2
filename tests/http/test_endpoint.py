"""Addresses, keys and requests: what is sent where, and what is never shown."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, astuple, replace
from multiprocessing import get_context
from typing import Any

import pytest

from fastroute import Endpoint
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.http import Request
from fastroute.http.failures import status_error
from fastroute.http.retry import may_retry

KEY = "sk-test-0123456789abcdef"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (None, "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1/chat/completions"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1/chat/completions"),
        ("https://x.example/a?api-version=1", "https://x.example/a/chat/completions?api-version=1"),
    ],
)
def test_addresses(base_url: str | None, url: str) -> None:
    assert Endpoint(base_url).address("/chat/completions").url == url


def test_the_environment_is_read_at_the_time_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint()
    assert endpoint.find_key() is None
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert endpoint.address("/x").url == "http://127.0.0.1:1/v1/x"
    assert endpoint.find_key() == KEY
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://x")
    with pytest.raises(InvalidInputError, match="OPENAI_BASE_URL must start with http"):
        endpoint.address("/x")
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    with pytest.raises(InvalidInputError, match="OPENAI_API_KEY is empty or has a space"):
        endpoint.find_key()


def test_the_key_in_the_environment_does_not_wander(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Endpoint("https://api.openai.com/v1").find_key() == KEY
    assert Endpoint("https://eu.api.openai.com/v1").find_key() == KEY
    assert Endpoint("http://api.openai.com/v1").find_key() is None  # not over TLS
    assert Endpoint("https://api.openai.com.evil.example/v1").find_key() is None
    assert Endpoint("http://127.0.0.1:8000/v1").find_key() is None
    assert Endpoint("http://127.0.0.1:8000/v1", api_key="own").find_key() == "own"
    assert Endpoint(api_key="own").find_key() == "own"


def test_nothing_shows_the_key_or_the_prompt() -> None:
    endpoint = Endpoint("http://127.0.0.1:8000/v1", api_key=KEY)
    request = Request(endpoint, b'{"messages": "secret"}', headers={"Authorization": KEY})
    error = status_error(request, 401, {"WWW-Authenticate": "x"}, f"bad key {KEY}".encode())
    for shown in (repr(endpoint), str(endpoint), repr(request), str(error), repr(error)):
        assert KEY not in shown
        assert "secret" not in shown
    assert error.body == f"bad key {KEY}".encode()  # as it came
    assert error.headers == {"www-authenticate": "x"}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"base_url": "localhost:8000"}, InvalidInputError),
        ({"base_url": "http://user:pw@x/v1"}, InvalidInputError),
        ({"base_url": "http://x:port/v1"}, InvalidInputError),
        ({"base_url": ""}, InvalidInputError),
        ({"base_url": 5}, InvalidTypeError),
        ({"api_key": ""}, InvalidInputError),
        ({"api_key": "a\nb"}, InvalidInputError),
        ({"api_key": b"a"}, InvalidTypeError),
        ({"timeout_s": 0}, InvalidInputError),
        ({"timeout_s": float("nan")}, InvalidInputError),
        ({"timeout_s": "5"}, InvalidTypeError),
        ({"connect_timeout_s": -1.0}, InvalidInputError),
        ({"max_retries": -1}, InvalidInputError),
        ({"max_retries": 1.5}, InvalidTypeError),
    ],
)
def test_values_are_checked(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(arguments))) as caught:
        Endpoint(**arguments)
    assert "pw" not in str(caught.value)


def test_copies_keep_the_key_and_dumps_mask_it() -> None:
    endpoint = Endpoint("http://127.0.0.1:8000/v1", api_key=KEY)
    request = Request(endpoint, b"{}")
    for dump in (
        asdict(endpoint),
        asdict(request),
        astuple(endpoint),
        json.dumps(asdict(endpoint)),
    ):
        assert KEY not in str(dump)
        assert "***" in str(dump)
    assert KEY not in repr(endpoint.api_key)
    for same in (copy.copy(endpoint), copy.deepcopy(endpoint), replace(endpoint, max_retries=2)):
        assert same == endpoint
        assert same.api_key == KEY
    # A pickle holds the key, or a process pool could not send anything.
    assert pickle.loads(pickle.dumps(endpoint)).find_key() == KEY
    assert f"Bearer {endpoint.find_key()}" == f"Bearer {KEY}"


def test_an_endpoint_works_in_another_process() -> None:
    endpoint = Endpoint("http://127.0.0.1:8000/v1", api_key=KEY)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(Endpoint.find_key, endpoint).result() == KEY


def test_an_endpoint_is_frozen_and_hashable() -> None:
    assert Endpoint("http://x/v1") == Endpoint("http://x/v1")
    assert len({Endpoint("http://x/v1"), Endpoint("http://x/v1")}) == 1
    with pytest.raises(AttributeError):
        Endpoint().timeout_s = 1.0  # type: ignore[misc]  # the point


@pytest.mark.parametrize(
    ("status", "headers", "body", "again"),
    [
        (429, {}, b"", True),
        (503, {}, b"", True),
        (408, {}, b"", True),
        (400, {}, b"", False),
        (501, {}, b"", False),
        (301, {}, b"", False),
        (429, {}, b'{"error": {"code": "insufficient_quota"}}', False),
        (500, {"X-Should-Retry": "false"}, b"", False),
    ],
)
def test_what_may_be_retried(
    status: int, headers: dict[str, str], body: bytes, again: bool
) -> None:
    request = Request(Endpoint("http://x/v1"), b"{}")
    assert may_retry(status_error(request, status, headers, body)) is again


@pytest.mark.parametrize(
    "base_url", ["http://exa mple/v1", "http://ex\x00ample/v1", "http://\ud800/"]
)
def test_an_address_with_spaces_or_unprintable_characters_is_refused(base_url: str) -> None:
    with pytest.raises(InvalidInputError, match="base_url must not have spaces"):
        Endpoint(base_url=base_url)
