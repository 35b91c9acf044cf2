"""What clients see when providers fail: a gateway in front of real servers that misbehave."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import gateway as gateways
from fakes import openai_any
from fakes.gateway import Gateway
from fakes.openai_chat import event
from fakes.planned import Server, View

SHORT = [{"role": "user", "content": "short"}]
LONG = [{"role": "user", "content": "a long question " * 20}]

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
router = "length"
[routing.session_affinity]
by = "none"
[resilience]
{resilience}
[models.strong]
base_url = "{strong}"
first_byte_timeout_s = 0.6
[models.weak]
base_url = "{weak}"
[[models.both.endpoints]]
base_url = "{strong}"
model = "first"
[[models.both.endpoints]]
base_url = "{weak}"
model = "second"
"""


@pytest.fixture(scope="module")
def other_server() -> Iterator[Server]:
    with openai_any.start() as server:
        yield server


@pytest.fixture
def other(other_server: Server) -> View:
    return View(other_server)


def start(folder: Path, strong: Any, weak: Any, resilience: str) -> Any:
    text = CONFIG.format(resilience=resilience, strong=strong.base_url, weak=weak.base_url)
    return gateways.start("--config", gateways.write_config(folder, text))


@pytest.fixture(scope="module")
def gateway(
    upstream_server: Server, other_server: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("resilience")
    resilience = 'fallback = "strong_to_weak"\nbreaker_failures = 0\nretry_budget = 1.0'
    with start(folder, upstream_server, other_server, resilience) as running:
        yield running


def post(gateway: Gateway, model: str, messages: Any = SHORT, **fields: Any) -> Any:
    body = {"model": model, "messages": messages, **fields}
    return gateway.ask("POST", "/v1/chat/completions", body)


@pytest.mark.parametrize("plan", [{"kind": "status", "status": 503}, {"kind": "reset"}])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_byte_is_tried_again(
    gateway: Gateway, other: View, plan: Any, stream: bool
) -> None:
    other.plan(plan)
    answer = post(gateway, "weak", stream=stream)
    assert (answer.status, len(other.requests())) == (200, 2)


def test_retry_after_is_waited_for(gateway: Gateway, other: View) -> None:
    other.plan({"kind": "status", "status": 429, "headers": {"Retry-After": "0.7"}})
    began = time.monotonic()
    assert post(gateway, "weak").status == 200
    assert time.monotonic() - began >= 0.7


def test_after_the_first_byte_nothing_is_sent_again(gateway: Gateway, other: View) -> None:
    other.plan({"kind": "events", "raw": event("one "), "end": "reset"})
    with pytest.raises(Exception, match=r"(?i)incomplete|reset|closed"):  # http.client's
        post(gateway, "weak", stream=True)
    assert len(other.requests()) == 1


@pytest.mark.parametrize(
    "plans",
    [
        [{"kind": "status", "status": 500}] * 3,
        [{"kind": "stall", "seconds": 3}],
        [{"kind": "status", "status": 429, "headers": {"Retry-After": "60"}}],
    ],
    ids=["fails", "late", "busy"],
)
def test_the_weak_model_answers_for_the_strong(
    gateway: Gateway, upstream: View, other: View, plans: Any
) -> None:
    upstream.plan(*plans)
    answer = post(gateway, "router-length-0.5", LONG)
    assert answer.status == 200
    assert answer.headers["x-fastroute-model"] == "weak"
    assert answer.headers["x-fastroute-fallback-from"] == "strong"
    assert [request["model"] for request in other.requests()] == ["weak"]
    assert len(upstream.requests()) == len(plans)


def test_a_named_model_has_no_fallback(gateway: Gateway, upstream: View, other: View) -> None:
    upstream.plan(*[{"kind": "status", "status": 500, "message": "down"}] * 3)
    answer = post(gateway, "strong")
    assert (answer.status, answer.json()["error"]["message"]) == (500, "down")
    assert other.requests() == []


def test_the_weak_model_is_not_replaced_where_the_policy_does_not_say_so(
    gateway: Gateway, upstream: View, other: View
) -> None:
    other.plan(*[{"kind": "status", "status": 500}] * 3)
    assert post(gateway, "router-length-0.5").status == 500
    assert upstream.requests() == []


def test_a_late_answer_is_a_504(gateway: Gateway, upstream: View) -> None:
    upstream.plan({"kind": "stall", "seconds": 3})
    answer = post(gateway, "strong")
    assert (answer.status, answer.json()["error"]["code"]) == (504, "provider_timeout")
    assert len(upstream.requests()) == 1


def test_several_endpoints_share_the_load_and_stand_in(
    gateway: Gateway, upstream: View, other: View
) -> None:
    for _ in range(12):
        assert post(gateway, "both").status == 200
    models = [r["model"] for r in upstream.requests()] + [r["model"] for r in other.requests()]
    assert set(models) == {"first", "second"}  # each by its own name for the model
    before = len(other.requests())
    upstream.plan(*[{"kind": "reset"}] * 20)
    for _ in range(8):
        assert post(gateway, "both").status == 200
    assert len(other.requests()) - before == 8


def test_an_endpoint_that_keeps_failing_is_skipped(
    upstream: View, other: View, tmp_path: Path
) -> None:
    resilience = "retries = 0\nbreaker_failures = 3\nbreaker_open_s = 1.0"
    with start(tmp_path, upstream, other, resilience) as gateway:
        other.plan(*[{"kind": "status", "status": 500}] * 3)
        assert [post(gateway, "weak").status for _ in range(3)] == [500] * 3
        refused = post(gateway, "weak")
        assert (refused.status, refused.json()["error"]["code"]) == (503, "provider_unavailable")
        assert int(refused.headers["retry-after"]) >= 1
        assert len(other.requests()) == 3
        gateway.wait_for(lambda: gateway.events("breaker_opened"))
        gateway.wait_for(lambda: post(gateway, "weak").status == 200)
        metrics = gateway.ask("GET", "/metrics").body.decode()
        assert (
            'fastroute_resilience_events_total{event="breaker_opened",model="weak"} 1.0' in metrics
        )


def test_delayed_redundancy_hides_a_stall(upstream: View, other: View, tmp_path: Path) -> None:
    resilience = 'redundancy = "delayed"\nredundancy_delay_s = 0.2\nredundancy_budget = 0.5'
    with start(tmp_path, upstream, other, resilience) as gateway:
        other.plan({"kind": "stall", "seconds": 4})
        began = time.monotonic()
        assert post(gateway, "weak").status == 200
        assert time.monotonic() - began < 3.5
        assert len(other.requests()) == 2


def test_a_provider_that_is_not_there_is_a_502(tmp_path: Path, upstream: View) -> None:
    class Nowhere:
        base_url = "http://127.0.0.1:9/v1"

    with start(tmp_path, Nowhere(), upstream, "retries = 1") as gateway:
        answer = post(gateway, "strong")
        assert (answer.status, answer.json()["error"]["code"]) == (502, "provider_unreachable")
        assert "127.0.0.1" not in answer.body.decode()


def test_the_total_time_is_limited(upstream: View, other: View, tmp_path: Path) -> None:
    with start(tmp_path, upstream, other, "total_timeout_s = 0.5") as gateway:
        other.plan({"kind": "stall", "seconds": 4}, {"kind": "endless", "seconds": 0.1})
        assert post(gateway, "weak").status == 504
        with pytest.raises(Exception, match=r"(?i)incomplete|closed"):  # http.client's
            post(gateway, "weak", stream=True)
