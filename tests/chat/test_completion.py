"""Answers as dicts with attributes, streams of them, and the mock transport that ships."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from fastroute import Endpoint
from fastroute.chat import AsyncChatStream, ChatStream
from fastroute.chat.completion import read_completion
from fastroute.errors import (
    DispatchError,
    InvalidTypeError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderStatusError,
)
from fastroute.http import MockReply, MockTransport, Request
from fastroute.types import Decision

DECISION = Decision("big", "mf", 0.7, 0.5, True, 12.0)
ANSWER = {
    "id": "c1",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hé"}}],
    "x_new": {"items": [1, {"deep": None}]},
}
REQUEST = Request(Endpoint("http://x/v1"), b'{"model":"m"}')
STREAM = Request(Endpoint("http://x/v1"), b'{"model":"m","stream":true}', stream=True)


def test_an_answer_is_a_dict_with_attributes() -> None:
    answer = read_completion(json.dumps(ANSWER).encode(), {"a": "b"}, DECISION)
    assert answer == ANSWER
    assert answer["choices"][0]["message"]["content"] == "hé"
    assert answer.choices[0].message.content == "hé"
    assert answer.x_new["items"][1].deep is None
    assert answer.fastroute is DECISION
    assert answer.http_headers == {"a": "b"}


def test_a_dump_is_what_the_provider_sent() -> None:
    answer = read_completion(json.dumps(ANSWER).encode(), {"a": "b"}, DECISION)
    dump = answer.model_dump()
    assert dump == ANSWER
    assert type(dump) is type(dump["choices"][0]) is type(dump["x_new"]["items"][1]) is dict
    dump["choices"][0]["message"]["content"] = "changed"
    assert answer.choices[0].message.content == "hé"
    assert json.loads(answer.model_dump_json()) == json.loads(json.dumps(answer)) == ANSWER


def test_optional_fields_are_none_and_others_are_errors() -> None:
    answer = read_completion(json.dumps(ANSWER).encode(), {}, None)
    message = answer.choices[0].message
    assert message.tool_calls is message.refusal is answer.usage is answer.fastroute is None
    assert not hasattr(message, "reasoning_content")
    with pytest.raises(AttributeError, match="no field 'contents' here; it has role, content"):
        _ = message.contents


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_copies_keep_everything(again: Callable[[Any], Any]) -> None:
    answer = again(read_completion(json.dumps(ANSWER).encode(), {"a": "b"}, DECISION))
    assert answer == ANSWER
    assert answer.choices[0].message.content == "hé"
    assert answer.fastroute == DECISION
    assert answer.http_headers == {"a": "b"}


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"null", b'"x"', b"\xff"])
def test_an_answer_that_is_none(body: bytes) -> None:
    with pytest.raises(ProviderResponseError, match="OpenAI-compatible API") as caught:
        read_completion(body, {}, None)
    assert caught.value.body == body


# Streams


def chunk(content: str | None, finish_reason: str | None = None) -> dict[str, Any]:
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]}


def data(value: Any) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def read_sync(reply: Any, seen: list[Any]) -> None:
    with ChatStream(MockTransport(reply).send(STREAM), DECISION) as stream:
        assert stream.fastroute is DECISION
        seen.extend(stream)
        assert list(stream) == []  # it stays at its end


def read_async(reply: Any, seen: list[Any]) -> None:
    async def go() -> None:
        response = await MockTransport(reply).asend(STREAM)
        async with AsyncChatStream(response, DECISION) as stream:
            assert stream.fastroute is DECISION
            async for one in stream:
                seen.append(one)
            assert [one async for one in stream] == []

    asyncio.run(go())


@pytest.fixture(params=[read_sync, read_async], ids=["sync", "async"])
def read(request: pytest.FixtureRequest) -> Callable[[Any, list[Any]], None]:
    chosen: Callable[[Any, list[Any]], None] = request.param
    return chosen


Read = Callable[[Any, list[Any]], None]


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]\n\n",
        b"data: [DONE]",
        b"data:[DONE]\r\n\r\n",
        b"data: [DONE]\n\ndata: after\n\n",
        b": bye\n\n",  # no [DONE], but a finish_reason
        b"",
    ],
)
def test_a_stream_is_its_chunks(read: Read, end: bytes) -> None:
    chunks = [chunk("a"), chunk("bé"), chunk(None, "stop"), {"choices": [], "usage": {"n": 1}}]
    seen: list[Any] = []
    read(MockReply(b": ping\n\n" + b"".join(map(data, chunks)) + end), seen)
    assert seen == chunks
    assert seen[1].choices[0].delta.content == "bé"
    assert seen[2].choices[0].delta.content is None
    assert seen[3].usage.n == 1


def test_an_error_in_a_stream_is_raised_after_what_came_before(read: Read) -> None:
    error = {"error": {"message": "overloaded", "code": 529}}
    for raw in (data(error), b"event: error\n" + data({"message": "overloaded"})):
        seen: list[Any] = []
        with pytest.raises(
            ProviderResponseError, match=r"ended its stream with an error.*overloaded"
        ) as caught:
            read(MockReply(data(chunk("a")) + raw + data(chunk("b"))), seen)
        assert seen == [chunk("a")]
        assert b"overloaded" in caught.value.body
        assert isinstance(caught.value, DispatchError)


@pytest.mark.parametrize("raw", [b"data: {not json\n\n", b"data: 5\n\n"])
def test_an_event_that_is_no_chunk(read: Read, raw: bytes) -> None:
    seen: list[Any] = []
    with pytest.raises(ProviderResponseError, match="not a JSON object"):
        read(MockReply(data(chunk("a")) + raw), seen)
    assert seen == [chunk("a")]


@pytest.mark.parametrize("raw", [b"", data(chunk("a")), data(chunk("a")) + b'data: {"cho'])
def test_a_stream_that_ends_too_early(read: Read, raw: bytes) -> None:
    seen: list[Any] = []
    with pytest.raises(
        ProviderConnectionError, match=r"before the answer was complete \(text/event"
    ):
        read(MockReply(raw), seen)
    assert seen == ([chunk("a")] if raw else [])


# The mock


def test_a_text_is_a_completion_or_a_stream() -> None:
    transport = MockTransport("one two  three")
    answer = read_completion(transport.send(REQUEST).read(), {}, None)
    assert answer.choices[0].message.content == "one two  three"
    assert answer.model == "m"
    chunks = list(ChatStream(transport.send(STREAM)))
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "one two  three"
    assert len(chunks) == 6
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert transport.requests == [REQUEST, STREAM]
    assert transport.requests[0].json() == {"model": "m"}


def test_replies_in_order_and_computed_ones() -> None:
    boom = ProviderConnectionError("boom")
    transport = MockTransport(["a", ANSWER, boom, MockReply({"error": {"message": "no"}}, 429)])
    assert b'"a"' in transport.send(REQUEST).read()
    assert json.loads(transport.send(REQUEST).read()) == ANSWER
    with pytest.raises(ProviderConnectionError, match="boom"):
        transport.send(REQUEST)
    with pytest.raises(ProviderStatusError, match=r"HTTP 429 \(no\)"):
        transport.send(REQUEST)
    with pytest.raises(DispatchError, match="has 4 replies and this is request 5"):
        transport.send(REQUEST)
    echo = MockTransport(lambda request: f"for {request.json()['model']}")
    assert b"for m" in echo.send(REQUEST).read()


def test_a_list_is_a_stream_of_chunks() -> None:
    reply = MockReply([chunk("a", "stop")], headers={"X-Request-Id": "r"})
    stream = ChatStream(MockTransport(reply).send(STREAM))
    assert stream.http_headers["x-request-id"] == "r"
    assert list(stream) == [chunk("a", "stop")]


def test_replies_that_are_none() -> None:
    with pytest.raises(InvalidTypeError, match="a reply must be"):
        MockTransport(lambda _: 5).send(REQUEST)  # type: ignore[arg-type,return-value]  # the point
    with pytest.raises(InvalidTypeError, match="not to a stream"):
        MockTransport(ANSWER).send(STREAM)
    transport = MockTransport()
    transport.close()
    with pytest.raises(DispatchError, match="closed"):
        transport.send(REQUEST)


@pytest.mark.parametrize("before", ["<html>", "x" * 75])
def test_an_answer_that_is_none_is_shown_without_the_key(before: str) -> None:
    body = f"{before}Bearer sk-secret-0123456789".encode()
    with pytest.raises(ProviderResponseError, match="is not JSON") as caught:
        read_completion(body, {}, None, key="sk-secret-0123456789")
    assert "sk-" not in str(caught.value)
    assert caught.value.body == body


KEY = "sk-secret/0123456789"


@pytest.mark.parametrize(
    "raw",
    [
        data({"error": {"message": f"no such key: Bearer {KEY}"}}),
        data({"error": {"message": "x" * 250 + f" Bearer {KEY}"}}),
        data({"error": f"Bearer {KEY}"}).replace(b"/", b"\\/"),
        f"event: error\ndata: Bearer {KEY}\n\n".encode(),
        f"data: Bearer {KEY}\n\n".encode(),
    ],
)
def test_an_error_in_a_stream_is_told_without_the_key(raw: bytes) -> None:
    for before in (b"", data(chunk("a"))):
        transport = MockTransport(MockReply(before + raw))
        with pytest.raises(ProviderResponseError, match="Bearer ") as caught:
            list(ChatStream(transport.send(STREAM), key=KEY))
        assert "sk-" not in str(caught.value)

        async def run(transport: MockTransport = transport) -> None:
            async with AsyncChatStream(await transport.asend(STREAM), key=KEY) as stream:
                async for _ in stream:
                    pass

        with pytest.raises(ProviderResponseError, match="Bearer ") as caught:
            asyncio.run(run())
        assert "sk-" not in str(caught.value)
