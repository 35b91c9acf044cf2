"""The controller's decisions and calls, without a network."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from fastroute import Controller, Decision, Endpoint, RoutingError
from fastroute.chat import ChatStream
from fastroute.errors import (
    InvalidInputError,
    InvalidModelNameError,
    InvalidPromptError,
    InvalidThresholdError,
    InvalidTypeError,
    UnknownRouterError,
)
from fastroute.http import MockTransport
from fastroute.routers import LengthRouter, RandomRouter, Router
from fastroute.types import Float64Array, ModelPair

LONG = "x" * 900  # win rate 0.75 for half_length 300
SHORT = "x" * 100  # 0.25


def make(*routers: Any, **arguments: Any) -> Controller:
    arguments = {"strong_model": "big", "weak_model": "small"} | arguments
    return Controller(list(routers) or ["length"], **arguments)


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


class FixedRouter(Router):
    """One win rate for all."""

    name = "my-router"

    def __init__(self, rate: float = 0.6, job: Callable[[], object] = lambda: None) -> None:
        self.rate = rate
        self.job = job

    def win_rate(self, prompt: str) -> float:  # noqa: ARG002 - whatever it is
        self.job()
        return self.rate

    def win_rates(self, prompts: Sequence[str]) -> Float64Array:
        return np.full(len(prompts), self.rate)


# Decisions


def test_a_decision_says_where_and_why() -> None:
    decision = make().decide(LONG, router="length", threshold=0.5)
    assert isinstance(decision, Decision)
    assert decision[:5] == ("big", "length", 0.75, 0.5, True)
    assert 0 < decision.latency_us < 1e6
    assert make().decide(SHORT, "length", 0.5)[:5] == ("small", "length", 0.25, 0.5, False)


def test_route_is_the_model_of_the_decision() -> None:
    client = make()
    assert client.route(LONG, router="length", threshold=0.75) == "big"
    assert client.route(LONG, router="length", threshold=0.7500001) == "small"
    assert client.model_counts == {}  # calls are counted, decisions are not


def test_latency_includes_the_router() -> None:
    gate = threading.Event()
    decision = make(FixedRouter(job=lambda: gate.wait(0.05))).decide("x", "my-router", 0.5)
    assert decision.latency_us > 45_000


def test_a_batch_is_its_single_decisions() -> None:
    client = make()
    prompts = [LONG, SHORT, "", LONG]
    batch = client.decide_batch(prompts, "length", 0.5)
    assert batch.models == [client.route(p, "length", 0.5) for p in prompts]
    assert batch.win_rates.dtype == np.float64
    assert batch.win_rates.tolist() == [0.75, 0.25, 0.0, 0.75]
    assert batch.strong_share == 0.5
    assert len(client.decide_batch([], "length", 0.5)) == 0


class Series:
    """As much of a pandas Series as matters: iteration and tolist."""

    def __init__(self, values: list[str]) -> None:
        self.values = values

    def tolist(self) -> list[str]:
        return self.values


@pytest.mark.parametrize(
    "wrap", [list, tuple, np.array, Series, lambda p: np.array(p, dtype=object), iter]
)
@pytest.mark.parametrize("progress_bar", [False, True])
def test_win_rates_of_lists_arrays_and_series(wrap: Any, progress_bar: bool) -> None:
    client = make(progress_bar=progress_bar)
    rates = client.batch_calculate_win_rate(wrap([SHORT, LONG] * 1500), "length")
    assert rates.dtype == np.float64
    assert rates.tolist() == [0.25, 0.75] * 1500


def test_a_lone_string_is_no_batch() -> None:
    for progress_bar in (False, True):
        with pytest.raises(InvalidTypeError, match="one string"):
            make(progress_bar=progress_bar).batch_calculate_win_rate("hello", "length")


@pytest.mark.parametrize("call", ["decide", "route", "decide_batch"])
def test_bad_routers_and_thresholds(call: str) -> None:
    client = make("length", "random")
    prompt: Any = ["x"] if call == "decide_batch" else "x"
    with pytest.raises(UnknownRouterError, match=r"'mf' is not loaded.*routers: length, random"):
        getattr(client, call)(prompt, "mf", 0.5)
    for router in ("", [], 5):
        with pytest.raises(UnknownRouterError):
            getattr(client, call)(prompt, router, 0.5)
    for threshold in (1.5, float("nan"), "0.5", [0.5]):
        with pytest.raises(InvalidThresholdError):
            getattr(client, call)(prompt, "length", threshold)


def test_prompts_that_are_no_text() -> None:
    for prompt in (None, 5, ["x"], b"x"):
        with pytest.raises(InvalidTypeError, match="prompt must be a str"):
            make().decide(prompt, "length", 0.5)  # type: ignore[arg-type]  # the point


def test_a_broken_router_does_not_route() -> None:
    client = make(FixedRouter(float("nan")))
    with pytest.raises(InvalidInputError, match="fix the router"):
        client.decide("x", "my-router", 0.5)
    with pytest.raises(InvalidInputError, match="fix the router"):
        client.decide_batch(["x"], "my-router", 0.5)


# Making one


def test_routers_by_name_with_config_or_ready_made() -> None:
    mine = FixedRouter()
    config = {"length": {"half_length": 10.0}, "bert": {"checkpoint_path": "x"}}
    client = make("length", mine, "random", config=config)
    assert list(client.routers) == ["length", "my-router", "random"]
    assert client.routers["my-router"] is mine
    assert isinstance(client.routers["length"], LengthRouter)
    assert client.routers["length"].half_length == 10.0
    assert isinstance(client.routers["random"], RandomRouter)
    assert client.model_pair == ModelPair(strong="big", weak="small")


def test_the_positions_are_routellms() -> None:
    config = {"random": {"seed": 7}}
    client = Controller(["random"], "big", "small", config, "http://x/v1", "sk-secret", False)
    assert client.route("x", "random", 0.0) == "big"
    assert client.decide("x", "random", 0).win_rate == RandomRouter(7).win_rates(["", ""])[1]
    assert "sk-secret" not in repr(client)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"routers": "mf"}, InvalidTypeError, r'such as \["mf"\]'),
        ({"routers": []}, InvalidTypeError, "routers must be a list"),
        ({"routers": LengthRouter()}, InvalidTypeError, "routers must be a list"),
        ({"routers": ["nonesuch"]}, UnknownRouterError, "unknown router 'nonesuch'"),
        ({"routers": [None]}, InvalidTypeError, "routers must hold names and routers, got None"),
        ({"routers": [["mf"]]}, InvalidTypeError, "routers must hold names and routers"),
        ({"routers": ["length", LengthRouter()]}, InvalidInputError, "'length' twice"),
        ({"strong_model": ""}, InvalidInputError, "strong_model must be a model's name"),
        ({"weak_model": None}, InvalidInputError, "weak_model must be a model's name"),
        ({"config": {"lenght": {}}}, UnknownRouterError, "'lenght'.*unknown router"),
        ({"config": "config.yaml"}, InvalidTypeError, "yaml.safe_load"),
        ({"config": {"length": 5}}, InvalidTypeError, "config must be a dict"),
        ({"config": {"length": {"no": 1}}}, InvalidInputError, "config of router 'length'"),
        (
            {"routers": [LengthRouter()], "config": {"length": {}}},
            InvalidInputError,
            "has no effect",
        ),
        ({"api_base": "localhost"}, InvalidInputError, "base_url must start with http"),
        ({"api_key": "a b"}, InvalidInputError, "api_key"),
        ({"endpoints": [1]}, InvalidTypeError, "endpoints must be a dict"),
        ({"endpoints": {"big": "http://x"}}, InvalidTypeError, "must be an Endpoint, got str"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        Controller(**({"routers": ["length"], "strong_model": "b", "weak_model": "s"} | arguments))


# Calls


def test_a_call_goes_to_the_chosen_model_and_says_why() -> None:
    transport = MockTransport("hello there")
    client = make(transport=transport)
    response = client.chat.completions.create(model="router-length-0.5", messages=user(LONG))
    assert response.choices[0].message.content == "hello there"
    assert response.model == "big"
    assert response.fastroute[:5] == ("big", "length", 0.75, 0.5, True)
    assert "fastroute" not in response.model_dump()
    response = client.completion(router="length", threshold=0.5, messages=user(SHORT))
    assert response.model == "small"
    assert [r.json()["model"] for r in transport.requests] == ["big", "small"]
    assert client.model_counts["length"] == {"big": 1, "small": 1}


def test_only_the_model_is_replaced() -> None:
    transport = MockTransport()
    body: dict[str, Any] = {
        "temperature": 0,
        "model": "router-length-0.5",
        "messages": [{"role": "system", "content": "é"}, *user([{"type": "text", "text": "日本"}])],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"x": None}}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_schema", "json_schema": {"strict": True}},
        "stream_options": {"include_usage": True},
        "reasoning_effort": "low",
        "max_completion_tokens": 5,
        "parallel_tool_calls": False,
        "x_future": [1.5, None, {"deep": "\u2028"}],
    }
    original = json.dumps(body)
    make(transport=transport).completion(**body)
    sent = json.dumps(body | {"model": "small"}, ensure_ascii=False, separators=(",", ":"))
    assert transport.requests[0].body.decode() == sent
    assert json.dumps(body) == original  # the caller's own are untouched
    # Without a model string, the model comes first.
    make(transport=transport).completion(router="length", threshold=0, messages=user("x"))
    assert list(transport.requests[1].json()) == ["model", "messages"]


def test_a_plain_model_name_is_sent_on_as_it_is() -> None:
    transport = MockTransport()
    client = make(transport=transport, endpoints={"other-1": Endpoint("http://other/v1")})
    messages = [{"role": "tool", "content": "no user here"}]
    response = client.completion(model="other-1", messages=messages)
    assert response.model == "other-1"
    assert response.fastroute is None
    assert transport.requests[0].endpoint.base_url == "http://other/v1"
    assert client.model_counts == {}


def test_endpoints_by_model() -> None:
    transport = MockTransport()
    own = Endpoint("http://small/v1")
    client = make(
        transport=transport, api_base="http://all/v1", api_key="k", endpoints={"small": own}
    )
    client.completion(model="router-length-0", messages=user("x"))
    client.completion(model="router-length-1", messages=user("x"))
    client.completion(model="plain", messages=user("x"))
    shared = Endpoint("http://all/v1", api_key="k")
    assert [r.endpoint for r in transport.requests] == [shared, own, shared]


def test_arguments_that_are_not_of_the_body() -> None:
    transport = MockTransport()
    make(transport=transport).completion(
        model="router-length-0.5",
        messages=user("x"),
        timeout=3,
        extra_headers={"X-A": "1"},
        extra_body={"top_k": 5, "messages": user(LONG)},
    )
    (request,) = transport.requests
    assert request.timeout_s == 3.0
    assert request.headers == {"X-A": "1"}
    assert request.json() == {"model": "big", "messages": user(LONG), "top_k": 5}


def test_a_stream_says_why_too() -> None:
    client = make(transport=MockTransport("a b"))
    stream = client.completion(model="router-length-0.5", messages=user("x"), stream=True)
    assert isinstance(stream, ChatStream)
    assert stream.fastroute is not None
    assert stream.fastroute.model == "small"
    assert "".join(c.choices[0].delta.content or "" for c in stream) == "a b"


def test_a_call_takes_the_default_threshold_or_a_share() -> None:
    transport = MockTransport()
    client = make("random", "length", transport=transport)
    for arguments, threshold in (
        ({"router": "length"}, 0.5),
        ({"router": "random", "strong_share": 0.2}, 0.8),
        ({"router": "random", "strong_share": None, "threshold": None}, 0.5),
    ):
        decision = client.completion(messages=user("x"), **arguments).fastroute
        assert decision is not None
        assert decision.threshold == pytest.approx(threshold)
        assert decision.router == arguments["router"]
        assert set(transport.requests[-1].json()) == {"model", "messages"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"router": "length", "strong_share": 0.5}, "'length' is not calibrated"),
        ({"router": "random", "strong_share": 2}, "share must be a number from 0 to 1"),
        ({"router": "random", "strong_share": 0.5, "threshold": 0.5}, "not both"),
    ],
)
def test_shares_that_a_call_can_not_have(arguments: dict[str, Any], message: str) -> None:
    client = make("length", "random", transport=MockTransport())
    with pytest.raises(InvalidInputError, match=message):
        client.completion(messages=user("x"), **arguments)
    with pytest.raises(InvalidInputError, match=message):
        client.decide("x", **arguments)
    with pytest.raises(InvalidInputError, match=message):
        client.decide_batch(["x"], **arguments)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, RoutingError),
        ({"strong_share": 0.5}, RoutingError),
        ({"model": "router-random-0.5", "strong_share": 0.5}, InvalidModelNameError),
        ({"model": "gpt", "strong_share": 0.5}, InvalidModelNameError),
        ({"threshold": 0.5}, RoutingError),
        ({"router": "mf", "threshold": 0.5}, UnknownRouterError),
        ({"router": "length", "threshold": 2}, InvalidThresholdError),
        ({"model": "router-mf-0.5"}, UnknownRouterError),
        ({"model": "router-length-1.5"}, InvalidThresholdError),
        ({"model": "router-length"}, InvalidModelNameError),
        ({"model": 5}, InvalidModelNameError),
        ({"model": "router-length-0.5", "router": "random"}, InvalidModelNameError),
        ({"model": "router-length-0.5", "threshold": 0.6}, InvalidModelNameError),
        ({"model": "gpt-4", "router": "length", "threshold": 0.5}, InvalidModelNameError),
        ({"model": "router-length-0.5", "messages": []}, InvalidPromptError),
        ({"model": "router-length-0.5", "messages": "hi"}, InvalidPromptError),
        ({"model": "router-length-0.5", "messages": [{"content": "x"}]}, InvalidPromptError),
    ],
)
def test_what_cannot_be_routed(arguments: dict[str, Any], error: type[Exception]) -> None:
    transport = MockTransport()
    client = make("length", "random", transport=transport)
    arguments = {"messages": user("x")} | arguments
    with pytest.raises(error) as caught:
        client.completion(**arguments)
    assert isinstance(caught.value, RoutingError)
    with pytest.raises(error):
        asyncio.run(client.acompletion(**arguments))
    assert transport.requests == []
    assert client.model_counts == {}


def test_without_messages_there_is_nothing_to_route_on() -> None:
    with pytest.raises(InvalidPromptError, match="no messages to route"):
        make(transport=MockTransport()).completion(model="router-length-0.5")


def test_a_router_string_and_keywords_that_agree() -> None:
    client = make(transport=MockTransport())
    response = client.completion(
        model="router-length-0.5", router="length", threshold=0.5, messages=user("x")
    )
    assert response.model == "small"


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, "\ud800"])
def test_what_json_cannot_say(value: Any) -> None:
    client = make(transport=MockTransport())
    for model in ("m", "router-length-0.5"):
        with pytest.raises(InvalidInputError, match="can't be sent as JSON"):
            client.completion(model=model, messages=user("x"), x=value)
    assert client.model_counts == {}


def test_options_are_checked() -> None:
    client = make(transport=MockTransport())
    for arguments in (
        {"timeout": -1},
        {"timeout": "5"},
        {"extra_headers": 5},
        {"extra_headers": {"X-A": 1}},
        {"extra_headers": {"X-A": "é"}},
        {"extra_headers": {"X-A": "a\r\nX-B: b"}},
        {"extra_headers": {"": "a"}},
        {"extra_body": [1]},
    ):
        with pytest.raises(InvalidInputError, match=next(iter(arguments))):
            client.completion(model="m", messages=user("x"), **arguments)


# Threads and event loops


def test_counts_are_exact_under_threads() -> None:
    client = make("length", FixedRouter(), transport=MockTransport())

    def ask(i: int) -> None:
        router = ("length", "my-router")[i % 2]
        client.completion(model=f"router-{router}-0.5", messages=user((LONG, SHORT)[i % 4 // 2]))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # else threads hardly ever meet
    try:
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(ask, range(2000)))
    finally:
        sys.setswitchinterval(before)
    assert client.model_counts["length"] == {"big": 500, "small": 500}
    assert client.model_counts["my-router"] == {"big": 1000}


def test_scoring_never_blocks_the_event_loop() -> None:
    free = threading.Event()
    waited: list[bool] = []
    # The router is done only when the loop says so: a blocked loop never would.
    router = FixedRouter(job=lambda: waited.append(free.wait(20)))

    async def go() -> Any:
        client = make(router, transport=MockTransport("done"))
        call = client.chat.completions.acreate(model="router-my-router-0.5", messages=user("x"))
        task = asyncio.create_task(call)
        for _ in range(50):  # the loop ticks on
            await asyncio.sleep(0.001)
        assert not task.done()
        free.set()
        answer = await task
        await client.aclose()
        return answer

    assert asyncio.run(go()).choices[0].message.content == "done"
    assert waited == [True]


def test_async_calls_and_streams() -> None:
    async def go() -> None:
        async with make(transport=MockTransport("a b")) as client:
            answers = await asyncio.gather(
                *(
                    client.acompletion(model="router-length-0.5", messages=user(prompt))
                    for prompt in [LONG, SHORT] * 20
                )
            )
            assert [a.model for a in answers] == ["big", "small"] * 20
            stream = await client.acompletion(
                model="router-length-0.5", messages=user(LONG), stream=True
            )
            assert stream.fastroute is not None
            assert stream.fastroute.model == "big"
            chunks = [chunk async for chunk in stream]
            assert "".join(c.choices[0].delta.content or "" for c in chunks) == "a b"
            assert client.model_counts["length"] == {"big": 21, "small": 20}

    asyncio.run(go())


def test_no_http_client_is_even_imported_before_it_is_needed() -> None:
    code = """if True:
        import sys
        from fastroute import Controller, Endpoint
        from fastroute.http import MockTransport
        arguments = {"strong_model": "b", "weak_model": "s", "api_base": "http://x/v1"}
        client = Controller(["length"], endpoints={"b": Endpoint()}, **arguments)
        client.route("x", "length", 0.5)
        client.close()
        client = Controller(["length"], transport=MockTransport(), **arguments)
        client.completion(model="m", messages=[])
        assert not {"httpx2", "tqdm"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_given_transport_stays_open() -> None:
    transport = MockTransport()
    with make(transport=transport) as client:
        client.completion(model="m", messages=user("x"))
    client.completion(model="m", messages=user("x"))
    asyncio.run(client.aclose())
    assert transport.send(transport.requests[0]).status_code == 200


@pytest.mark.parametrize("rate", [None, "x", float("nan"), 1.5, np.array([0.5, 0.5])])
def test_a_router_that_returns_no_win_rate_is_named(rate: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"win_rate must be a number in 0..1, got"):
        make(FixedRouter(rate)).decide("hello", "my-router", 0.5)


def test_win_rates_of_numpy_become_floats() -> None:
    decision = make(FixedRouter(np.float32(0.75))).decide("hello", "my-router", 0.5)
    assert type(decision.win_rate) is float
    assert decision.strong is True


def test_a_router_without_a_name_and_a_transport_that_is_none_are_refused() -> None:
    router = FixedRouter()
    router.name = 5  # type: ignore[misc, assignment]
    with pytest.raises(InvalidTypeError, match="must have a name"):
        make(router)
    with pytest.raises(InvalidTypeError, match="transport must be a Transport"):
        make("length", transport=5)


def test_extra_body_can_not_pass_by_the_router() -> None:
    transport = MockTransport()
    client = make("length", transport=transport)
    with pytest.raises(InvalidModelNameError, match="extra_body has model='other'"):
        client.completion(
            model="router-length-0.5", messages=user("hi"), extra_body={"model": "other"}
        )
    assert not transport.requests


def test_a_router_that_raises_stop_iteration_does_not_hang_the_event_loop() -> None:
    def stop() -> None:
        raise StopIteration

    client = make(FixedRouter(job=stop), transport=MockTransport())
    call = client.acompletion(model="router-my-router-0.5", messages=user("hi"))
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(call, timeout=20))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_with_threads_and_connections_of_its_own() -> None:
    code = """
import asyncio, os, signal, warnings
from fastroute import Controller
from fastroute.http import MockTransport

client = Controller(["length"], "big", "small", transport=MockTransport("hello"))
call = dict(model="router-length-0.5", messages=[{"role": "user", "content": "hi"}])
assert asyncio.run(client.acompletion(**call)).model == "small"
client._counting._lock.acquire()
client._threads._lock.acquire()
client._transports._lock._lock.acquire()  # as if another thread held it at the fork
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads here
    child = os.fork()
if child == 0:
    signal.alarm(20)
    assert asyncio.run(client.acompletion(**call)).model == "small"
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
