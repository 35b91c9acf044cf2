"""What OpenAI's own client accepts and returns, through Controller to a server in another process.

Each call is made by the official client too, of which the same is expected.
"""

from __future__ import annotations

import asyncio
import json
import typing
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import openai
import pydantic
import pytest
from openai.types import chat as openai_chat_types
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage

from fakes.planned import View
from fastroute import Controller
from fastroute.chat.completion import Record
from fastroute.errors import InvalidInputError, ProviderConnectionError, ProviderResponseError

ROUTED = "router-length-0.5"
Create = Callable[..., Any]


@pytest.fixture(params=["fastroute", "openai"])
def create(request: pytest.FixtureRequest, server: View) -> Iterator[Create]:
    """``chat.completions.create`` of the client named, to the same server."""
    if request.param == "fastroute":
        with Controller(
            ["length"], "big", "small", api_base=server.base_url, api_key="k"
        ) as client:
            yield lambda **a: client.chat.completions.create(model=ROUTED, **a)
    else:
        with openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as theirs:
            yield lambda **a: theirs.chat.completions.create(model="small", **a)


@pytest.fixture
def client(server: View) -> Iterator[Controller]:
    with Controller(["length"], "big", "small", api_base=server.base_url, api_key="k") as made:
        yield made


def user(content: Any = "hi") -> dict[str, Any]:
    return {"role": "user", "content": content}


def models_of(kind: Any) -> set[type[pydantic.BaseModel]]:
    """The models that ``kind`` is made of, itself among them."""
    found: set[type[pydantic.BaseModel]] = set()
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        found.add(kind)
        for field in kind.model_fields.values():
            found |= models_of(field.annotation)
    for argument in typing.get_args(kind):
        found |= models_of(argument)
    return found


# What is sent

TOOL_MESSAGE = ChatCompletionMessage.model_validate(
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
)


@pytest.mark.parametrize("name", ["NOT_GIVEN", "omit"])
def test_arguments_that_are_not_given_are_not_sent(create: Create, server: View, name: str) -> None:
    nothing = getattr(openai, name)
    create(messages=[user()], temperature=nothing, tools=nothing, stream=nothing, n=nothing)
    assert json.loads(server.requests()[0]["raw"]).keys() == {"messages", "model"}


def test_not_given_is_left_out_of_what_is_nested(create: Create, server: View) -> None:
    create(messages=[{**user(), "name": openai.omit}], stream_options=openai.omit)
    assert json.loads(server.requests()[0]["raw"])["messages"] == [user()]


def test_messages_of_earlier_answers_are_sent_as_their_fields(create: Create, server: View) -> None:
    result = {"role": "tool", "tool_call_id": "c1", "content": "42"}
    create(messages=[user(), TOOL_MESSAGE, result])
    sent = json.loads(server.requests()[0]["raw"])["messages"]
    assert sent == [user(), TOOL_MESSAGE.model_dump(mode="json", exclude_unset=True), result]


def test_our_own_answers_can_be_sent_back(client: Controller, server: View) -> None:
    answer = client.completion(model=ROUTED, messages=[user()])
    client.completion(model=ROUTED, messages=[user(), answer.choices[0].message, user("more")])
    assert server.requests()[1]["messages"][1] == {"role": "assistant", "content": "echo: hi"}


@pytest.mark.parametrize("kind", [tuple, iter])
def test_messages_may_come_from_any_iterable(create: Create, server: View, kind: Any) -> None:
    create(messages=kind([user()]))
    assert server.requests()[0]["messages"] == [user()]


def test_dates_and_queries_and_timeouts(create: Create, server: View) -> None:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    create(
        messages=[user()],
        extra_body={"x_moment": moment.isoformat()},
        extra_query={"api-version": "1 2", "many": "x"},
        extra_headers={"X-Mine": "1"},
        timeout=openai.Timeout(20.0, connect=3.0),
    )
    (request,) = server.requests()
    assert request["path"] in (
        "/v1/chat/completions?api-version=1+2&many=x",
        "/v1/chat/completions?api-version=1%202&many=x",
    )
    assert request["x_moment"] == "2026-01-02T00:00:00+00:00"
    assert request["headers"]["x-mine"] == "1"


def test_a_pydantic_message_is_what_is_routed_on(client: Controller) -> None:
    class Mine(pydantic.BaseModel):
        role: str
        content: str

    long = client.completion(model=ROUTED, messages=[Mine(role="user", content="why? " * 300)])
    short = client.completion(model=ROUTED, messages=[Mine(role="user", content="hi")])
    assert (long.model, short.model) == ("big", "small")


def test_what_has_no_json_is_named(client: Controller) -> None:
    with pytest.raises(InvalidInputError, match="can't be sent as JSON"):
        client.completion(model=ROUTED, messages=[user()], metadata={"x": object()})
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(InvalidInputError, match="nested too deep"):
        client.completion(model=ROUTED, messages=[user()], metadata=circle)


# What comes back


@pytest.mark.parametrize("kind", [ChatCompletion, ChatCompletionChunk])
def test_every_optional_field_of_openais_types_is_none_where_it_is_absent(kind: Any) -> None:
    models = models_of(kind)
    assert len(models) > 10
    missing = Record()
    for model in models:
        for name, field in model.model_fields.items():
            if not field.is_required():
                assert getattr(missing, name) is None, f"{model.__name__}.{name}"


def test_a_misspelt_field_is_an_error(create: Create) -> None:
    answer = create(messages=[user()])
    with pytest.raises(AttributeError):
        _ = answer.choises


def test_a_usage_without_details(create: Create) -> None:
    usage = create(messages=[user()]).usage
    assert usage.prompt_tokens == 3
    assert usage.prompt_tokens_details is usage.completion_tokens_details is None


def test_an_answer_is_one_of_openais(client: Controller, server: View) -> None:
    message = {"role": "assistant", "content": "x"}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    about = {"id": "c1", "created": 1, "model": "m", "object": "chat.completion"}
    server.plan({"kind": "reply", "body": {**about, "choices": [choice]}})
    answer = client.completion(model=ROUTED, messages=[user()])
    theirs = ChatCompletion.model_validate(answer)
    assert theirs.choices[0].message.content == answer.choices[0].message.content
    assert answer.to_dict() == answer.model_dump() == json.loads(answer.to_json())
    assert "logprobs" not in answer.model_dump(exclude_none=True)["choices"][0]


def test_fields_can_be_assigned_and_deleted(create: Create) -> None:
    answer = create(messages=[user()])
    answer.choices[0].message.content += "!"
    assert answer.choices[0].message.content == "echo: hi!"
    assert answer.model_dump()["choices"][0]["message"]["content"] == "echo: hi!"


def tool_events() -> str:
    """A streamed tool call as OpenAI sends it: id, type and name come once."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for index, name in enumerate(("weather", "time")):
        function = {"name": name, "arguments": ""}
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": function}
        deltas.append({"tool_calls": [call]})
        for part in ('{"city":', ' "Oslo"}'):
            deltas.append({"tool_calls": [{"index": index, "function": {"arguments": part}}]})
    chunks = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    chunks.append({"index": 0, "delta": {}, "finish_reason": "tool_calls"})
    about = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    events = [f"data: {json.dumps({**about, 'choices': [choice]})}\n\n" for choice in chunks]
    return "".join(events) + "data: [DONE]\n\n"


def test_streamed_tool_calls_accumulate(create: Create, server: View) -> None:
    server.plan({"kind": "events", "raw": tool_events(), "pieces": 7})
    calls: dict[int, Any] = {}
    for chunk in create(messages=[user()], stream=True):
        delta = chunk.choices[0].delta
        assert delta.content is None
        for part in delta.tool_calls or []:
            if part.index not in calls:  # as OpenAI's guide to function calling has it
                calls[part.index] = part
            else:
                assert part.id is part.type is part.function.name is None
                calls[part.index].function.arguments += part.function.arguments
    assert [(c.id, c.function.name, c.function.arguments) for c in calls.values()] == [
        ("call_0", "weather", '{"city": "Oslo"}'),
        ("call_1", "time", '{"city": "Oslo"}'),
    ]


def test_openais_accumulator_takes_our_chunks(client: Controller, server: View) -> None:
    streaming = pytest.importorskip("openai.lib.streaming.chat")
    server.plan({"kind": "events", "raw": tool_events()})
    state = streaming.ChatCompletionStreamState()
    for chunk in client.completion(model=ROUTED, messages=[user()], stream=True):
        state.handle_chunk(openai_chat_types.ChatCompletionChunk.model_validate(chunk))
    (first, _) = state.get_final_completion().choices[0].message.tool_calls
    assert first.function.arguments == '{"city": "Oslo"}'


# Errors in answers with status 200


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"message": "out of credits", "code": 402}, "out of credits"),
        ("out of credits", "out of credits"),
        ({"code": 402}, '"code": 402'),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_200_that_reports_an_error_is_one(
    client: Controller, server: View, error: Any, said: str, stream: bool
) -> None:
    raw = json.dumps({"error": error})
    server.plan({"kind": "garbage", "raw": raw}) if not stream else server.plan(
        {"kind": "status", "status": 200, "raw": raw}
    )
    with pytest.raises(ProviderResponseError, match=said) as caught:
        list(client.completion(model=ROUTED, messages=[user()], stream=stream))
    assert caught.value.body == raw.encode()


def test_an_answer_with_an_empty_error_is_an_answer(client: Controller, server: View) -> None:
    body = {"choices": [{"index": 0, "message": {"content": "x"}}], "error": None}
    server.plan({"kind": "reply", "body": body})
    assert client.completion(model=ROUTED, messages=[user()]).choices[0].message.content == "x"


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000])
@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_nested_too_deep_is_an_error(
    client: Controller, server: View, nested: str, stream: bool
) -> None:
    plan = {"kind": "events", "raw": f"data: {nested}\n\n"}
    server.plan(plan if stream else {"kind": "garbage", "raw": nested})
    with pytest.raises(ProviderResponseError):
        list(client.completion(model=ROUTED, messages=[user()], stream=stream))


# The end of a stream


def ending(index: int, reason: str | None) -> str:
    chunk = {"choices": [{"index": index, "delta": {}, "finish_reason": reason}]}
    return f"data: {json.dumps(chunk)}\n\n"


@pytest.mark.parametrize(
    ("events", "n", "whole"),
    [
        ([ending(0, "stop")], 1, True),
        ([ending(0, "")], 1, False),
        ([ending(0, None)], 1, False),
        ([ending(0, ""), ending(0, "stop")], 1, True),
        ([ending(0, "stop")], 2, False),
        ([ending(0, "stop"), ending(1, "")], 2, False),
        ([ending(0, "stop"), ending(1, "length")], 2, True),
        ([ending(0, None), ending(1, "stop")], 1, False),
        ([ending(0, "stop"), "data: [DONE]\n\n"], 2, True),
    ],
)
@pytest.mark.parametrize("way", ["sync", "async"])
def test_a_stream_is_whole_when_each_choice_is(
    client: Controller, server: View, way: str, events: list[str], n: int, whole: bool
) -> None:
    server.plan({"kind": "events", "raw": "".join(events)})
    arguments: dict[str, Any] = {"model": ROUTED, "messages": [user()], "n": n}

    def read() -> int:
        return len(list(client.completion(stream=True, **arguments)))

    async def read_async() -> int:
        async with Controller(["length"], "big", "small", api_base=server.base_url) as ours:
            return len([c async for c in await ours.acompletion(stream=True, **arguments)])

    def run() -> int:
        return read() if way == "sync" else asyncio.run(read_async())

    if whole:
        assert run() == sum("[DONE]" not in event for event in events)
    else:
        with pytest.raises(ProviderConnectionError, match="before the answer was complete"):
            run()
