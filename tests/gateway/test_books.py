"""What the page and the metrics show is what the provider's bill says."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fakes import gateway as gateways
from fakes import planned
from fakes.gateway import Gateway
from fakes.planned import View

PRICES = {"strong": (10.0, 2.5, 30.0), "weak": (1.0, 0.25, 2.0)}
CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
[routing.session_affinity]
by = "none"
[endpoint]
base_url = "{base_url}"
[resilience]
{resilience}
[models.strong]
input_usd_per_mtok = 10.0
cached_input_usd_per_mtok = 2.5
output_usd_per_mtok = 30.0
[models.weak]
input_usd_per_mtok = 1.0
cached_input_usd_per_mtok = 0.25
output_usd_per_mtok = 2.0
"""
SHORT = "a question"
LONG = "a long question " * 40


@contextmanager
def start(folder: Path, provider: View, resilience: str = "retries = 0") -> Iterator[Gateway]:
    text = CONFIG.format(base_url=provider.base_url, resilience=resilience)
    with gateways.start("--config", gateways.write_config(folder, text)) as gateway:
        yield gateway


def body_of(prompt: str, model: str = "router-length-0.5", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": prompt}], **more}


def ask(gateway: Gateway, prompt: str, **more: Any) -> Any:
    answer = gateway.ask("POST", "/v1/chat/completions", body_of(prompt, **more))
    assert answer.status == 200, answer.body
    return answer


def bill_usd(provider: View) -> float:
    """The bill, by the provider's own count."""
    total = 0.0
    for request in provider.requests():
        usage = request.get("billed")
        if usage:
            full, cached, output = PRICES[request["model"]]
            read = usage["prompt_tokens_details"]["cached_tokens"]
            total += (usage["prompt_tokens"] - read) * full + read * cached
            total += usage["completion_tokens"] * output
    return total / 1e6


def spent_usd(gateway: Gateway) -> tuple[float, float]:
    """Dollars by the provider's counts, and by estimates, as the metrics have them."""
    found = {"provider": 0.0, "estimate": 0.0}
    metrics = gateway.ask("GET", "/metrics").body.decode()
    pattern = r'^fastroute_spent_dollars_total\{model="\w+",source="(\w+)"\} (\S+)$'
    for source, value in re.findall(pattern, metrics, re.MULTILINE):
        found[source] += float(value)
    stats = gateway.ask("GET", "/ui/stats").json()
    assert stats["spent_usd"] == pytest.approx(sum(found.values()))
    assert stats["estimated_usd"] == pytest.approx(found["estimate"])
    return found["provider"], found["estimate"]


def saved_usd(gateway: Gateway) -> float:
    saved: float = gateway.ask("GET", "/ui/stats").json()["saved_usd"]
    return saved


def test_answers_of_every_form_are_booked_as_billed(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider) as gateway:
        provider.plan({"kind": "usual", "usage_first": True, "words": 100_000})
        ask(gateway, SHORT)  # its usage is 400,000 bytes before its end
        ask(gateway, LONG)
        ask(gateway, f"{SHORT} CACHED " + "x" * 400, model="strong")
        ask(gateway, SHORT, stream=True, stream_options={"include_usage": True})
        by_count, by_estimate = spent_usd(gateway)
        assert by_count == pytest.approx(bill_usd(provider))
        assert by_estimate == 0.0
        gateway.wait_for(lambda: len(gateway.events("request")) == 4)
        lines = gateway.events("request")
        assert sum(line["cost_usd"] for line in lines) == pytest.approx(by_count)
        assert not any("tokens_are_estimates" in line for line in lines)


def test_a_stream_without_usage_is_estimated_and_says_so(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider) as gateway:
        ask(gateway, LONG, stream=True)
        by_count, by_estimate = spent_usd(gateway)
        assert by_count == 0.0
        assert by_estimate == pytest.approx(bill_usd(provider), rel=0.02)
        line = gateway.wait_for(lambda: gateway.events("request"))[-1]
        assert line["tokens_are_estimates"] is True


def test_a_stream_that_the_client_left_is_booked(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider) as gateway:
        provider.plan({"kind": "usual", "words": 2000, "seconds": 0.005})
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        sent = json.dumps(body_of(LONG, stream=True))
        connection.request("POST", "/v1/chat/completions", sent)
        answer = connection.getresponse()
        received = b""
        while received.count(b"\n\n") < 200:
            received += answer.read1()
        answer.close()
        connection.close()
        line = gateway.wait_for(lambda: gateway.events("request"))[-1]
        assert (line["error"], line["tokens_are_estimates"]) == ("client_left", True)
        assert 200 <= line["output_tokens"] < 2000
        # The provider wrote a little more until it noticed.
        assert spent_usd(gateway)[1] == pytest.approx(bill_usd(provider), rel=0.1)
        assert spent_usd(gateway)[0] == 0.0


def test_a_client_that_left_before_the_answer_is_booked(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider) as gateway:
        provider.plan({"kind": "usual", "before_s": 5})
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        sent = json.dumps(body_of(LONG, stream=True))
        connection.request("POST", "/v1/chat/completions", sent)
        gateway.wait_for(provider.requests)
        connection.close()
        line = gateway.wait_for(lambda: gateway.events("request"))[-1]
        tokens = -(-len(provider.requests()[0]["raw"]) // 4)
        assert line["output_tokens"] == 0
        assert spent_usd(gateway) == (0.0, pytest.approx(tokens * 10.0 / 1e6))


@pytest.mark.parametrize("mode", ["delayed", "relaunch"])
def test_a_hedged_request_is_two_calls(tmp_path: Path, provider: View, mode: str) -> None:
    hedge = f'retries = 0\nredundancy = "{mode}"\nredundancy_delay_s = 0.2\nredundancy_budget = 1.0'
    with start(tmp_path, provider, hedge) as gateway:
        provider.plan({"kind": "stall", "seconds": 1.0})
        ask(gateway, SHORT)
        gateway.wait_for(lambda: all("billed" in r for r in provider.requests()))
        assert len(provider.requests()) == 2
        by_count, by_estimate = spent_usd(gateway)
        assert by_count + by_estimate == pytest.approx(bill_usd(provider))
        assert by_count == pytest.approx(by_estimate)
        # The strong model would have been asked once.
        usage = provider.requests()[0]["billed"]
        strong = (usage["prompt_tokens"] * 10.0 + usage["completion_tokens"] * 30.0) / 1e6
        assert saved_usd(gateway) == pytest.approx(strong - bill_usd(provider))


def test_retries_that_were_refused_cost_nothing(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider, "retries = 2\nretry_budget = 1.0") as gateway:
        provider.plan({"kind": "status", "status": 503}, {"kind": "reset"})
        ask(gateway, SHORT)
        assert len(provider.requests()) == 3
        assert spent_usd(gateway) == (pytest.approx(bill_usd(provider)), 0.0)


@pytest.mark.parametrize("prompt", [SHORT, LONG])
def test_an_outage_saves_nothing(tmp_path: Path, provider: View, prompt: str) -> None:
    with start(tmp_path, provider, 'retries = 0\nfallback = "both"') as gateway:
        provider.plan({"kind": "status", "status": 503})
        answer = ask(gateway, prompt)
        asked = [request["model"] for request in provider.requests()]
        assert asked == (["strong", "weak"] if prompt == LONG else ["weak", "strong"])
        assert spent_usd(gateway) == (pytest.approx(bill_usd(provider)), 0.0)
        assert saved_usd(gateway) == 0.0
        # The log and the headers name the same model.
        line = gateway.wait_for(lambda: gateway.events("request"))[-1]
        assert line["model"] == answer.headers["x-fastroute-model"] == asked[1]
        assert line["fallback_from"] == answer.headers["x-fastroute-fallback-from"] == asked[0]


def test_a_late_answer_may_be_billed(tmp_path: Path, provider: View) -> None:
    text = CONFIG.format(base_url=provider.base_url, resilience="retries = 0")
    text = text.replace("[resilience]", "first_byte_timeout_s = 0.3\n[resilience]")
    with gateways.start("--config", gateways.write_config(tmp_path, text)) as gateway:
        provider.plan({"kind": "stall", "seconds": 1.0})
        answer = gateway.ask("POST", "/v1/chat/completions", body_of(SHORT))
        assert answer.status == 504
        tokens = -(-len(provider.requests()[0]["raw"]) // 4)
        assert spent_usd(gateway) == (0.0, pytest.approx(tokens * 1.0 / 1e6))


def test_a_count_that_cannot_be_is_refused(tmp_path: Path) -> None:
    with planned.start("fakes.openai_chat") as server, start(tmp_path, View(server)) as gateway:
        counts = [10**400, -5, 1.5, True, "7", float("inf"), [1]]
        for i, count in enumerate(counts):
            usage = {"prompt_tokens": count, "completion_tokens": 2}
            choices = [{"index": 0, "message": {"role": "assistant", "content": "abcd"}}]
            server.plan({"kind": "reply", "body": {"choices": choices, "usage": usage}})
            ask(gateway, SHORT)
            line = gateway.wait_for(lambda i=i: gateway.events("request")[i:])[0]
            assert line["status"] == 200
            assert line["tokens_are_estimates"] is True
            assert line["output_tokens"] == 1
        assert not [text for text in gateway.lines if "Error" in text or "Traceback" in text]
