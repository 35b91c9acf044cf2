"""OpenAI's Responses API: nothing that the provider would answer is refused, and what a provider
keeps is asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import openai
import pytest

from fakes import gateway as gateways
from fakes import openai_responses
from fakes.gateway import Gateway
from fakes.planned import Server, View
from fastroute.gateway.protocol.auth import hash_key

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
[routing.session_affinity]
by = "none"
[models.strong]
base_url = "{0}"
[[models.weak.endpoints]]
base_url = "{1}"
[[models.weak.endpoints]]
base_url = "{2}"
[resilience]
fallback = "both"
retries = 0
breaker_failures = 0
[[keys]]
name = "one"
sha256 = "{3}"
[[keys]]
name = "two"
sha256 = "{4}"
"""
KEYS = ("key-of-one-0123456789", "key-of-two-0123456789")
LONG = "a long question " * 40
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def servers() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(openai_responses.start(name)) for name in NAMES]


@pytest.fixture(scope="module")
def gateway(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    hashes = [hash_key(key) for key in KEYS]
    text = CONFIG.format(*(server.base_url for server in servers), *hashes)
    path = gateways.write_config(tmp_path_factory.mktemp("responses"), text)
    with gateways.start("--config", path) as running:
        yield running


@pytest.fixture
def views(servers: list[Server]) -> list[View]:
    return [View(server) for server in servers]


@pytest.fixture
def clients(gateway: Gateway) -> Iterator[list[openai.OpenAI]]:
    with ExitStack() as stack:
        made = [
            openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0) for key in KEYS
        ]
        yield [stack.enter_context(client) for client in made]


def ask(gateway: Gateway, **fields: Any) -> Any:
    headers = {"authorization": f"Bearer {KEYS[0]}"}
    return gateway.ask("POST", "/v1/responses", {"model": "fastroute", **fields}, headers)


TOOL_OUTPUT = {"type": "function_call_output", "call_id": "c1", "output": "42"}


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_unknown", "input": [TOOL_OUTPUT]},
        {"conversation": "conv_1", "input": [TOOL_OUTPUT]},
        {"conversation": {"id": "conv_2"}, "input": []},
        {"prompt": {"id": "pmpt_1", "variables": {"city": "Paris"}}},
        {"prompt": {"id": "pmpt_1"}, "input": None},
        {"input": []},
        {"input": ""},
        {"input": [TOOL_OUTPUT, {"type": "reasoning", "id": "rs_1", "summary": []}]},
        {"input": [{"type": None, "role": "user", "content": "hi"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"input": [{"role": "developer", "content": "be brief"}]},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": ["hi"]},
        {},
    ],
)
def test_what_has_no_text_is_routed(gateway: Gateway, fields: Any) -> None:
    answer = ask(gateway, **fields)
    assert answer.status == 200, answer.body
    assert answer.headers["x-fastroute-router"] == "length"


def test_a_message_whose_type_is_null_is_scored(gateway: Gateway) -> None:
    answer = ask(gateway, input=[{"type": None, "role": "user", "content": LONG}])
    assert answer.headers["x-fastroute-model"] == "strong"


@pytest.mark.parametrize("stream", [False, True])
def test_a_turn_stays_with_the_model_that_made_the_one_before(
    clients: list[openai.OpenAI], views: list[View], stream: bool
) -> None:
    def turn(**fields: Any) -> str:
        made = clients[0].responses.create(model="fastroute", **fields, stream=stream)
        response = list(made)[-1].response if stream else made
        assert response.id.startswith("resp_")
        return str(response.id)

    first = turn(input=LONG)
    second = turn(input="go on", previous_response_id=first)
    third = turn(input=[TOOL_OUTPUT], previous_response_id=second)
    assert [request["model"] for request in views[0].requests()] == ["strong"] * 3
    # A weak one stays too, with the endpoint that keeps it, though both have the same load.
    name = turn(input="short")
    for i in range(8):
        name = turn(input=LONG if i % 2 else "short", previous_response_id=name)
    counts = sorted(len(view.requests()) for view in views[1:])
    assert counts == [0, 9]
    # A turn of its own is scored again.
    turn(input="short")
    assert len(views[0].requests()) == 3
    assert third.startswith("resp_a")


@pytest.mark.parametrize("conversation", ["conv_text", {"id": "conv_table"}])
def test_a_conversation_stays(gateway: Gateway, views: list[View], conversation: Any) -> None:
    for text in (LONG, "short", "short"):
        answer = ask(gateway, input=text, conversation=conversation)
        assert answer.headers["x-fastroute-model"] == "strong"
    assert answer.headers["x-fastroute-sticky"] == "stayed"
    assert len(views[0].requests()) == 3


def test_a_model_named_outright_goes_to_the_keeper_too(
    clients: list[openai.OpenAI], views: list[View]
) -> None:
    name = clients[0].responses.create(model="weak", input="short").id
    for _ in range(6):
        name = (
            clients[0].responses.create(model="weak", input="short", previous_response_id=name).id
        )
    assert sorted(len(view.requests()) for view in views) == [0, 0, 7]


def test_what_one_provider_keeps_is_not_asked_of_another(
    gateway: Gateway, clients: list[openai.OpenAI], views: list[View]
) -> None:
    name = clients[0].responses.create(model="fastroute", input=LONG).id
    views[0].plan({"kind": "status", "status": 503})
    assert ask(gateway, input="short", previous_response_id=name).status == 503
    assert not views[1].requests() + views[2].requests()


@pytest.mark.parametrize("text", ["short", LONG])
def test_a_stored_response_is_asked_of_its_provider(
    clients: list[openai.OpenAI], views: list[View], text: str
) -> None:
    client = clients[0]
    name = client.responses.create(model="fastroute", input=text).id
    assert client.responses.retrieve(name, include=["reasoning.encrypted_content"]).id == name
    assert client.responses.input_items.list(name).data == []
    assert client.responses.cancel(name).id == name
    client.responses.delete(name)
    with pytest.raises(openai.NotFoundError, match="not found"):
        client.responses.retrieve(name)
    asked = [view.requests() for view in views if view.requests()]
    assert len(asked) == 1
    assert [request.get("method") for request in asked[0]] == [
        *(None, "GET", "GET", "POST", "DELETE", "GET")
    ]
    assert asked[0][1]["path"].startswith(f"/v1/responses/{name}?include")
    for request in asked[0][1:]:
        assert "authorization" not in request["headers"]
        assert request["headers"]["via"] == "1.1 fastroute"


def test_an_unknown_response_is_asked_of_each_until_one_knows_it(
    servers: list[Server], clients: list[openai.OpenAI], views: list[View]
) -> None:
    with openai.OpenAI(base_url=servers[2].base_url, api_key="none") as direct:
        name = direct.responses.create(model="weak", input="hi").id
    assert clients[0].responses.retrieve(name).id == name
    assert [len(view.requests()) for view in views] == [1, 1, 2]
    with pytest.raises(openai.NotFoundError):
        clients[0].responses.retrieve("resp_nowhere")


def test_callers_do_not_get_at_each_others_responses(clients: list[openai.OpenAI]) -> None:
    name = clients[0].responses.create(model="fastroute", input=LONG).id
    for call in (clients[1].responses.retrieve, clients[1].responses.delete):
        with pytest.raises(openai.NotFoundError, match="no response with that id"):
            call(name)
    assert clients[0].responses.retrieve(name).id == name
    # Going on with it does not make it the other's.
    clients[1].responses.create(model="strong", input="hi", previous_response_id=name)
    with pytest.raises(openai.NotFoundError):
        clients[1].responses.retrieve(name)


@pytest.mark.parametrize("name", ["..", ".", "a%2f..", "resp_a/b", "-x", "x" * 300, "a b", ""])
def test_what_is_no_id_is_no_path(gateway: Gateway, views: list[View], name: str) -> None:
    headers = {"authorization": f"Bearer {KEYS[0]}"}
    answer = gateway.ask("GET", f"/v1/responses/{name.replace(' ', '%20')}", None, headers)
    assert answer.status in (404, 405)
    assert not any(view.requests() for view in views)


def test_a_model_is_found_by_its_name(clients: list[openai.OpenAI]) -> None:
    listed = [model.id for model in clients[0].models.list()]
    for name in [*listed, "router-length-0.25"]:
        assert clients[0].models.retrieve(name).id == name
    for name in ("nobody", "router-mf-0.5", "router-length-7", "a/b"):
        with pytest.raises(openai.NotFoundError, match="unknown model"):
            clients[0].models.retrieve(name)


def test_a_slash_at_the_end_makes_no_difference(gateway: Gateway) -> None:
    headers = {"authorization": f"Bearer {KEYS[0]}"}
    paths = gateway.ask("GET", "/openapi.json").json()["paths"]
    assert "/v1/messages/count_tokens" in paths
    for path, methods in {**paths, "/openapi.json": {"get": {}}, "/ui/stats": {"get": {}}}.items():
        for method in methods:
            sent = (
                {"model": "fastroute", "input": "x", "messages": []} if method == "post" else None
            )
            where = path.replace("{id}", "fastroute")
            plain, slashed = (
                gateway.ask(method.upper(), where + end, sent, headers) for end in ("", "/")
            )
            assert plain.status == slashed.status, path
            assert plain.headers.get("content-type") == slashed.headers.get("content-type")
            assert "location" not in slashed.headers


def test_a_turn_after_a_response_of_another_worker_stays_too(
    servers: list[Server], gateway: Gateway, views: list[View]
) -> None:
    def made_elsewhere(server: Server, model: str) -> str:
        with openai.OpenAI(base_url=server.base_url, api_key="none") as direct:
            return str(direct.responses.create(model=model, input="hi").id)

    for number, model, version in (
        *((0, "strong", "strong"), (0, "strong", "strong-2025-04-14"), (2, "weak", "weak")),
    ):
        name = made_elsewhere(servers[number], version)
        before = len(views[number].requests())
        for _ in range(2):  # the second knows it
            answer = ask(gateway, input="short" if number == 0 else LONG, previous_response_id=name)
            assert answer.headers["x-fastroute-model"] == model
        asked = [request.get("method", "POST") for request in views[number].requests()[before:]]
        assert asked == ["GET", "POST", "POST"]


@pytest.mark.parametrize("name", ["../models", "a/b", "", 7, None, {"id": "x"}, "x" * 300])
def test_what_is_no_id_is_not_looked_up(gateway: Gateway, views: list[View], name: Any) -> None:
    assert ask(gateway, input="short", previous_response_id=name).status == 200
    assert [r.get("method") for view in views for r in view.requests()] == [None]
