"""``model="cascade"`` of a Controller, over real HTTP to models in other processes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fakes import openai_chat
from fakes.planned import Server, View
from fastroute import Controller, Endpoint
from fastroute.errors import InvalidInputError, InvalidTypeError, ProviderStatusError
from fastroute.evidence.cascade import CascadeSettings, Evidence

NAMES = ("weak", "helper", "strong")
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "How many eggs are left?"}]


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Server]]:
    with openai_chat.start() as weak, openai_chat.start() as helper, openai_chat.start() as strong:
        yield dict(zip(NAMES, (weak, helper, strong), strict=True))


@pytest.fixture
def models(running: dict[str, Server]) -> dict[str, View]:
    return {name: View(server) for name, server in running.items()}


def says(text: str, **message: Any) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text, **message},
        "finish_reason": "stop",
    }
    usage = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    return {"kind": "reply", "body": {"id": "c9", "choices": [choice], "usage": usage}}


def make(models: dict[str, View], **options: Any) -> Controller:
    return Controller(
        ["length"],
        "strong",
        "weak",
        endpoints={n: Endpoint(models[n].base_url, max_retries=0) for n in NAMES},
        **{"helpers": ["helper"]} | options,
    )


def plan(models: dict[str, View], weak: str, helper: str, strong: str = "#### 99") -> None:
    for name, text in (("weak", weak), ("helper", helper), ("strong", strong)):
        models[name].plan(says(text))


def test_agreement_and_disagreement_from_threads(models: dict[str, View]) -> None:
    with make(models) as client:
        plan(models, "9 - 2 = 7 #### 7", "The answer is 7.")
        answer = client.chat.completions.create(model="cascade", messages=ASKED)
        assert answer.choices[0].message.content == "9 - 2 = 7 #### 7"
        assert isinstance(answer.evidence, Evidence)
        assert str(answer.evidence) == "agree 2/2"
        assert answer.fastroute is not None
        assert models["strong"].requests() == []
        plan(models, "#### 7", "#### 8")
        answer = client.completion(model="cascade", messages=ASKED)
        assert answer.choices[0].message.content == "#### 99"
        assert [call.outcome for call in answer.evidence.calls] == ["not_sent", "not_sent", "sent"]
        assert client.model_counts["cascade"] == {"weak": 1, "strong": 1}
    assert not [t for t in threading.enumerate() if t.name == "fastroute-cascade" and t.is_alive()]


def test_the_same_in_an_event_loop(models: dict[str, View]) -> None:
    async def main() -> str:
        async with make(models) as client:
            plan(models, "#### 7", "#### 7")
            answer = await client.acompletion(model="cascade", messages=ASKED)
            assert str(answer.evidence) == "agree 2/2"
            return str(answer.choices[0].message.content)

    assert asyncio.run(main()) == "#### 7"


@pytest.mark.parametrize("agreed", [True, False])
def test_streams_from_threads_and_loops(models: dict[str, View], agreed: bool) -> None:
    def planned() -> None:
        models["weak"].plan(says("#### 7"))
        models["helper"].plan(says("#### 7" if agreed else "#### 8"))

    arguments: dict[str, Any] = {
        "model": "cascade",
        "messages": ASKED,
        "stream_options": {"include_usage": True},
    }
    planned()
    with make(models) as client, client.completion(stream=True, **arguments) as stream:
        chunks = list(stream)
        assert stream.evidence.model == ("weak" if agreed else "strong")
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == ("#### 7" if agreed else "echo:Howmanyeggsareleft?")
    if agreed:
        assert chunks[-1].usage["total_tokens"] == 8
        assert chunks[-2].choices[0].finish_reason == "stop"

    async def main() -> str:
        planned()
        async with make(models) as client:
            stream = await client.acompletion(stream=True, **arguments)
            parts = [c.choices[0].delta.content or "" async for c in stream if c.choices]
            return "".join(parts)

    assert asyncio.run(main()) == text


def test_tool_calls_are_streamed_with_their_index(models: dict[str, View]) -> None:
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    for name in ("weak", "helper"):
        models[name].plan(says("", tool_calls=[call]))
    with (
        make(models) as client,
        client.completion(
            model="cascade", messages=ASKED, stream=True, tools=[{"type": "function"}]
        ) as stream,
    ):
        deltas = [c.choices[0].delta for c in stream if c.choices]
    assert deltas[0].tool_calls == [{"index": 0, **call}]
    assert json.loads(deltas[0].tool_calls[0].function.arguments) == {"x": 1}


def test_what_evidence_cannot_decide_is_decided_by_the_prompt(models: dict[str, View]) -> None:
    with make(models) as client:
        answer = client.completion(model="cascade", messages=ASKED, n=2)
        assert answer.evidence is None
        assert answer.choices[0].message.content == "echo: How many eggs are left?"
        assert len(models["weak"].requests()) == 1
        assert models["helper"].requests() == []


def test_failures_are_the_strong_models(models: dict[str, View]) -> None:
    for name in NAMES:
        models[name].plan({"kind": "status", "status": 503})
    with make(models) as client, pytest.raises(ProviderStatusError):
        client.completion(model="cascade", messages=ASKED)


def test_settings_reach_the_cascade(models: dict[str, View]) -> None:
    plan(models, "#### 7", "#### 8")
    with make(models, cascade=CascadeSettings(quorum=1)) as client:
        answer = client.completion(model="cascade", messages=ASKED)
    assert answer.evidence.reason == "agree"


def test_bad_arguments(models: dict[str, View]) -> None:
    with pytest.raises(InvalidTypeError, match="helpers must be a list"):
        make(models, helpers="helper")
    with pytest.raises(InvalidInputError, match="the strong model; name cheaper"):
        make(models, helpers=["strong"])
    with make(models, helpers=[]) as client, pytest.raises(InvalidInputError, match="pass helpers"):
        client.completion(model="cascade", messages=ASKED)
