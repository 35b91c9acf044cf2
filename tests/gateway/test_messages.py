"""Anthropic's Messages API through the gateway, by Anthropic's own client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

from fakes import anthropic_messages
from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.planned import Server, View
from fastroute.gateway.protocol.auth import hash_key

PROVIDER_KEY = "sk-ant-provider-0123456789abcdef"
KEY = "key-of-a-caller-0123456789"
CONFIG = """
[routing]
strong_model = "claude-strong"
weak_model = "claude-weak"
routers = ["length"]
[routing.session_affinity]
short_chars = 0
margin = 1.0
[endpoint]
api = "anthropic"
base_url = "{base_url}"
api_key_env = "PROVIDER_KEY"
[models.claude-strong]
input_usd_per_mtok = 15.0
cached_input_usd_per_mtok = 1.5
cache_write_usd_per_mtok = 18.75
output_usd_per_mtok = 75.0
[models.claude-weak]
model = "claude-weak-20250101"
[resilience]
fallback = "strong_to_weak"
retries = 0
[[keys]]
name = "team"
sha256 = "{digest}"
"""
LONG = "a long question " * 40
SHORT = "hi"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with anthropic_messages.start() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = CONFIG.format(base_url=server.base_url, digest=hash_key(KEY))
    path = gateways.write_config(tmp_path_factory.mktemp("messages"), text)
    with gateways.start("--config", path, environment={"PROVIDER_KEY": PROVIDER_KEY}) as running:
        yield running


@pytest.fixture
def provider(server: Server) -> View:
    return View(server)


@pytest.fixture
def client(gateway: Gateway) -> Iterator[anthropic.Anthropic]:
    root = gateway.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=root, api_key=KEY, max_retries=0) as made:
        yield made


def user(*content: Any) -> list[Any]:
    return [{"role": "user", "content": content[0] if len(content) == 1 else list(content)}]


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


IMAGE = {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text(LONG)]}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}


@pytest.mark.parametrize(("prompt", "model"), [(LONG, "claude-strong"), (SHORT, "claude-weak")])
@pytest.mark.parametrize("stream", [False, True])
def test_a_message_is_routed_and_passed_as_it_is(
    client: anthropic.Anthropic, provider: View, prompt: str, model: str, stream: bool
) -> None:
    fields: dict[str, Any] = {
        "model": "fastroute",
        "max_tokens": 100,
        "system": [{**text("be brief"), "cache_control": {"type": "ephemeral"}}],
        "messages": user(text(prompt), IMAGE),
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "metadata": {"user_id": "u1"},
        "extra_headers": {"anthropic-beta": "tools-2024,other", "anthropic-version": "2099-01-01"},
    }
    if stream:
        with client.messages.stream(**fields) as events:
            answer = events.get_final_message()
    else:
        answer = client.messages.create(**fields)
    (sent,) = provider.requests()
    assert sent["model"] == model.replace("weak", "weak-20250101")
    assert answer.content[0].text == f"I am {sent['model']}."
    assert (answer.usage.output_tokens, answer.usage.cache_read_input_tokens) == (4, 30)
    for name in ("system", "messages", "tools", "thinking", "metadata", "max_tokens"):
        assert sent[name] == fields[name]
    headers = sent["headers"]
    assert headers["x-api-key"] == PROVIDER_KEY
    assert "authorization" not in headers
    assert headers["anthropic-beta"] == "tools-2024,other"
    assert headers["anthropic-version"] == "2099-01-01"


def test_the_events_of_a_stream_come_as_they_were_sent(
    server: Server, gateway: Gateway, provider: View
) -> None:
    del provider
    body = {"model": "claude-strong", "stream": True, "messages": user("x"), "max_tokens": 9}
    seen = [
        where.ask("POST", "/v1/messages", body, {"x-api-key": KEY, "anthropic-version": "1"})
        for where in (gateway, _direct(server))
    ]
    assert seen[0].body == seen[1].body
    assert b"event: content_block_delta\n" in seen[0].body
    assert seen[0].headers["content-type"] == seen[1].headers["content-type"]


def _direct(server: Server) -> Gateway:
    direct = Gateway.__new__(Gateway)
    direct.port = server.port
    return direct


def test_a_version_is_sent_where_the_client_sends_none(gateway: Gateway, provider: View) -> None:
    body = {"model": "claude-strong", "messages": user("x"), "max_tokens": 9}
    answer = gateway.ask("POST", "/v1/messages", body, {"authorization": f"Bearer {KEY}"})
    assert answer.status == 200
    assert provider.requests()[0]["headers"]["anthropic-version"] == "2023-06-01"


@pytest.mark.parametrize(
    ("messages", "model"),
    [
        (user(RESULT), "claude-weak"),
        ([*user(LONG), {"role": "assistant", "content": [CALL]}, *user(RESULT)], "claude-strong"),
        ([*user(SHORT), {"role": "assistant", "content": [CALL]}, *user(RESULT)], "claude-weak"),
        (user(text(SHORT), RESULT), "claude-weak"),
        (user(IMAGE), "claude-weak"),
        (user(text(f"<system-reminder>{LONG}</system-reminder>"), text(SHORT)), "claude-weak"),
    ],
)
def test_what_the_user_says_is_scored(
    client: anthropic.Anthropic, provider: View, messages: Any, model: str
) -> None:
    client.messages.create(model="fastroute", max_tokens=9, messages=messages)
    assert provider.requests()[0]["model"].startswith(model)


def test_a_conversation_stays_though_the_marks_of_the_cache_move(
    client: anthropic.Anthropic, provider: View
) -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    turns: list[Any] = []
    for i, said in enumerate((LONG + "marks", "short", "short again")):
        turns.append({"role": "user", "content": [{**text(said), **mark}]})
        client.messages.create(model="fastroute", max_tokens=9, messages=turns)
        turns[-1] = {"role": "user", "content": [text(said)]}
        turns.append({"role": "assistant", "content": [text(f"answer {i}")]})
    assert [request["model"] for request in provider.requests()] == ["claude-strong"] * 3


def test_tokens_are_counted_by_the_model_that_would_answer(
    gateway: Gateway, client: anthropic.Anthropic, provider: View
) -> None:
    before = gateway.ask("GET", "/ui/stats", None, {"x-api-key": KEY}).json()
    for prompt in (LONG, SHORT):
        counted = client.messages.count_tokens(model="fastroute", messages=user(prompt))
        assert counted.input_tokens == 17
    assert [request["path"] for request in provider.requests()] == ["/v1/messages/count_tokens"] * 2
    assert [request["model"] for request in provider.requests()] == [
        *("claude-strong", "claude-weak-20250101")
    ]
    # Counting is free, and no decision.
    after = gateway.ask("GET", "/ui/stats", None, {"x-api-key": KEY}).json()
    assert [after[k] for k in ("spent_usd", "decisions")] == [
        before[k] for k in ("spent_usd", "decisions")
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_a_message_is_booked_with_its_cache(
    gateway: Gateway, client: anthropic.Anthropic, provider: View, stream: bool
) -> None:
    del provider
    before = len(gateway.events("request"))
    fields: dict[str, Any] = {"model": "claude-strong", "max_tokens": 9, "messages": user("x")}
    list(client.messages.create(**fields, stream=stream))
    line = gateway.wait_for(lambda: gateway.events("request")[before:])[0]
    assert (line["input_tokens"], line["output_tokens"]) == (38, 4)
    assert line["cost_usd"] == pytest.approx((6 * 15 + 2 * 18.75 + 30 * 1.5 + 4 * 75) / 1e6)


def test_errors_of_the_provider_pass(client: anthropic.Anthropic, provider: View) -> None:
    plan = {"kind": "error", "status": 400, "type": "invalid_request_error", "message": "too long"}
    provider.plan(plan)
    with pytest.raises(anthropic.BadRequestError, match="too long") as caught:
        client.messages.create(model="claude-strong", max_tokens=9, messages=user("x"))
    assert caught.value.body["error"]["type"] == "invalid_request_error"
    provider.plan({"kind": "error_event"})
    with pytest.raises(anthropic.APIStatusError, match="Overloaded"):
        list(
            client.messages.create(
                model="claude-strong", max_tokens=9, messages=user("x"), stream=True
            )
        )


def test_an_overloaded_model_falls_back(client: anthropic.Anthropic, provider: View) -> None:
    provider.plan({"kind": "error", "status": 529, "type": "overloaded_error", "message": "no"})
    answer = client.messages.create(model="fastroute", max_tokens=9, messages=user(LONG + "529"))
    assert answer.model == "claude-weak-20250101"


def test_errors_of_the_gateway_have_their_form(gateway: Gateway, provider: View) -> None:
    root = gateway.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=root, api_key="wrong-key", max_retries=0) as stranger:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            stranger.messages.create(model="fastroute", max_tokens=9, messages=user("x"))
        assert caught.value.body["type"] == "error"
        assert caught.value.body["error"]["type"] == "authentication_error"
    good = {"x-api-key": KEY}
    for method, body, status, kind in (
        ("POST", b"{", 400, "invalid_request_error"),
        ("POST", {"messages": user("x")}, 400, "invalid_request_error"),
        ("POST", {"model": "router-mf-0.5", "messages": user("x")}, 400, "invalid_request_error"),
        ("POST", {"model": "fastroute"}, 400, "invalid_request_error"),
        ("GET", None, 405, "invalid_request_error"),
    ):
        answer = gateway.ask(method, "/v1/messages", body, good)
        assert answer.status == status
        assert answer.json()["type"] == "error"
        assert answer.json()["error"]["type"].startswith(kind)
        assert answer.json()["error"]["message"]
    long = gateway.ask("POST", "/v1/messages", b"{", {**good, "content-length": str(10**9)})
    assert (long.status, long.json()["error"]["type"]) == (413, "request_too_large")
    provider.plan({"kind": "reset"}, {"kind": "reset"})
    body = {"model": "claude-strong", "messages": user("x"), "max_tokens": 9}
    answer = gateway.ask("POST", "/v1/messages", body, good)
    assert (answer.status, answer.json()["error"]["type"]) == (502, "api_error")


def test_a_key_works_by_either_header(gateway: Gateway) -> None:
    for headers in ({"x-api-key": KEY}, {"authorization": f"Bearer {KEY}"}):
        for path in ("/v1/models", "/metrics"):
            assert gateway.ask("GET", path, None, headers).status == 200
    for headers in ({}, {"x-api-key": "wrong"}, {"x-api-key": KEY, "authorization": "Bearer x"}):
        assert gateway.ask("GET", "/v1/models", None, headers).status == 401


def test_the_providers_key_reaches_no_client(gateway: Gateway, provider: View) -> None:
    message = f"your key {PROVIDER_KEY} is wrong"
    provider.plan(
        {"kind": "error", "status": 401, "type": "authentication_error", "message": message}
    )
    body = {"model": "claude-strong", "messages": user("x"), "max_tokens": 9}
    answer = gateway.ask("POST", "/v1/messages", body, {"x-api-key": KEY})
    assert answer.status == 401
    assert PROVIDER_KEY not in json.dumps(answer.json())
