"""The gateway between the official OpenAI client and a real upstream: only the model changes."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import openai
import pytest

from fakes.gateway import Gateway
from fakes.openai_chat import event
from fakes.planned import View

ASK = [{"role": "user", "content": "short"}]
LONG = [{"role": "user", "content": "a long question " * 20}]
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
}


def client_of(gateway: Gateway, **values: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0, **values)


@pytest.fixture
def client(gateway: Gateway) -> Any:
    with client_of(gateway) as made:
        yield made


# What is passed on


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "look"}}},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}},
            }
        },
        {"max_completion_tokens": 5, "reasoning_effort": "low", "seed": 1, "logit_bias": {"1": -1}},
        {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
        {"extra_body": {"a_field_of_the_future": {"deep": [1, None, 0.10]}, "top_k": 3}},
        {"metadata": {"ü": "☃"}, "stop": ["\n", "\u2028"], "user": "somebody"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_every_field_reaches_the_provider(client: Any, upstream: View, fields: Any) -> None:
    answer = client.chat.completions.create(model="router-length-0.5", messages=ASK, **fields)
    assert answer.choices[0].message.content == "echo: short"
    sent = json.loads(upstream.requests()[0]["raw"])
    expected = {**fields, **fields.get("extra_body", {})}
    expected.pop("extra_body", None)
    # Nothing is added either: no temperature, no top_p, no n.
    assert sent == {"model": "weak-at-its-provider", "messages": ASK, **expected}


def test_messages_of_every_kind_reach_the_provider(client: Any, upstream: View) -> None:
    messages: Any = [
        {"role": "developer", "content": "be brief"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
    ]
    client.chat.completions.create(model="router-length-0.5", messages=messages)
    assert upstream.requests()[0]["messages"] == messages


def test_bytes_are_the_clients_but_for_the_model(gateway: Gateway, upstream: View) -> None:
    raw = (
        '{ "stream":false,"model" : "router-length-0.5", "n":1.0, "x":1e-05,\n'
        '"messages":[{"content":"caf\\u00e9 \\ud83d\\ude00 é","role":"user"}], "zz":{"model":"x"} }'
    )
    answer = gateway.ask("POST", "/v1/chat/completions", raw.encode())
    assert answer.status == 200
    expected = raw.replace('"router-length-0.5"', '"weak-at-its-provider"')
    assert upstream.requests()[0]["raw"] == expected


def test_the_answer_is_the_providers_bytes(gateway: Gateway, upstream: View) -> None:
    raw = '{"id" : "c1","choices":[],  "n":1.0}'
    upstream.plan({"kind": "garbage", "raw": raw})
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": "weak", "messages": ASK})
    assert answer.body.decode() == raw


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/completions", {"prompt": "short"}),
        ("/responses", {"input": "short"}),
        ("/responses", {"input": [{"role": "user", "content": "short"}], "previous": None}),
        ("/chat/completions", {"messages": ASK}),
    ],
)
def test_every_text_path_is_routed(
    gateway: Gateway, upstream: View, path: str, body: dict[str, Any]
) -> None:
    answer = gateway.ask("POST", f"/v1{path}", {"model": "router-length-0.5", **body})
    assert answer.status == 200
    assert answer.headers["x-fastroute-model"] == "weak"
    seen = upstream.requests()[0]
    assert seen["path"] == f"/v1{path}"
    assert json.loads(seen["raw"]) == {"model": "weak-at-its-provider", **body}


def test_embeddings_are_passed_on_and_never_routed(gateway: Gateway, upstream: View) -> None:
    body = {"model": "text-embedding-3-small", "input": ["a", "b"]}
    assert gateway.ask("POST", "/v1/embeddings", body).json()["body"] == body
    refused = gateway.ask("POST", "/v1/embeddings", body | {"model": "router-length-0.5"})
    assert (refused.status, refused.json()["error"]["code"]) == (400, "not_routed")
    assert len(upstream.requests()) == 1


def test_the_query_reaches_the_provider(gateway: Gateway, upstream: View) -> None:
    path = "/v1/chat/completions?api-version=2025-01-01&x=%20a"
    assert gateway.ask("POST", path, {"model": "weak", "messages": ASK}).status == 200
    assert upstream.requests()[0]["path"] == path


def test_headers_of_the_client_reach_the_provider_but_not_its_key(
    client: Any, upstream: View
) -> None:
    client.chat.completions.create(
        model="weak", messages=ASK, extra_headers={"OpenAI-Beta": "x", "Cookie": "secret"}
    )
    headers = upstream.requests()[0]["headers"]
    assert headers["openai-beta"] == "x"
    assert headers["authorization"] == "Bearer sk-provider-0123456789abcdef"
    assert "cookie" not in headers


def test_headers_of_the_provider_reach_the_client(gateway: Gateway, upstream: View) -> None:
    planned = {"x-ratelimit-remaining": "7", "Retry-After": "3", "Set-Cookie": "a=b"}
    upstream.plan({"kind": "status", "status": 400, "headers": planned})
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": "weak", "messages": ASK})
    assert answer.headers["x-ratelimit-remaining"] == "7"
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["set-cookie"] == "a=b"


# What is decided


def test_the_decision_is_in_the_headers(client: Any, upstream: View) -> None:
    create = client.chat.completions.with_raw_response.create
    weak = create(model="router-length-0.5", messages=ASK).headers
    strong = create(model="router-length-0.5", messages=LONG).headers
    assert (weak["x-fastroute-model"], strong["x-fastroute-model"]) == ("weak", "strong")
    assert weak["x-fastroute-router"] == "length"
    assert float(weak["x-fastroute-win-rate"]) == pytest.approx(5 / 105, rel=1e-5)
    assert float(weak["x-fastroute-threshold"]) == 0.5
    assert float(weak["x-fastroute-decision-us"]) > 0
    assert [r["model"] for r in upstream.requests()] == ["weak-at-its-provider", "strong"]


def test_the_default_name_uses_the_configured_router(client: Any) -> None:
    create = client.chat.completions.with_raw_response.create
    headers = create(model="fastroute", messages=LONG).headers
    assert headers["x-fastroute-router"] == "length"
    assert headers["x-fastroute-model"] == "strong"


def test_plain_names_pass_through(client: Any, upstream: View) -> None:
    create = client.chat.completions.with_raw_response.create
    answer = create(model="some-other-model", messages=ASK)
    assert upstream.requests()[0]["model"] == "some-other-model"
    assert answer.headers["x-fastroute-model"] == "some-other-model"
    assert "x-fastroute-router" not in answer.headers


def test_a_model_of_any_name_passes_and_fills_no_log(gateway: Gateway, upstream: View) -> None:
    for name in ("m" * 100_000, "naïve\r\nx: y", "☃"):
        answer = gateway.ask("POST", "/v1/chat/completions", {"model": name, "messages": ASK})
        assert answer.status == 200
        assert "x-fastroute-model" not in answer.headers
        assert upstream.requests()[-1]["model"] == name
    assert all(len(line) < 2000 for line in gateway.lines)


def test_route_decides_and_sends_nothing(gateway: Gateway, upstream: View) -> None:
    answer = gateway.ask("POST", "/v1/route", {"model": "router-length-0.5", "messages": LONG})
    said = answer.json()
    assert (said["model"], said["router"], said["strong"]) == ("strong", "length", True)
    assert said["win_rate"] == pytest.approx(320 / 420)
    assert upstream.requests() == []


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        ({"messages": ASK}, 400, "missing_model"),
        ({"model": 5, "messages": ASK}, 400, "invalid_model"),
        ({"model": "router-length-2", "messages": ASK}, 400, "invalid_model"),
        ({"model": "router-length", "messages": ASK}, 400, "invalid_model"),
        ({"model": "router-nobody-0.5", "messages": ASK}, 400, "unknown_router"),
        ({"model": "router-length-0.5"}, 400, "invalid_prompt"),
        ({"model": "router-length-0.5", "messages": "hi"}, 400, "invalid_prompt"),
        ({"model": "router-length-0.5", "messages": [1]}, 400, "invalid_prompt"),
        ({"model": "router-length-0.5", "messages": []}, 400, "invalid_prompt"),
    ],
)
def test_what_cannot_be_routed_is_refused_in_openais_words(
    gateway: Gateway, upstream: View, body: Any, status: int, code: str
) -> None:
    answer = gateway.ask("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.json()["error"]["code"]) == (status, code)
    assert upstream.requests() == []


def test_models_are_listed(client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names == ["fastroute", "router-length-0.5", "router-random-0.5", "strong", "weak"]


# Streams


def test_a_stream_arrives_as_it_was_sent(client: Any, upstream: View) -> None:
    options = {"stream_options": {"include_usage": True}}
    stream = client.chat.completions.create(
        model="router-length-0.5", messages=ASK, stream=True, **options
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == "echo:short"
    assert upstream.requests()[0]["stream_options"] == {"include_usage": True}


def test_pieces_are_not_held_back(client: Any, upstream: View) -> None:
    raw = event("one ") + event("two ") + event("three")
    upstream.plan({"kind": "events", "raw": raw, "pieces": 3, "seconds": 0.4})
    stream = client.chat.completions.create(model="weak", messages=ASK, stream=True)
    at = []
    for _ in stream:
        at.append(time.monotonic())
    assert len(at) == 3
    assert at[2] - at[0] > 0.6  # three pieces, sent 0.4 s apart, came apart


def test_async_calls_and_streams(gateway: Gateway, upstream: View) -> None:
    async def run() -> tuple[str, str]:
        async with openai.AsyncOpenAI(
            base_url=gateway.base_url, api_key="unused", max_retries=0
        ) as client:
            whole = await client.chat.completions.create(model="weak", messages=ASK)
            stream = await client.chat.completions.create(
                model="weak",
                messages=ASK,
                stream=True,
            )
            text = "".join([c.choices[0].delta.content or "" async for c in stream])
            return str(whole.choices[0].message.content), text

    assert asyncio.run(run()) == ("echo: short", "echo:short")
    assert len(upstream.requests()) == 2


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_stream_that_breaks_off_is_broken_off(client: Any, upstream: View, end: str) -> None:
    upstream.plan({"kind": "events", "raw": event("one "), "end": end})
    stream = client.chat.completions.create(model="weak", messages=ASK, stream=True)
    got = []
    with pytest.raises(
        Exception, match=r"(?i)connection|incomplete|closed|peer"
    ):  # the HTTP client's
        got += list(stream)
    assert "[DONE]" not in str(got)


# Clients that leave


def _wait_until(condition: Any, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_client_that_leaves_a_stream_ends_the_upstream_request(
    client: Any, gateway: Gateway, upstream: View
) -> None:
    upstream.plan({"kind": "endless", "seconds": 0.05})
    stream = client.chat.completions.create(model="weak", messages=ASK, stream=True)
    next(iter(stream))
    stream.close()
    _wait_until(lambda: upstream.requests()[0]["gave_up"])
    gateway.wait_for(lambda: gateway.events("request")[-1]["error"] == "client_left")


def test_a_client_that_leaves_before_the_answer_ends_the_upstream_request(
    gateway: Gateway, upstream: View
) -> None:
    upstream.plan({"kind": "trickle", "seconds": 0.05})
    body = json.dumps({"model": "weak", "messages": ASK}).encode()
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        _wait_until(lambda: len(upstream.requests()) == 1)
    _wait_until(lambda: upstream.requests()[0]["gave_up"])


# Providers that fail


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (404, openai.NotFoundError),
        (422, openai.UnprocessableEntityError),
        (501, openai.InternalServerError),
    ],
)
def test_a_providers_error_comes_back_as_it_is(
    client: Any, upstream: View, status: int, error: type[openai.APIStatusError]
) -> None:
    plan = {"kind": "status", "status": status, "message": "no <good>", "code": "its_code"}
    upstream.plan(plan | {"headers": {"x-request-id": "provider-7"}})
    with pytest.raises(error) as caught:
        client.chat.completions.create(model="router-length-0.5", messages=ASK)
    assert caught.value.status_code == status
    assert caught.value.code == "its_code"
    assert caught.value.request_id == "provider-7"
    assert caught.value.response.headers["x-fastroute-model"] == "weak"


def test_an_error_body_that_is_no_json_comes_back_as_it_is(
    gateway: Gateway, upstream: View
) -> None:
    upstream.plan({"kind": "status", "status": 400, "raw": "<html>busy</html>"})
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": "weak", "messages": ASK})
    assert (answer.status, answer.body) == (400, b"<html>busy</html>")
