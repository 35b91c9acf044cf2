"""Controller over real HTTP, to servers in other processes."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from fakes import openai_chat
from fakes.planned import Server, View
from fastroute import Controller, Endpoint
from fastroute.errors import ProviderConnectionError, ProviderResponseError, ProviderStatusError

LONG, SHORT = "why? " * 300, "why?"


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, Server]]:
    with openai_chat.start() as strong, openai_chat.start() as weak:
        yield strong, weak


@pytest.fixture
def servers(running: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> tuple[View, View]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return View(running[0]), View(running[1])


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def make(**arguments: Any) -> Controller:
    return Controller(["length"], strong_model="big", weak_model="small", **arguments)


def split(servers: tuple[View, View]) -> Controller:
    strong, weak = servers
    return make(
        endpoints={
            "big": Endpoint(strong.base_url, api_key="key-of-big"),
            "small": Endpoint(weak.base_url),
        }
    )


def test_each_model_has_its_own_address_and_key(servers: tuple[View, View]) -> None:
    with split(servers) as client:
        for prompt, model in ((LONG, "big"), (SHORT, "small")):
            answer = client.chat.completions.create(
                model="router-length-0.5", messages=user(prompt)
            )
            assert answer.choices[0].message.content == f"echo: {prompt}"
            assert answer.model == answer.fastroute.model == model
            assert answer.x_unknown.kept is True
    (to_big,), (to_small,) = (server.requests() for server in servers)
    assert to_big["headers"]["authorization"] == "Bearer key-of-big"
    assert "authorization" not in to_small["headers"]
    assert "x_unknown" not in to_big


def test_api_base_and_key_serve_both_models(servers: tuple[View, View]) -> None:
    with make(api_base=servers[0].base_url, api_key="one-key") as client:
        for prompt in (LONG, SHORT):
            client.completion(model="router-length-0.5", messages=user(prompt))
    requests = servers[0].requests()
    assert [r["model"] for r in requests] == ["big", "small"]
    assert {r["headers"]["authorization"] for r in requests} == {"Bearer one-key"}
    assert len({r["port"] for r in requests}) == 1  # over one connection


def test_the_environment_is_read_at_the_time_of_the_call(
    servers: tuple[View, View], monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as client:
        monkeypatch.setenv("OPENAI_BASE_URL", servers[0].base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "key-of-the-day")
        client.completion(model="router-length-0.5", messages=user("x"))
    assert servers[0].requests()[0]["headers"]["authorization"] == "Bearer key-of-the-day"


def test_unknown_fields_arrive_byte_for_byte(servers: tuple[View, View]) -> None:
    body: dict[str, Any] = {
        "model": "router-length-0.5",
        "messages": [
            {"role": "system", "content": "é"},
            *user(
                [{"type": "text", "text": "日本"}, {"type": "image_url", "image_url": {"url": "x"}}]
            ),
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "42"},
        ],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"x": None}}},
        "x_future": [1.5, None, {"deep": "\u2028\\"}, 10**20, 1e-7],
    }
    with split(servers) as client:
        client.completion(**body)
    (request,) = servers[1].requests()
    sent = json.dumps(body | {"model": "small"}, ensure_ascii=False, separators=(",", ":"))
    assert request["raw"] == sent


def test_streams_in_pieces_of_any_size(servers: tuple[View, View]) -> None:
    events = [openai_chat.event("hé"), ": ping\r\n\r\n", openai_chat.event("llo 日本")]
    raw = "".join(events) + openai_chat.event(None, "stop") + "data: [DONE]\n\n"
    with split(servers) as client:
        for pieces in (1, 3, 40):
            servers[1].plan({"kind": "events", "raw": raw, "pieces": pieces})
            stream = client.completion(model="router-length-0.5", messages=user(SHORT), stream=True)
            text = "".join(c.choices[0].delta.content or "" for c in stream)
            assert text == "héllo 日本"
            assert stream.fastroute is not None
            assert stream.fastroute.model == "small"
            assert stream.http_headers["x-request-id"] == "r1"
    # Streams that were read to their end leave their connection for the next.
    assert len({r["port"] for r in servers[1].requests()}) == 1


def test_leaving_a_stream_ends_the_providers_work(servers: tuple[View, View]) -> None:
    servers[1].plan({"kind": "endless", "seconds": 0.01})
    with split(servers) as client:
        arguments: dict[str, Any] = {"model": "router-length-0.5", "messages": user(SHORT)}
        with client.completion(stream=True, **arguments) as stream:
            assert next(stream).choices[0].delta.content == "more "
        assert list(stream) == []
        for _ in range(500):
            if servers[1].requests()[0]["gave_up"]:
                break
        assert servers[1].requests()[0]["gave_up"]


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_broken_stream_gives_what_came_and_then_says_so(
    servers: tuple[View, View], end: str
) -> None:
    plan = {"kind": "events", "raw": openai_chat.event("a"), "end": end, "seconds": 0.4}
    servers[1].plan(plan, plan)
    arguments: dict[str, Any] = {"model": "router-length-0.5", "messages": user(SHORT)}
    seen: list[str] = []
    with split(servers) as client:
        stream = client.completion(stream=True, **arguments)
        with pytest.raises(ProviderConnectionError):
            seen.extend(chunk.choices[0].delta.content for chunk in stream)

    async def go() -> None:
        async with split(servers) as client:
            stream = await client.acompletion(stream=True, **arguments)
            seen.append((await anext(stream)).choices[0].delta.content)
            with pytest.raises(ProviderConnectionError):
                await anext(stream)

    asyncio.run(go())
    assert seen == ["a", "a"]
    assert len(servers[1].requests()) == 2


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_what_breaks_after_the_answer_is_complete_is_no_error(
    servers: tuple[View, View], end: str
) -> None:
    raw = openai_chat.event("a") + "data: [DONE]\n\n"
    plan = {"kind": "events", "raw": raw, "end": end, "seconds": 0.4}
    servers[1].plan(plan, plan)
    arguments: dict[str, Any] = {"model": "router-length-0.5", "messages": user(SHORT)}

    async def go() -> int:
        async with split(servers) as client:
            stream = await client.acompletion(stream=True, **arguments)
            return len([chunk async for chunk in stream])

    with split(servers) as client:
        assert len(list(client.completion(stream=True, **arguments))) == 1
    assert asyncio.run(go()) == 1


def test_a_providers_error_comes_back_as_it_was(servers: tuple[View, View]) -> None:
    raw = '{"error":{"message":"context too long","type":"x"}}'
    servers[1].plan({"kind": "status", "status": 400, "raw": raw, "headers": {"X-Id": "7"}})
    with split(servers) as client:
        with pytest.raises(ProviderStatusError, match="context too long") as caught:
            client.completion(model="router-length-0.5", messages=user(SHORT))
        assert (caught.value.status_code, caught.value.body) == (400, raw.encode())
        assert caught.value.headers["x-id"] == "7"
        assert client.model_counts["length"]["small"] == 1
        servers[1].plan({"kind": "garbage", "raw": "<html>"})
        with pytest.raises(ProviderResponseError, match="<html>"):
            client.completion(model="router-length-0.5", messages=user(SHORT))


def test_eight_threads(servers: tuple[View, View]) -> None:
    with split(servers) as client, ThreadPoolExecutor(8) as threads:

        def ask(i: int) -> bool:
            prompt = f"{i} " + (LONG if i % 4 == 0 else SHORT)
            arguments: dict[str, Any] = {"model": "router-length-0.5", "messages": user(prompt)}
            if i % 2:
                stream = client.completion(stream=True, **arguments)
                words = [chunk.choices[0].delta.content or "" for chunk in stream]
                return " ".join(words).strip() == f"echo: {prompt}"
            return client.completion(**arguments).choices[0].message.content == f"echo: {prompt}"

        assert all(threads.map(ask, range(80)))
        assert client.model_counts["length"] == {"big": 20, "small": 60}
    assert [len(server.requests()) for server in servers] == [20, 60]


def test_async_calls_share_connections_and_leave_none(servers: tuple[View, View]) -> None:
    async def go(client: Controller) -> list[str]:
        async def ask(i: int) -> str:
            answer = await client.chat.completions.acreate(
                model="router-length-0.5", messages=user(f"{i}")
            )
            return str(answer.choices[0].message.content)

        return await asyncio.gather(*(ask(i) for i in range(30)))

    client = split(servers)
    for _ in range(2):  # two event loops, one after the other
        assert asyncio.run(go(client)) == [f"echo: {i}" for i in range(30)]
    client.close()
    gc.collect()  # an open connection would warn here, and warnings are errors


def test_a_closed_controller_opens_again(servers: tuple[View, View]) -> None:
    client = split(servers)
    for _ in range(2):
        client.completion(model="router-length-0.5", messages=user(SHORT))
        client.close()
    client.close()
    assert client.route(SHORT, "length", 0.5) == "small"
