"""What a gateway says that cascades cost and save is what its providers bill."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import openai_billed
from fakes.gateway import Gateway
from fakes.planned import Server, View
from gateway.cascade_models import ASKED, PRICES, ask, start, start_models, views
from gateway.test_books import saved_usd, spent_usd

#: Answers of equally many words are equal.
CASCADE = 'helpers = ["helper", "other"]\npattern = "\\\\w+"'
QUIET = "retries = 0\nbreaker_failures = 0"


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Server]]:
    with start_models(openai_billed) as models:
        yield models


@pytest.fixture
def models(running: dict[str, Server]) -> dict[str, View]:
    return views(running)


def plan(models: dict[str, View], **answers: dict[str, Any] | int) -> None:
    """``answers``: how many words a model says, or its plan."""
    for name, answer in answers.items():
        said = {"kind": "usual", "words": answer} if isinstance(answer, int) else answer
        models[name].plan(said)


def dollars(model: str, usage: dict[str, Any]) -> float:
    input_usd, output_usd = PRICES[model]
    tokens = usage["prompt_tokens"], usage["completion_tokens"]
    return (tokens[0] * input_usd + tokens[1] * output_usd) / 1e6


def bill_usd(models: dict[str, View]) -> dict[str, float]:
    """The bill of each provider, by its own count."""
    return {
        name: sum(dollars(name, r["billed"]) for r in model.requests() if "billed" in r)
        for name, model in models.items()
    }


def as_strong(models: dict[str, View], name: str) -> float:
    """What the strong model would have cost for the last answer of ``name``."""
    return dollars("strong", models[name].requests()[-1]["billed"])


def all_billed(gateway: Gateway, models: dict[str, View]) -> None:
    gateway.wait_for(
        lambda: all("billed" in r for model in models.values() for r in model.requests())
    )


def overspent_usd(gateway: Gateway) -> float:
    metrics = gateway.ask("GET", "/metrics").body.decode()
    name = 'fastroute_overspent_dollars_total{router="evidence"} '
    return sum(float(x.split()[-1]) for x in metrics.splitlines() if x.startswith(name))


def line_of(gateway: Gateway, count: int) -> dict[str, Any]:
    found: dict[str, Any] = gateway.wait_for(lambda: gateway.events("request")[count - 1 :])[0]
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_agreement_saves_what_the_strong_model_would_cost(
    running: dict[str, Server], models: dict[str, View], tmp_path: Path, stream: bool
) -> None:
    with start(tmp_path, running, CASCADE, QUIET) as gateway:
        late = {"kind": "stall", "seconds": 0.2, "words": 50}  # when the third call has arrived
        plan(models, weak=late, helper=late, other=late | {"seconds": 0.6})
        answer = ask(gateway, stream=stream)
        assert answer.headers["x-fastroute-evidence"] == "agree 2/2"
        all_billed(gateway, models)
        bill = bill_usd(models)
        by_count, by_estimate = spent_usd(gateway)
        assert by_count == pytest.approx(bill["weak"] + bill["helper"])
        # A provider bills what it writes for a client that left; it is as long as the answer.
        assert by_estimate == pytest.approx(bill["other"], rel=0.05)
        line = line_of(gateway, 1)
        assert line["cost_usd"] == pytest.approx(by_count + by_estimate)
        assert line["saved_usd"] == pytest.approx(as_strong(models, "weak") - line["cost_usd"])
        assert saved_usd(gateway) == pytest.approx(line["saved_usd"])
        costs = {call["model"]: call["cost_usd"] for call in line["calls"]}
        assert costs == pytest.approx(bill, rel=0.05, abs=1e-9) or "strong" not in costs
        assert {c["model"] for c in line["calls"] if c.get("tokens_are_estimates")} == {"other"}


def test_escalations_pay_for_the_cheap_answers_too(
    running: dict[str, Server], models: dict[str, View], tmp_path: Path
) -> None:
    with start(tmp_path, running, CASCADE, QUIET) as gateway:
        plan(models, weak=50, helper=60, other=70, strong=80)
        answer = ask(gateway)
        assert answer.headers["x-fastroute-evidence"] == "disagree 1/3"
        plan(models, weak=50, helper=60, other=70)
        streamed = ask(gateway, stream=True, stream_options={"include_usage": True})
        assert streamed.headers["x-fastroute-model"] == "strong"
        bill = bill_usd(models)
        assert spent_usd(gateway) == (pytest.approx(sum(bill.values())), 0.0)
        cheap = sum(bill[name] for name in ("weak", "helper", "other"))
        assert overspent_usd(gateway) == pytest.approx(cheap)
        assert saved_usd(gateway) == pytest.approx(-cheap)  # a loss is no saving of 0
        lines = [line_of(gateway, number) for number in (1, 2)]
        assert sum(line["cost_usd"] for line in lines) == pytest.approx(sum(bill.values()))
        assert sum(line["saved_usd"] for line in lines) == pytest.approx(-cheap)
        # Agreement afterwards makes up for it.
        late = {"kind": "stall", "seconds": 0.2, "words": 500}
        plan(models, weak=late, helper=late, other=late | {"seconds": 0.6})
        ask(gateway)
        all_billed(gateway, models)
        after = bill_usd(models)
        spent = sum(after.values()) - sum(bill.values())
        expected = as_strong(models, "weak") - spent - cheap
        assert saved_usd(gateway) == pytest.approx(expected, rel=5e-3)


def test_the_headers_have_tokens_and_dollars_of_every_call(
    running: dict[str, Server], models: dict[str, View], tmp_path: Path
) -> None:
    with start(tmp_path, running, 'helpers = ["helper"]\npattern = "\\\\w+"', QUIET) as gateway:
        plan(models, weak=50, helper=50)
        answer = ask(gateway)
        used = models["helper"].requests()[0]["billed"]
        cost = f"{dollars('helper', used):.9f}".rstrip("0")
        said = answer.headers["x-fastroute-call"]  # the last of them
        assert said.startswith("helper; outcome=agreed; seconds=")
        tokens = f"input_tokens={used['prompt_tokens']}; output_tokens=50; cost_usd={cost}"
        assert said.endswith(tokens)
        plan(models, weak=50, helper=60, strong=70)
        said = ask(gateway).headers["x-fastroute-call"]
        assert said.startswith("strong; outcome=sent; seconds=")
        used = models["strong"].requests()[0]["billed"]
        assert f"input_tokens={used['prompt_tokens']}; output_tokens=70; cost_usd=" in said
        plan(models, weak=50, helper=60)
        said = ask(gateway, stream=True).headers["x-fastroute-call"]
        assert said.startswith("strong; outcome=sent; seconds=")
        assert "tokens" not in said  # it is still coming


def test_a_client_that_left_is_booked(
    running: dict[str, Server], models: dict[str, View], tmp_path: Path
) -> None:
    with start(tmp_path, running, CASCADE, QUIET) as gateway:
        slow = {"kind": "stall", "seconds": 1.0, "words": 50}
        plan(models, weak=50, helper=slow, other=slow)
        connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=30)
        body = {"model": "cascade", "messages": ASKED}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        gateway.wait_for(lambda: all(models[n].requests() for n in ("weak", "helper", "other")))
        gateway.wait_for(lambda: "billed" in models["weak"].requests()[0])
        # The answer of the weak model is here; then the client leaves.
        gateway.wait_for(lambda: gateway.ask("GET", "/ui/stats").json()["in_flight"] == 1)
        connection.close()
        line = line_of(gateway, 1)
        assert line["error"] == "client_left"
        all_billed(gateway, {name: models[name] for name in ("weak", "helper", "other")})
        assert [call["outcome"] for call in line["calls"]] == ["not_sent", *["cancelled"] * 2]
        by_count, by_estimate = spent_usd(gateway)
        bill = bill_usd(models)
        assert by_count == pytest.approx(bill["weak"])
        assert by_estimate == pytest.approx(bill["helper"] + bill["other"], rel=0.05)
        assert saved_usd(gateway) == 0.0


def test_a_failed_strong_model_saves_nothing(
    running: dict[str, Server], models: dict[str, View], tmp_path: Path
) -> None:
    with start(tmp_path, running, CASCADE, QUIET) as gateway:
        plan(models, weak=50, helper=60, other=70, strong={"kind": "status", "status": 503})
        assert ask(gateway).headers["x-fastroute-evidence"] == "failed 1/3"
        assert spent_usd(gateway) == (pytest.approx(sum(bill_usd(models).values())), 0.0)
        assert saved_usd(gateway) == overspent_usd(gateway) == 0.0


def test_a_retried_helper_is_billed_for_each_answer(
    running: dict[str, Server], models: dict[str, View], tmp_path: Path
) -> None:
    hedge = 'retries = 0\nredundancy = "delayed"\nredundancy_delay_s = 0.2\nredundancy_budget = 1.0'
    with start(tmp_path, running, 'helpers = ["helper"]\npattern = "\\\\w+"', hedge) as gateway:
        plan(models, weak=50)
        models["helper"].plan(
            {"kind": "stall", "seconds": 1.0, "words": 50}, {"kind": "usual", "words": 50}
        )
        assert ask(gateway).headers["x-fastroute-evidence"] == "agree 2/2"
        all_billed(gateway, models)
        assert len(models["helper"].requests()) == 2
        assert sum(spent_usd(gateway)) == pytest.approx(sum(bill_usd(models).values()))
        outcomes = [call["outcome"] for call in line_of(gateway, 1)["calls"]]
        assert outcomes == ["sent", "agreed", "repeated"]
