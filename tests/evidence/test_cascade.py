"""The cascade over real HTTP, to models in other processes that are slow, differ and fail."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fakes import openai_chat
from fakes.planned import Server, View
from fastroute.chat import AsyncChatStream
from fastroute.errors import InvalidInputError, ProviderStatusError
from fastroute.evidence import Expectation
from fastroute.evidence.acceptance import AcceptanceModel
from fastroute.evidence.cascade import (
    MOST_ANSWER_BYTES,
    Cascade,
    CascadeSettings,
    Evidence,
)
from fastroute.evidence.request import cheap_requests, is_applicable
from fastroute.http import AsyncHttpTransport, AsyncResponse, Endpoint, Request
from fastroute.provenance import OperatingPoint, Provenance

NUMBER = Expectation("number")
NAMES = ("weak", "helper", "other", "strong")


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Server]]:
    with (
        openai_chat.start() as weak,
        openai_chat.start() as helper,
        openai_chat.start() as other,
        openai_chat.start() as strong,
    ):
        yield dict(zip(NAMES, (weak, helper, other, strong), strict=True))


@pytest.fixture
def models(running: dict[str, Server]) -> dict[str, View]:
    return {name: View(server) for name, server in running.items()}


def says(text: str) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": len(text)}}
    return {"kind": "reply", "body": body}


def request(models: dict[str, View], name: str, **body: Any) -> Request:
    content = {"model": name, "messages": [{"role": "user", "content": "How many?"}], **body}
    endpoint = Endpoint(models[name].base_url, max_retries=0, timeout_s=20)
    return Request(
        endpoint, json.dumps(content).encode(), model=name, stream=bool(body.get("stream"))
    )


def run(
    models: dict[str, View],
    settings: CascadeSettings | None = None,
    cheap: tuple[str, ...] = ("weak", "helper"),
    check: Callable[[AsyncResponse, Evidence], Awaitable[Any]] | None = None,
    expectation: Expectation = NUMBER,
    prefers_strong: bool = True,
    **body: Any,
) -> tuple[Any, Evidence]:
    async def main() -> tuple[Any, Evidence]:
        transport = AsyncHttpTransport()
        try:
            requests = [request(models, name, **body) for name in cheap]
            response, evidence = await Cascade(transport, settings).send(
                cheap_requests(requests, body),
                request(models, "strong", **body),
                prompt="How many?",
                expectation=expectation,
                prefers_strong=lambda: prefers_strong,
            )
            if check is not None:
                return await check(response, evidence), evidence
            answer = json.loads(await response.read())
            return answer["choices"][0]["message"]["content"], evidence
        finally:
            await transport.aclose()

    return asyncio.run(main())


def outcomes(evidence: Evidence) -> dict[str, str]:
    return {call.model: call.outcome for call in evidence.calls}


def test_two_that_agree_are_sent_and_the_strong_model_is_not_asked(models: dict[str, View]) -> None:
    models["weak"].plan(says("6 + 1 = 7 #### 7"))
    models["helper"].plan(says("The answer is 7."))
    text, evidence = run(models)
    assert text == "6 + 1 = 7 #### 7"
    assert str(evidence) == "agree 2/2"
    assert evidence.model == "weak"
    assert outcomes(evidence) == {"weak": "sent", "helper": "agreed"}
    assert [call.usage["completion_tokens"] for call in evidence.calls if call.usage] == [16, 16]
    assert models["strong"].requests() == []


def test_the_strong_model_decides_where_they_differ(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan(says("#### 8"))
    models["strong"].plan(says("#### 9"))
    text, evidence = run(models)
    assert text == "#### 9"
    assert str(evidence) == "disagree 1/2"
    assert outcomes(evidence) == {"weak": "not_sent", "helper": "not_sent", "strong": "sent"}


def test_the_first_two_that_agree_end_the_wait(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan({"kind": "stall", "seconds": 5})
    models["other"].plan(says("#### 7"))
    began = time.monotonic()
    text, evidence = run(models, cheap=("weak", "helper", "other"))
    assert time.monotonic() - began < 2
    assert text == "#### 7"
    assert outcomes(evidence) == {"weak": "sent", "helper": "cancelled", "other": "agreed"}


def test_two_helpers_overrule_the_weak_model(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 1"))
    models["helper"].plan(says("#### 7"))
    models["other"].plan(says("#### 7"))
    text, evidence = run(models, cheap=("weak", "helper", "other"))
    assert text == "#### 7"
    assert evidence.model == "helper"


def test_after_the_deadline_the_strong_model_is_asked_anyway(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan({"kind": "stall", "seconds": 10})
    models["strong"].plan(says("#### 9"))
    began = time.monotonic()
    text, evidence = run(models, CascadeSettings(deadline_s=0.3))
    assert 0.3 <= time.monotonic() - began < 3
    assert (text, evidence.reason) == ("#### 9", "late")
    assert outcomes(evidence)["helper"] == "cancelled"


def test_an_early_strong_call_is_cancelled_when_they_agree(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan({"kind": "stall", "seconds": 0.3})  # then "echo: How many?"
    models["other"].plan({"kind": "stall", "seconds": 0.4})
    models["strong"].plan({"kind": "stall", "seconds": 10})
    began = time.monotonic()
    settings = CascadeSettings(early_strong_s=0.05)
    text, evidence = run(
        models, settings, cheap=("weak", "helper", "other"), expectation=Expectation("text")
    )
    assert time.monotonic() - began < 3
    assert text == "echo: How many?"
    assert evidence.reason == "agree"
    assert outcomes(evidence)["strong"] == "cancelled"
    assert len(models["strong"].requests()) == 1


def test_an_early_strong_call_saves_its_time(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan({"kind": "stall", "seconds": 0.6})  # then "echo: How many?"
    models["strong"].plan({"kind": "stall", "seconds": 0.6})
    began = time.monotonic()
    text, evidence = run(models, CascadeSettings(early_strong_s=0.05))
    assert time.monotonic() - began < 1.1
    assert text == "echo: How many?"
    assert evidence.model == "strong"


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 429},
        {"kind": "reset"},
        {"kind": "cut"},
        {"kind": "garbage", "raw": "[[]]"},
        {"kind": "garbage", "raw": "not JSON"},
        {"kind": "garbage", "raw": '{"choices": []}'},
        {"kind": "garbage", "raw": '{"choices": [{"message": 5}]}'},
        {"kind": "garbage", "raw": "[" * 100_000},
        {"kind": "reply", "body": {"error": {"message": "overloaded"}}},
    ],
)
def test_a_cheap_model_that_fails_gives_no_answer(
    models: dict[str, View], fault: dict[str, Any]
) -> None:
    models["weak"].plan(fault)
    models["helper"].plan(says("#### 7"))
    models["strong"].plan(says("#### 9"))
    text, evidence = run(models)
    assert text == "#### 9"
    assert outcomes(evidence) == {"weak": "failed", "helper": "not_sent", "strong": "sent"}
    models["weak"].plan(fault)
    models["helper"].plan(fault)
    models["strong"].plan(says("#### 9"))
    text, evidence = run(models)
    assert (text, str(evidence)) == ("#### 9", "failed 0/0")


def test_a_cheap_answer_stands_in_for_a_strong_model_that_fails(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan(says("#### 8"))
    models["strong"].plan({"kind": "status", "status": 503})
    text, evidence = run(models)
    assert (text, evidence.reason, evidence.model) == ("#### 7", "failed", "weak")
    assert outcomes(evidence)["strong"] == "failed"
    for name in ("weak", "helper", "strong"):
        models[name].plan({"kind": "status", "status": 503})
    with pytest.raises(ProviderStatusError):
        run(models)


def test_what_cannot_be_compared_is_decided_by_the_prompt(models: dict[str, View]) -> None:
    for prefers_strong, sent in ((True, "strong"), (False, "weak")):
        for name in ("weak", "helper", "strong"):
            models[name].plan(says(f"An essay of {name}. " * 20))
        _, evidence = run(models, expectation=Expectation(), prefers_strong=prefers_strong)
        assert (evidence.reason, evidence.model) == ("incomparable", sent)


def test_a_stream_is_the_strong_models_own(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7"))
    models["helper"].plan(says("#### 8"))

    async def read(response: AsyncResponse, _: Evidence) -> str:
        stream = AsyncChatStream(response)
        return " ".join([chunk.choices[0].delta.get("content", "") async for chunk in stream])

    text, evidence = run(
        models, check=read, stream=True, stream_options={"include_usage": True}, seed=5
    )
    assert text.strip() == "echo: How many?"
    assert evidence.model == "strong"
    weak, helper, strong = (models[m].requests()[0] for m in ("weak", "helper", "strong"))
    assert "stream" not in weak
    assert "stream_options" not in helper
    assert strong["stream"] is True
    assert (weak["seed"], helper["seed"], strong["seed"]) == (5, 6, 5)


def test_a_cancelled_client_cancels_every_call(models: dict[str, View]) -> None:
    for name in ("weak", "helper", "strong"):
        models[name].plan({"kind": "trickle", "seconds": 0.2})

    async def main() -> None:
        transport = AsyncHttpTransport()
        requests = cheap_requests([request(models, name) for name in ("weak", "helper")], {})
        send = Cascade(transport).send(
            requests, request(models, "strong"), prompt="?", expectation=NUMBER
        )
        task = asyncio.get_running_loop().create_task(send)
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left
        await transport.aclose()

    asyncio.run(main())


def reply(text: str) -> bytes:
    return json.dumps(says(text)["body"]).encode()


class Scripted:
    """A transport whose calls do what a test says, by the name of the model."""

    def __init__(self, **calls: Callable[[], Awaitable[bytes]]) -> None:
        self._calls = calls
        self.closed: list[str] = []

    async def asend(self, request: Request) -> AsyncResponse:
        body = await self._calls[request.model]()

        async def pieces() -> AsyncIterator[bytes]:
            yield body

        async def close() -> None:
            self.closed.append(request.model)

        return AsyncResponse(200, {}, pieces(), close)

    async def aclose(self) -> None:
        pass


def after(seconds: float, outcome: str | Exception) -> Callable[[], Awaitable[bytes]]:
    async def call() -> bytes:
        await asyncio.sleep(seconds)
        if isinstance(outcome, Exception):
            raise outcome
        return reply(outcome)

    return call


async def stubborn() -> bytes:
    """Takes 0.4 seconds, whoever cancels it."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + 0.4
    while (left_s := end_s - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(left_s)
    return reply("#### 5")


def send_scripted(transport: Scripted, *cheap: str, **settings: Any) -> Awaitable[Any]:
    def ask(name: str) -> Request:
        return Request(Endpoint("http://127.0.0.1:9/v1"), b"{}", model=name)

    return Cascade(transport, CascadeSettings(**settings)).send(
        [ask(name) for name in cheap], ask("strong"), prompt="How many?", expectation=NUMBER
    )


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("gone"), AssertionError()])
def test_no_error_of_a_cheap_call_loses_the_request(error: Exception) -> None:
    transport = Scripted(
        weak=after(0, error), helper=after(0.01, "#### 7"), other=after(0.02, "#### 7"),
        strong=after(0, "#### 9"),
    )  # fmt: skip
    response, evidence = asyncio.run(send_scripted(transport, "weak", "helper", "other"))
    assert response.body == reply("#### 7")
    assert outcomes(evidence)["weak"] == "failed"


def test_an_early_strong_call_that_fails_is_reported_so() -> None:
    transport = Scripted(
        weak=after(0.1, "#### 7"), helper=after(0.15, "#### 7"), strong=after(0, OSError("gone"))
    )
    response, evidence = asyncio.run(send_scripted(transport, "weak", "helper", early_strong_s=0.0))
    assert response.body == reply("#### 7")
    assert outcomes(evidence) == {"weak": "sent", "helper": "agreed", "strong": "failed"}


def test_an_early_strong_answer_that_is_not_needed_is_closed() -> None:
    transport = Scripted(
        weak=after(0.1, "#### 7"), helper=after(0.15, "#### 7"), strong=after(0, "#### 9")
    )
    _, evidence = asyncio.run(send_scripted(transport, "weak", "helper", early_strong_s=0.0))
    assert outcomes(evidence)["strong"] == "cancelled"
    assert "strong" in transport.closed


def test_the_usage_of_an_answer_that_cannot_be_read_is_counted(models: dict[str, View]) -> None:
    bad = says("#### 7")
    bad["body"]["choices"][0]["logprobs"] = {"content": [{}]}
    models["weak"].plan(bad)
    models["helper"].plan(says("#### 7"))
    models["strong"].plan(says("#### 9"))
    _, evidence = run(models)
    assert outcomes(evidence)["weak"] == "failed"
    assert evidence.calls[0].usage == {"prompt_tokens": 5, "completion_tokens": 6}


def test_an_answer_does_not_wait_for_a_call_that_will_not_end() -> None:
    async def main() -> float:
        transport = Scripted(
            weak=after(0, "#### 7"), helper=after(0, "#### 7"), other=stubborn,
            strong=after(0, "#### 9"),
        )  # fmt: skip
        began = time.monotonic()
        await send_scripted(transport, "other", "weak", "helper")
        seconds = time.monotonic() - began
        await asyncio.sleep(0.6)
        assert not asyncio.all_tasks() - {asyncio.current_task()}
        return seconds

    assert asyncio.run(main()) < 0.3


@pytest.mark.parametrize("ticks", range(14))
def test_a_client_that_leaves_at_any_moment_leaves_nothing_open(ticks: int) -> None:
    """It is cancelled after each number of turns of the event loop."""

    async def main() -> None:
        transport = Scripted(
            weak=after(0, "#### 7"), helper=after(0, "#### 8"), other=stubborn,
            strong=after(0, "#### 9"),
        )  # fmt: skip
        made: list[str] = []
        asend = transport.asend

        async def counted(request: Request) -> AsyncResponse:
            response = await asend(request)
            made.append(request.model)
            return response

        transport.asend = counted  # type: ignore[method-assign]
        sending = send_scripted(transport, "weak", "helper", "other", deadline_s=0.001)
        task = asyncio.ensure_future(sending)
        for _ in range(ticks):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.5)
        assert not asyncio.all_tasks() - {asyncio.current_task()}
        assert made.count("strong") == transport.closed.count("strong")

    asyncio.run(main())


def test_a_client_that_leaves_while_calls_are_closed_leaves_nothing_open() -> None:
    async def main() -> None:
        transport = Scripted(
            weak=after(0, "#### 7"), helper=after(0, "#### 8"), other=stubborn,
            strong=after(0, "#### 9"),
        )  # fmt: skip
        sending = send_scripted(transport, "weak", "helper", "other", deadline_s=0.01)
        task = asyncio.ensure_future(sending)
        await asyncio.sleep(0.04)  # the strong model has answered, and the stubborn call goes on
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.closed.count("strong") == 1
        await asyncio.sleep(0.5)
        assert not asyncio.all_tasks() - {asyncio.current_task()}

    asyncio.run(main())


def test_a_cancelled_call_is_closed_within_50_ms(models: dict[str, View]) -> None:
    async def check(_: AsyncResponse, __: Evidence) -> float:
        began = time.monotonic()
        while (
            not (asked := await asyncio.to_thread(models["other"].requests))
            or not (asked[-1]["gave_up"])
        ):
            if not asked and time.monotonic() - began > 1:
                return math.inf  # it was cancelled before it was sent
            assert time.monotonic() - began < 3
            await asyncio.sleep(0.002)
        return time.monotonic() - began

    taken = []
    for _ in range(5):  # the best, since the machine may be busy with other tests
        models["weak"].plan(says("#### 7"))
        models["helper"].plan(says("#### 7"))
        models["other"].plan({"kind": "trickle", "seconds": 0.01})  # notices at a piece
        seconds, evidence = run(models, cheap=("other", "weak", "helper"), check=check)
        assert outcomes(evidence)["other"] == "cancelled"
        taken.append(seconds)
    assert min(taken) < 0.05


def test_the_default_threshold_is_the_acceptance_models() -> None:
    one = np.ones(1)
    model = AcceptanceModel(("agreeing",), one, 0.0, one, one, 3.0)
    assert CascadeSettings(acceptance=model).accepts(0.5)
    assert not CascadeSettings(acceptance=model).accepts(0.49)
    pointed = replace(model, provenance=Provenance(operating_point=OperatingPoint(0.7)))
    assert not CascadeSettings(acceptance=pointed).accepts(0.69)
    assert CascadeSettings(acceptance=pointed).accepts(0.7)
    assert CascadeSettings(acceptance=pointed, threshold=0.2).accepts(0.2)


def test_an_acceptance_model_knows_the_places_of_the_models(models: dict[str, View]) -> None:
    # Only the agreement of the third model counts.
    model = AcceptanceModel(
        ("agrees_3",), np.array([9.0]), -4.0, np.zeros(1), np.ones(1), 3.0, cheap_models=3
    )
    settings = CascadeSettings(acceptance=model)
    for helper, other, accepted in (("8", "7", True), ("7", "8", False)):
        models["weak"].plan(says("#### 7"))
        models["helper"].plan(says(f"#### {helper}"))
        models["other"].plan(says(f"#### {other}"))
        _, evidence = run(models, settings, cheap=("weak", "helper", "other"))
        assert evidence.reason == ("accepted" if accepted else "rejected")
    models["weak"].plan(says("#### 7"))
    models["helper"].plan({"kind": "status", "status": 500})  # the places of the others stay
    models["other"].plan(says("#### 7"))
    _, evidence = run(models, settings, cheap=("weak", "helper", "other"))
    assert evidence.reason == "accepted"
    settings.check_models(3)
    with pytest.raises(InvalidInputError, match="trained with 3 cheap models, and there are 2"):
        settings.check_models(2)


def test_a_cheap_answer_has_a_longest_length(models: dict[str, View]) -> None:
    models["weak"].plan(says("#### 7" + " " * MOST_ANSWER_BYTES))
    models["helper"].plan(says("#### 7"))
    models["strong"].plan(says("#### 9"))
    text, evidence = run(models)
    assert text == "#### 9"
    assert outcomes(evidence)["weak"] == "failed"


def test_requests_that_evidence_cannot_decide() -> None:
    assert is_applicable({})
    assert is_applicable({"n": 1, "tools": [], "logprobs": True, "modalities": ["text"]})
    assert not is_applicable({"n": 2})
    assert not is_applicable({"modalities": ["text", "audio"]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quorum": 0}, "quorum"),
        ({"deadline_s": -1}, "deadline_s"),
        ({"early_strong_s": float("nan")}, "early_strong_s"),
        ({"threshold": 2}, "threshold"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        CascadeSettings(**settings)
