"""``model="fastroute"`` of a Controller with candidates, over real HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from fakes import openai_chat
from fakes.planned import Server, View
from fastroute import Controller, Endpoint
from fastroute.candidates import Candidate, MaxQuality, Rule, SpendAtMost
from fastroute.errors import (
    InvalidInputError,
    InvalidTypeError,
    NoEligibleModelError,
    ProviderStatusError,
    UnknownRouterError,
)
from fastroute.many_models import CandidateDecider, CandidateDecision

MODELS = [
    Candidate("dear", 10.0, 30.0, quality_prior=0.9, provider="a"),
    Candidate("cheap", 0.1, 0.3, quality_prior=0.6, provider="b", context_window=4000),
]
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Server, Server]]:
    with openai_chat.start() as dear, openai_chat.start() as cheap:
        yield dear, cheap


@pytest.fixture
def servers(running: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> dict[str, View]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    return {"dear": View(running[0]), "cheap": View(running[1])}


def client(servers: dict[str, View], **arguments: Any) -> Controller:
    endpoints = {name: Endpoint(view.base_url) for name, view in servers.items()}
    return Controller(endpoints=endpoints, **{"candidates": MODELS, **arguments})


def test_the_policy_chooses_the_model_that_is_called(servers: dict[str, View]) -> None:
    for policy, model in (("max_quality", "dear"), ("best_value=1000", "cheap")):
        with client(servers, policy=policy) as controller:
            answer = controller.chat.completions.create(model="fastroute", messages=ASKED)
            assert answer.model == model
            assert isinstance(answer.evidence, CandidateDecision)
            assert (answer.evidence.model, answer.evidence.policy) == (model, policy)
            assert answer.fastroute is None
            assert controller.model_counts["fastroute"] == {model: 1}


def test_streams_and_async_calls_too(servers: dict[str, View]) -> None:
    async def ask(controller: Controller) -> str:
        answer = await controller.acompletion(model="fastroute", messages=ASKED)
        assert isinstance(answer.evidence, CandidateDecision)
        await controller.aclose()
        return str(answer.model)

    with client(servers) as controller:
        stream = controller.completion(model="fastroute", messages=ASKED, stream=True)
        assert "".join(c.choices[0].delta.get("content", "") for c in stream if c.choices)
        assert isinstance(stream.evidence, CandidateDecision)
        assert asyncio.run(ask(controller)) == "dear"


def test_a_request_that_fits_no_candidate_is_not_sent(servers: dict[str, View]) -> None:
    with client(servers) as controller:
        with pytest.raises(NoEligibleModelError, match="dear: lacks tools; cheap: lacks tools"):
            controller.completion(model="fastroute", messages=ASKED, tools=[{"type": "function"}])
        assert controller.model_counts["fastroute"] == {}


def test_a_conversation_stays_while_a_tool_call_is_open(servers: dict[str, View]) -> None:
    abilities = frozenset({"tools"})
    models = [Candidate("dear", 9, 9, quality_prior=0.9, abilities=abilities),
              Candidate("cheap", 1, 1, quality_prior=0.6, abilities=abilities)]  # fmt: skip
    messages = [*ASKED, {"role": "assistant", "tool_calls": [{"id": "1"}]},
                {"role": "tool", "tool_call_id": "1", "content": "3"}]  # fmt: skip
    with client(servers, candidates=models) as controller:
        for previous, model in ((None, "dear"), ("cheap", "cheap")):
            answer = controller.completion(
                model="fastroute", messages=messages, previous_model=previous, cached_tokens=5
            )
            assert answer.model == model
        sent = servers["cheap"].requests()[-1]
        assert "previous_model" not in sent
        assert "cached_tokens" not in sent


CALL = {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}}
RESULT = {"role": "tool", "tool_call_id": "call_0123456789", "content": "3"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOOLS = [Candidate(m.name, m.input_usd_per_mtok, m.output_usd_per_mtok, m.input_usd_per_mtok / 10,
                   quality_prior=m.quality_prior, provider=m.provider,
                   abilities=frozenset({"tools"})) for m in MODELS]  # fmt: skip


@pytest.mark.parametrize("how", ["whole", "stream", "async stream"])
def test_the_model_of_a_conversation_is_remembered(servers: dict[str, View], how: str) -> None:
    """By the identifiers of its tool calls, whatever stands before them, and by its beginning."""

    async def stream(controller: Controller) -> None:
        async for _ in await controller.acompletion(model="fastroute", messages=ASKED, stream=True):
            pass
        await controller.aclose()

    with client(servers, candidates=TOOLS, policy="best_value=1000") as controller:
        if how == "whole":
            body = {"choices": [{"message": CALLED}], "usage": {"prompt_tokens": 9}}
            servers["cheap"].plan({"kind": "reply", "body": body})
            controller.completion(model="fastroute", messages=ASKED)
        else:
            chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]},
                                  "finish_reason": "tool_calls"}]}  # fmt: skip
            raw = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
            servers["cheap"].plan({"kind": "events", "raw": raw, "pieces": 7})
            if how == "stream":
                list(controller.completion(model="fastroute", messages=ASKED, stream=True))
            else:
                asyncio.run(stream(controller))
        assert controller.candidates is not None
        controller.candidates.policy = MaxQuality()
        for messages in ([*ASKED, CALLED, RESULT], [{"role": "user", "content": "Summary"},
                                                    CALLED, RESULT]):  # fmt: skip
            answer = controller.completion(model="fastroute", messages=messages)
            assert answer.model == "cheap"
            assert answer.evidence.stayed
        # Another conversation, and one whose call is answered, may go where they like.
        for messages in (ASKED, [*ASKED, CALLED, {**RESULT, "tool_call_id": "call_9876543210"}]):
            assert controller.completion(model="fastroute", messages=messages[:1]).model == "dear"


def test_cached_tokens_are_remembered(servers: dict[str, View]) -> None:
    models = [Candidate("dear", 10.0, 1.0, 0.1), Candidate("cheap", 5.0, 1.0)]
    said = {"role": "assistant", "content": "Hi"}
    usage = {"prompt_tokens": 1500, "completion_tokens": 2,
             "prompt_tokens_details": {"cached_tokens": 1400}}  # fmt: skip
    asked = [{"role": "user", "content": "Hello " * 1000}]
    with client(servers, candidates=models, policy="quality_at_least=0") as controller:
        assert controller.completion(model="fastroute", messages=asked).model == "cheap"
        assert controller.candidates is not None
        controller.candidates.policy = MaxQuality()  # at equal quality the cheaper
        controller.candidates.candidates.replace(models[:1])
        body = {"choices": [{"message": said}], "usage": usage}
        servers["dear"].plan({"kind": "reply", "body": body})
        controller.completion(model="fastroute", messages=asked)
        controller.candidates.candidates.replace(models)
        answer = controller.completion(model="fastroute", messages=[*asked, said, *ASKED])
        assert answer.model == "dear"  # 1,400 tokens at a hundredth of the price


OPENAI_OVERFLOW = {"kind": "status", "status": 400, "code": "context_length_exceeded"}
ANTHROPIC_OVERFLOW = {
    "kind": "status",
    "status": 400,
    "raw": json.dumps({"type": "error", "error": {
        "type": "invalid_request_error",
        "message": "prompt is too long: 213462 tokens > 200000 maximum"}}),
}  # fmt: skip


REFUSED = "data: " + json.dumps({"error": {"code": OPENAI_OVERFLOW["code"]}}) + "\n\n"
IN_STREAM = {"kind": "events", "raw": REFUSED, "pieces": 2, "seconds": 0.02}


@pytest.mark.parametrize(
    ("planned", "stream"),
    [
        (OPENAI_OVERFLOW, False),
        (OPENAI_OVERFLOW, True),
        (ANTHROPIC_OVERFLOW, False),
        (ANTHROPIC_OVERFLOW, True),
        (IN_STREAM, True),
    ],
)
@pytest.mark.parametrize("in_loop", [False, True])
def test_a_prompt_that_is_too_long_goes_to_the_next_model(
    servers: dict[str, View], planned: dict[str, Any], stream: bool, in_loop: bool
) -> None:
    policy = SpendAtMost(1000.0)

    async def ask(controller: Controller) -> Any:
        answer: Any = await controller.acompletion(model="fastroute", messages=ASKED, stream=stream)
        if stream:
            assert [chunk async for chunk in answer]
        await controller.aclose()
        return answer

    with client(servers, policy=policy) as controller:
        servers["dear"].plan(planned)
        if in_loop:
            answer = asyncio.run(ask(controller))
        else:
            answer = controller.completion(model="fastroute", messages=ASKED, stream=stream)
            assert not stream or list(answer)
        assert answer.evidence.model == "cheap"
        assert [len(servers[name].requests()) for name in ("dear", "cheap")] == [1, 1]
        assert servers["cheap"].requests()[0]["model"] == "cheap"
        assert controller.model_counts["fastroute"] == {"dear": 1, "cheap": 1}
        assert policy.state.spent_usd < 0.001  # the refused call costs nothing


def test_it_moves_once_and_only_for_that_error(servers: dict[str, View]) -> None:
    other = {"kind": "status", "status": 400, "code": "invalid_value", "message": "max_tokens"}
    with client(servers, policy="max_quality") as controller:
        servers["dear"].plan(other)
        with pytest.raises(ProviderStatusError, match="max_tokens"):
            controller.completion(model="fastroute", messages=ASKED)
        assert servers["cheap"].requests() == []
        servers["dear"].plan(OPENAI_OVERFLOW)
        servers["cheap"].plan(OPENAI_OVERFLOW)
        with pytest.raises(ProviderStatusError, match="as planned"):
            controller.completion(model="fastroute", messages=ASKED)
        assert len(servers["dear"].requests()) == 2
        assert len(servers["cheap"].requests()) == 1
        # So does a stream's first event, where no candidate is left.
        servers["dear"].plan(IN_STREAM)
        servers["cheap"].plan(OPENAI_OVERFLOW)
        with pytest.raises(ProviderStatusError, match="as planned"):
            controller.completion(model="fastroute", messages=ASKED, stream=True)
        # A candidate with a known window that is no larger is not tried.
        small = [Candidate("dear", 1, 1, context_window=5000), Candidate("cheap", 1, 1,
                 context_window=5000)]  # fmt: skip
        assert controller.candidates is not None
        controller.candidates.candidates.replace(small)
        servers["dear"].plan(OPENAI_OVERFLOW)
        with pytest.raises(ProviderStatusError):
            controller.completion(model="fastroute", messages=ASKED)
        servers["dear"].plan(IN_STREAM)
        with pytest.raises(ProviderStatusError, match="HTTP 400"):
            controller.completion(model="fastroute", messages=ASKED, stream=True)
        assert len(servers["cheap"].requests()) == 2


def test_rules_hold_by_header_and_system_prompt(servers: dict[str, View]) -> None:
    rules = [Rule(headers={"X-Team": "research*"}, deny=["dear"]),
             Rule(system_prompts=["*secret*"], allow=["cheap"])]  # fmt: skip
    decider = CandidateDecider(MODELS, rules=rules)
    system = {"role": "system", "content": "This is SECRET."}
    with client(servers, candidates=decider) as controller:
        for model, more in (
            ("dear", {}),
            ("dear", {"extra_headers": {"x-team": "sales"}}),
            ("cheap", {"extra_headers": {"x-team": "Research 3"}}),
            ("cheap", {"messages": [system, *ASKED]}),
        ):
            answer = controller.completion(**{"model": "fastroute", "messages": ASKED, **more})
            assert answer.model == model
    with pytest.raises(InvalidInputError, match="rule 1: no candidate has the name or tag 'x'"):
        CandidateDecider(MODELS, rules=[Rule(deny=["x"])])


def test_signed_reasoning_is_removed_only_where_that_is_asked_for(servers: dict[str, View]) -> None:
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "x"}
    said = {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hi"}]}
    messages = [*ASKED, said, *ASKED]
    with client(servers) as controller:
        answer = controller.completion(model="fastroute", messages=messages, previous_model="cheap")
        assert answer.model == "cheap"
        assert servers["cheap"].requests()[-1]["messages"] == messages
    decider = CandidateDecider(MODELS, drop_reasoning=True)
    with client(servers, candidates=decider) as controller:
        answer = controller.completion(model="fastroute", messages=messages, previous_model="cheap")
        assert answer.model == "dear"
        sent = servers["dear"].requests()[-1]["messages"]
        assert sent[1]["content"] == [{"type": "text", "text": "Hi"}]


def test_spending_is_what_the_answers_cost(servers: dict[str, View]) -> None:
    policy = SpendAtMost(100.0)
    with client(servers, policy=policy) as controller:
        answer = controller.completion(model="fastroute", messages=ASKED)
    usage = answer.usage
    expected = MODELS[0].dollars(usage.prompt_tokens, usage.completion_tokens)
    assert policy.state.spent_usd == pytest.approx(expected)


def test_pairs_work_beside_candidates(servers: dict[str, View]) -> None:
    endpoints = {name: Endpoint(view.base_url) for name, view in servers.items()}
    with Controller(
        ["length"], "dear", "cheap", candidates=MODELS, policy="max_quality", endpoints=endpoints
    ) as controller:
        answer = controller.completion(model="router-length-1.0", messages=ASKED)
        assert answer.model == answer.fastroute.model == "cheap"
        assert answer.evidence is None
        assert controller.completion(model="fastroute", messages=ASKED).model == "dear"
        assert controller.candidates is not None
        assert controller.candidates.decide("Hello").model == "dear"


def test_without_a_pair_there_is_no_router() -> None:
    controller = Controller(candidates=MODELS)
    assert repr(controller) == "Controller(candidates=['dear', 'cheap'])"
    assert controller.model_pair == ("", "")
    for call in (controller.decide, controller.route):
        with pytest.raises(UnknownRouterError, match="no router is loaded: give routers"):
            call("Hello")
    with pytest.raises(UnknownRouterError, match="no router is loaded"):
        controller.completion(model="router-mf-0.5", messages=ASKED)
    both = Controller(["length"], "dear", "cheap", candidates=MODELS)
    assert "candidates=['dear', 'cheap']" in repr(both)


def test_without_candidates_the_name_is_a_plain_model(servers: dict[str, View]) -> None:
    with Controller(["length"], "a", "b", api_base=servers["dear"].base_url) as controller:
        answer = controller.completion(model="fastroute", messages=ASKED)
        assert answer.model == "fastroute"
        assert controller.candidates is None


@pytest.mark.parametrize(
    ("arguments", "kind", "said"),
    [
        ({"candidates": []}, InvalidInputError, "got none"),
        ({"candidates": ["a"]}, InvalidTypeError, "must hold Candidate"),
        ({"candidates": MODELS, "policy": "best"}, InvalidInputError, "policy 'best'"),
        ({"routers": ["length"], "strong_model": "a", "weak_model": "b", "policy": "max_quality"},
         InvalidInputError, "need candidates"),
        ({"candidates": CandidateDecider(MODELS), "policy": "max_quality"}, InvalidInputError,
         "which has a policy"),
        ({"candidates": MODELS, "strong_model": "a"}, InvalidInputError, "weak_model must be"),
        ({}, InvalidInputError, "strong_model must be a model's name"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises((kind, InvalidInputError), match=said):
        Controller(**arguments)


def test_what_belongs_to_candidates_has_no_place_elsewhere(servers: dict[str, View]) -> None:
    with client(servers) as controller:
        with pytest.raises(InvalidInputError, match="previous_model"):
            controller.completion(model="dear", messages=ASKED, previous_model="cheap")
        with pytest.raises(InvalidInputError, match="cached_tokens must be"):
            controller.completion(model="fastroute", messages=ASKED, cached_tokens=-1)


def test_a_candidate_has_an_endpoint_and_a_key_of_its_own(
    servers: dict[str, View], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [
        replace(MODELS[0], base_url=servers["dear"].base_url, api_key_env="DEAR_KEY"),
        replace(MODELS[1], base_url=servers["cheap"].base_url),
    ]
    with Controller(candidates=models) as controller:
        with pytest.raises(InvalidInputError, match="DEAR_KEY is not set"):
            controller.chat.completions.create(model="fastroute", messages=ASKED)
        monkeypatch.setenv("DEAR_KEY", "sk-dear")
        answer = controller.chat.completions.create(model="fastroute", messages=ASKED)
        assert answer.model == "dear"
    (asked,) = servers["dear"].requests()
    assert asked["headers"]["authorization"] == "Bearer sk-dear"
    with Controller(candidates=models, policy="best_value=1000") as controller:
        assert controller.completion(model="fastroute", messages=ASKED).model == "cheap"
    (asked,) = servers["cheap"].requests()
    assert "authorization" not in asked["headers"]
    # What the caller gives comes first.
    own = {"dear": Endpoint(servers["cheap"].base_url)}
    with Controller(candidates=models, endpoints=own) as controller:
        controller.completion(model="fastroute", messages=ASKED)
    assert len(servers["cheap"].requests()) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"base_url": "example.com"}, "candidate 'm': .*"),
        ({"base_url": 3}, "candidate 'm': .*"),
        ({"api_key_env": "KEY"}, "api_key_env needs base_url"),
        ({"api_key_env": 3}, "api_key_env must be a name"),
    ],
)
def test_a_wrong_endpoint_of_a_candidate_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises((InvalidInputError, InvalidTypeError), match=said):
        Candidate("m", **change)
