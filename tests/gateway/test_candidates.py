"""``model="fastroute"`` among many candidates: real gateways before servers in other processes."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

import fastroute.gateway
from fakes import anthropic_messages, openai_any, openai_billed, redis, replicas
from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.planned import Server, View
from fastroute.candidates.candidate import FIELDS
from fastroute.errors import ConfigError
from fastroute.gateway.config.settings import load_config

NAMES = ("dear", "cheap", "claude")
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "Why is the sky blue, and the sea too?"}]
MORE = {"role": "user", "content": "And why is the grass green, and not red or yellow or brown?"}
CALL = {"id": "call_0123456789", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_0123456789", "content": "3"}
SAID = {"role": "assistant", "content": "Because of scattering."}
OVERFLOW = {"kind": "status", "status": 400, "code": "context_length_exceeded"}
THEIR_OVERFLOW = {
    "kind": "error",
    "status": 400,
    "type": "invalid_request_error",
    "message": "prompt is too long: 213462 tokens > 200000 maximum",
}
CONFIG = """
[policy]
choose = "{policy}"
{more}
[resilience]
retries = 0
breaker_failures = 0
fallback = "{fallback}"
[[candidates]]
name = "dear"
input_usd_per_mtok = {dear_usd}
output_usd_per_mtok = 30.0
cached_usd_per_mtok = 0.1
quality_prior = 0.9
answer_tokens = 2
provider = "a"
abilities = ["tools", "vision"]
context_window = 100000
tags = ["us"]
[[candidates]]
name = "cheap"
quality_prior = 0.6
answer_tokens = 2
provider = "b"
abilities = ["tools"]
context_window = 200000
tags = ["europe"]
[[candidates]]
name = "claude"
input_usd_per_mtok = 3.0
output_usd_per_mtok = 15.0
quality_prior = 0.3
provider = "c"
context_window = 200000
[models.dear]
base_url = "{dear}"
[models.cheap]
base_url = "{cheap}"
model = "cheap-there"
input_usd_per_mtok = 0.1
output_usd_per_mtok = 0.3
[models.claude]
base_url = "{claude}"
api = "anthropic"
api_key_env = "CLAUDE_KEY"
"""
FAKES = {"dear": openai_any, "cheap": openai_any, "claude": anthropic_messages}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Server]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(FAKES[name].start()) for name in NAMES}


@pytest.fixture
def models(running: dict[str, Server]) -> dict[str, View]:
    return {name: View(server) for name, server in running.items()}


def config(models: dict[str, View], **values: Any) -> str:
    urls = {name: view.base_url for name, view in models.items()}
    usual = {"policy": "max_quality", "more": "", "fallback": "none", "dear_usd": 10.0}
    return CONFIG.format(**urls | usual | values)


@contextmanager
def start(
    folder: Path, models: dict[str, View], before: str = "", **values: Any
) -> Iterator[Gateway]:
    path = gateways.write_config(folder, before + config(models, **values))
    with gateways.start("--config", path, environment={"CLAUDE_KEY": "sk-claude"}) as found:
        yield found


@pytest.fixture
def gateway(models: dict[str, View], tmp_path: Path) -> Iterator[Gateway]:
    with start(tmp_path, models) as found:
        yield found


def ask(gateway: Gateway, messages: list[Any] = ASKED, path: str = "/chat/completions", /,
        headers: dict[str, str] | None = None, **more: Any) -> Any:  # fmt: skip
    body = {"model": "fastroute", "messages": messages} | more
    return gateway.ask("POST", f"/v1{path}", body, headers)


def sent(models: dict[str, View]) -> list[int]:
    return [len(models[name].requests()) for name in NAMES]


def log_line(gateway: Gateway, number: int = 0) -> dict[str, Any]:
    lines = gateway.wait_for(lambda: gateway.events("request")[number:])
    return dict(lines[0])


def metric(gateway: Gateway, name: str) -> float:
    text = gateway.ask("GET", "/metrics").body.decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


# The configuration


def load(folder: Path, text: str) -> Any:
    return load_config(gateways.write_config(folder, text))


def test_the_example_shows_every_field_of_a_candidate() -> None:
    text = (Path(fastroute.gateway.__file__).parent / "examples" / "gateway.toml").read_text()
    shown = tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
    assert set(shown["candidates"][0]) == {*FIELDS, "listed_as"}


def test_prices_are_given_once_and_used_for_choices_and_bills(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps({
        "listed": {"mode": "chat", "input_cost_per_token": 5e-6, "output_cost_per_token": 6e-6,
                   "cache_read_input_token_cost": 5e-7},
        "both": {"mode": "chat", "input_cost_per_token": 5e-6, "output_cost_per_token": 6e-6},
    }))  # fmt: skip
    found = load(
        tmp_path,
        'price_list = "list.json"\n'
        '[[candidates]]\nname = "listed"\n'
        '[[candidates]]\nname = "both"\n'
        '[[candidates]]\nname = "own"\ninput_usd_per_mtok = 3\n'
        "[models.both]\ninput_usd_per_mtok = 1.0\n[models.own]\ninput_usd_per_mtok = 2.0\n",
    )
    prices = [(c.input_usd_per_mtok, c.output_usd_per_mtok) for c in found.candidates]
    assert prices == [(pytest.approx(5), pytest.approx(6)), (1.0, pytest.approx(6)), (3, 0.0)]
    bills = [found.models[name] for name in ("listed", "both", "own")]
    assert [b.input_usd_per_mtok for b in bills] == [pytest.approx(5), 1.0, 2.0]
    assert bills[0].cached_input_usd_per_mtok == pytest.approx(0.5)
    assert found.model_names == ["listed", "both", "own"]
    assert found.routing.router_names == ()


def test_a_candidate_may_have_its_own_endpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("B_KEY", "sk-b")
    text = (
        '[[candidates]]\nname = "a"\nbase_url = "http://a/v1"\n'
        '[[candidates]]\nname = "b"\nbase_url = "http://b/v1"\napi_key_env = "B_KEY"\n'
        '[[candidates]]\nname = "c"\nbase_url = "http://c/v1"\n'
        '[[candidates]]\nname = "d"\n'
        '[endpoint]\nbase_url = "http://default/v1"\ntimeout_s = 7\n'
        '[models.b]\nmodel = "b-there"\n[models.c]\nbase_url = "http://other/v1"\n'
    )
    found = load(tmp_path, text)
    targets = [found.models[name].targets[0] for name in "abcd"]
    assert [t.endpoint.base_url for t in targets] == [
        "http://a/v1", "http://b/v1", "http://other/v1", "http://default/v1",
    ]  # fmt: skip
    assert [t.endpoint.api_key for t in targets] == [None, "sk-b", None, None]
    assert targets[1].model == "b-there"
    assert {t.endpoint.timeout_s for t in targets} == {7.0}
    monkeypatch.delenv("B_KEY")
    with pytest.raises(ConfigError, match="'b': the environment variable B_KEY is not set"):
        load(tmp_path, text)


ONE = '[[candidates]]\nname = "a"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ONE + 'color = "red"\n', "gateway.toml:1: candidates.0: unknown key 'color'"),
        (ONE + ONE, "gateway.toml:3: candidates.1: a second candidate is named 'a'"),
        ("candidates = []\n", "has no [[candidates]]"),
        ("candidates = [1]\n", "gateway.toml:1: candidates: must be tables [[candidates]]"),
        ('[candidates]\nfiles = "a"\n', 'one table with file = "models.toml"'),
        ('[candidates]\nfile = "none.toml"\n', "none.toml can't be read"),
        ('[[candidates]]\nname = "fastroute"\n', "rename the candidate"),
        ('[policy]\nchoose = "max_quality"\n', "gateway.toml:1: policy: needs [[candidates]]"),
        (ONE + '[policy]\nchoose = "best"\n',
         "gateway.toml:4: policy.choose: policy 'best' must be one of max_quality"),
        (ONE + "[[rules]]\nkeys = ['a']\n", "gateway.toml:3: rules.0: a rule needs allow or deny"),
        (ONE + "[[rules]]\nallows = ['a']\n", "rules.0.allows: unknown key; did you mean allow?"),
        (ONE + "[routing]\nthreshold = 0.5\n", "routing.strong_model: missing key"),
        (ONE + "[routing]\nwindow = 0\n", "gateway.toml:4: routing.window"),
        (ONE + "[cascade]\nhelpers = ['b']\n", "needs strong_model and weak_model"),
        (ONE + "[explore]\nshare = 0.1\n", "explore: needs the section [journal]"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, text)
    assert said in str(raised.value)


def test_a_rule_that_names_nothing_and_a_router_that_is_not_there(tmp_path: Path) -> None:
    for more, said in (
        ("[[rules]]\ndeny = ['b']\n", "rule 1: no candidate has the name or tag 'b'"),
        ("[policy]\nrouter = 'nowhere'\n", "nowhere"),
    ):
        path = gateways.write_config(tmp_path, ONE + more)
        done = subprocess.run(
            [sys.executable, "-m", "fastroute", "serve", "--check", "--config", path],
            capture_output=True,
            text=True,
        )
        assert done.returncode != 0
        assert said in done.stderr


# The choice


def test_the_policy_chooses_and_says_so(gateway: Gateway, models: dict[str, View]) -> None:
    answer = ask(gateway)
    assert answer.status == 200
    assert answer.headers["x-fastroute-model"] == "dear"
    assert answer.headers["x-fastroute-router"] == "candidates"
    assert answer.headers["x-fastroute-policy"] == "max_quality"
    assert answer.headers["x-fastroute-quality"] == "0.9000"
    assert float(answer.headers["x-fastroute-expected-usd"]) > 0
    assert "x-fastroute-win-rate" not in answer.headers
    assert models["dear"].requests()[0]["model"] == "dear"
    line = log_line(gateway)
    assert (line["model"], line["router"], line["policy"]) == ("dear", "candidates", "max_quality")
    assert line["quality"] == 0.9
    assert [row["name"] for row in line["candidates"]] == list(NAMES)
    assert line["cost_usd"] == pytest.approx((3 * 10 + 2 * 30) / 1e6)
    assert "sky" not in "".join(gateway.lines)
    assert metric(gateway, 'fastroute_decisions_total{model="dear",router="candidates"}') == 1


def test_a_candidates_own_name_goes_to_it(gateway: Gateway, models: dict[str, View]) -> None:
    with openai.OpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client:
        listed = [model.id for model in client.models.list()]
        assert listed == ["fastroute", *NAMES]
        assert client.models.retrieve("cheap").id == "cheap"
        answer = client.chat.completions.create(model="cheap", messages=ASKED)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == f"echo: {ASKED[0]['content']}"
    assert models["cheap"].requests()[0]["model"] == "cheap-there"
    assert "router" not in log_line(gateway)
    # What decides between a pair is not there without one.
    answer = ask(gateway, model="router-mf-0.5")
    assert (answer.status, answer.json()["error"]["code"]) == (400, "unknown_router")
    assert ask(gateway, [], "/embeddings", input="a").json()["error"]["code"] == "not_routed"


def test_the_decision_alone_states_every_candidate(
    gateway: Gateway, models: dict[str, View]
) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    content = [{"type": "text", "text": "What is this?"}, image]
    found = ask(gateway, [{"role": "user", "content": content}], "/route").json()
    assert (found["model"], found["policy"]) == ("dear", "max_quality")
    assert found["abstained"]  # there is no router
    dear, cheap, claude = found["candidates"]
    assert (dear["eligible"], dear["reason"], dear["quality"]) == (True, None, 0.9)
    assert (dear["low"], dear["high"]) == (0.0, 1.0)
    assert dear["usd"] > cheap["usd"] > 0
    assert (cheap["eligible"], cheap["reason"]) == (False, "lacks vision")
    assert claude["reason"] == "lacks vision"
    assert found["decision_us"] > 0
    schema = gateway.ask("GET", "/openapi.json").json()["components"]["schemas"]["Decision"]
    assert set(found) <= set(schema["properties"])
    assert set(dear) == set(schema["properties"]["candidates"]["items"]["properties"])
    assert sent(models) == [0, 0, 0]


def test_without_an_eligible_model_the_error_names_each(
    gateway: Gateway, models: dict[str, View]
) -> None:
    audio = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A"}}]}]
    with openai.OpenAI(base_url=gateway.base_url, api_key="unused", max_retries=0) as client:
        with pytest.raises(openai.BadRequestError) as raised:
            client.chat.completions.create(model="fastroute", messages=audio)  # type: ignore[arg-type]
        assert raised.value.code == "no_eligible_model"
        for said in ("dear: lacks audio", "cheap: lacks audio", "claude: lacks audio"):
            assert said in raised.value.message
    with (
        anthropic.Anthropic(
            base_url=gateway.base_url.removesuffix("/v1"), api_key="unused", max_retries=0
        ) as client_of_theirs,
        pytest.raises(anthropic.BadRequestError) as refused,
    ):
        client_of_theirs.messages.create(
            model="fastroute",
            max_tokens=9,
            messages=[{"role": "user", "content": "Hi"}],
            system="x " * 250_000,
        )
    assert "dear: context window of 100,000 tokens" in str(refused.value)
    assert sent(models) == [0, 0, 0]
    assert log_line(gateway)["error"] == "no_eligible_model"


def test_a_long_body_is_read_in_parts(gateway: Gateway) -> None:
    """Megabytes of an image are not tokens; those of text are."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 3_000_000}}
    answer = ask(gateway, [{"role": "user", "content": [{"type": "text", "text": "Hi"}, image]}])
    assert answer.headers["x-fastroute-model"] == "dear"
    long = [{"role": "user", "content": [{"type": "text", "text": "word " * 80_000}]}]
    assert ask(gateway, long).headers["x-fastroute-model"] == "cheap"
    assert ask(gateway, [{"role": "user", "content": "word " * 80_000}]).headers[
        "x-fastroute-model"] == "cheap"  # fmt: skip
    many = [{"role": "user", "content": "word " * 20_000}] * 4
    assert ask(gateway, many).headers["x-fastroute-model"] == "cheap"
    answer = ask(gateway, [{"role": "user", "content": "word " * 200_000}])
    assert answer.json()["error"]["code"] == "no_eligible_model"


# Rules

RULES = """
[[rules]]
keys = ["research-*"]
deny = ["us"]
[[rules]]
headers = {"x-region" = "eu*"}
allow = ["europe"]
[[rules]]
system_prompts = ["*confidential*"]
allow = ["europe"]
[[rules]]
paths = ["/messages*"]
allow = ["claude"]
"""


def test_rules_hold_by_key_header_path_and_system_prompt(
    models: dict[str, View], tmp_path: Path
) -> None:
    from fastroute.gateway.protocol.auth import hash_key

    keys = "".join(
        f'[[keys]]\nname = "{name}"\nsha256 = "{hash_key(name * 3)}"\n'
        for name in ("research-1", "sales")
    )
    with start(tmp_path, models, RULES + keys) as gateway:
        sales = {"authorization": f"Bearer {'sales' * 3}"}
        research = {"authorization": f"Bearer {'research-1' * 3}"}
        system = {"role": "system", "content": "All of this is Confidential."}
        for model, headers, messages in (
            ("dear", sales, ASKED),
            ("cheap", research, ASKED),
            ("cheap", sales | {"x-region": "EU-west"}, ASKED),
            ("cheap", sales, [system, *ASKED]),
        ):
            answer = ask(gateway, messages, headers=headers)
            assert answer.headers["x-fastroute-model"] == model
        answer = ask(gateway, ASKED, "/messages", headers=sales, max_tokens=9)
        assert answer.json()["content"][0]["text"] == "I am claude."
        answer = ask(
            gateway, ASKED, "/messages", headers=sales, max_tokens=9, system="confidential"
        )
        said = answer.json()["error"]["message"]
        assert answer.json()["type"] == "error"
        assert "cheap: rule 4 allows only claude" in said
        assert "claude: rule 3 allows only europe" in said
        reasons = [
            c["reason"] for c in ask(gateway, ASKED, "/route", research).json()["candidates"]
        ]
        assert reasons == ["rule 1 denies us", None, None]


# A prompt that is too long


@pytest.mark.parametrize("stream", [False, True])
def test_a_prompt_that_is_too_long_moves_once(
    gateway: Gateway, models: dict[str, View], stream: bool
) -> None:
    models["dear"].plan(OVERFLOW)
    answer = ask(gateway, stream=stream)
    assert answer.status == 200
    assert answer.headers["x-fastroute-model"] == "cheap"
    assert answer.headers["x-fastroute-fallback-from"] == "dear"
    assert answer.headers["x-fastroute-quality"] == "0.6000"
    assert b"echo:" in answer.body
    assert sent(models) == [1, 1, 0]
    line = log_line(gateway)
    assert (line["model"], line["fallback_from"], line["quality"]) == ("cheap", "dear", 0.6)
    reasons = [row["reason"] for row in line["candidates"]]
    assert "its provider says that the prompt is longer" in reasons[0]
    assert metric(gateway, 'fastroute_resilience_events_total{event="overflow"') == 1
    # Once: the second provider's refusal ends it, with the first one's words.
    models["dear"].plan({**OVERFLOW, "message": "too long for dear"})
    models["cheap"].plan(OVERFLOW)
    answer = ask(gateway, stream=stream)
    assert (answer.status, answer.json()["error"]["message"]) == (400, "too long for dear")
    assert sent(models) == [2, 2, 0]


REFUSED = "data: " + json.dumps({"error": {"code": OVERFLOW["code"], "message": "?"}}) + "\n\n"


@pytest.mark.parametrize("path", ["/chat/completions", "/responses"])
def test_a_stream_that_begins_with_that_refusal_moves_once(
    models: dict[str, View], tmp_path: Path, path: str
) -> None:
    event: dict[str, Any] = {"kind": "events", "raw": REFUSED, "pieces": 3, "seconds": 0.02}
    if path == "/responses":
        said = {"type": "error", "code": OVERFLOW["code"], "message": "?", "param": None}
        event["raw"] = f"event: error\r\ndata: {json.dumps(said)}\r\n\r\n"
    body = {"input": "Hello there"} if path == "/responses" else {}
    with start(tmp_path, models, policy="spend_at_most=1000") as gateway:
        models["dear"].plan(event)
        answer = ask(gateway, ASKED, path, stream=True, **body)
        assert answer.headers["x-fastroute-model"] == "cheap"
        assert answer.headers["x-fastroute-fallback-from"] == "dear"
        assert b"error" not in answer.body
        assert sent(models) == [1, 1, 0]
        # The refused call is not billed: its prompt alone would cost more.
        assert metric(gateway, "fastroute_policy_spent_usd") < 2e-5
        assert log_line(gateway)["cost_usd"] < 2e-5
        assert metric(gateway, 'fastroute_resilience_events_total{event="overflow"') == 1
        # Once: the second refusal ends it.
        models["dear"].plan(event)
        models["cheap"].plan(OVERFLOW)
        answer = ask(gateway, ASKED, path, stream=True, **body)
        assert answer.status == 400
        assert OVERFLOW["code"].encode() in answer.body
        assert sent(models) == [2, 2, 0]


def test_a_stream_that_begins_otherwise_is_passed_on(
    gateway: Gateway, models: dict[str, View]
) -> None:
    other = REFUSED.replace(OVERFLOW["code"], "server_error")
    for raw in (other, "data: [DONE]\n\n", "", REFUSED[:20]):
        models["dear"].plan({"kind": "events", "raw": raw})
        answer = ask(gateway, stream=True)
        assert (answer.status, answer.headers["x-fastroute-model"]) == (200, "dear")
        assert answer.body == raw.encode()
    # Nor is a named model's.
    models["dear"].plan({"kind": "events", "raw": REFUSED})
    assert ask(gateway, model="dear", stream=True).body == REFUSED.encode()
    assert sent(models) == [5, 0, 0]


def test_another_error_moves_nothing(gateway: Gateway, models: dict[str, View]) -> None:
    models["dear"].plan({"kind": "status", "status": 400, "message": "bad temperature"})
    assert ask(gateway).status == 400
    models["dear"].plan({"kind": "status", "status": 503})
    assert ask(gateway).status == 503
    # Nor does a model that was named.
    models["dear"].plan(OVERFLOW)
    assert ask(gateway, model="dear").json()["error"]["code"] == "context_length_exceeded"
    assert sent(models) == [3, 0, 0]


def test_anthropics_refusal_moves_too(models: dict[str, View], tmp_path: Path) -> None:
    before = '[[rules]]\npaths = ["/messages"]\ndeny = ["cheap"]\n'
    with (
        anthropic_messages.start() as other,
        start(tmp_path, {**models, "dear": View(other)}, before) as gateway,
    ):
        text = (
            Path(tmp_path / "gateway.toml")
            .read_text()
            .replace(
                "[models.dear]", '[models.dear]\napi = "anthropic"\napi_key_env = "CLAUDE_KEY"'
            )
        )
        (tmp_path / "gateway.toml").write_text(text)
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reloaded"))
        for stream in (False, True):
            other.plan(THEIR_OVERFLOW)
            answer = ask(gateway, ASKED, "/messages", max_tokens=9, stream=stream)
            assert answer.headers["x-fastroute-model"] == "claude"
            assert b"claude." in answer.body


def test_a_failed_provider_is_replaced_where_fallbacks_are_on(
    models: dict[str, View], tmp_path: Path
) -> None:
    with start(tmp_path, models, fallback="both", policy="spend_at_most=1000") as gateway:
        models["dear"].plan({"kind": "status", "status": 503})
        answer = ask(gateway)
        assert answer.headers["x-fastroute-model"] == "cheap"
        assert answer.headers["x-fastroute-fallback-from"] == "dear"
        # What failed costs nothing.
        assert metric(gateway, "fastroute_policy_spent_usd") == pytest.approx(
            (3 * 0.1 + 2 * 0.3) / 1e6
        )
        audio_only = [{"kind": "status", "status": 503}]
        models["dear"].plan(*audio_only)
        image = {"type": "image_url", "image_url": {"url": "data:,"}}
        answer = ask(gateway, [{"role": "user", "content": [image]}])
        assert answer.status == 503  # no other can see


# Conversations


def test_a_tool_loop_stays_with_its_model(models: dict[str, View], tmp_path: Path) -> None:
    with start(tmp_path, models, policy="best_value=100000") as gateway:
        models["cheap"].plan({"kind": "reply", "body": {"choices": [{"message": CALLED}]}})
        assert ask(gateway).headers["x-fastroute-model"] == "cheap"
        text = (tmp_path / "gateway.toml").read_text().replace("best_value=100000", "max_quality")
        (tmp_path / "gateway.toml").write_text(text)
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reloaded"))
        # By its beginning, and by the call's identifier after another beginning.
        for first in (ASKED[0], {"role": "user", "content": "A summary of what was before."}):
            answer = ask(gateway, [first, CALLED, RESULT])
            assert answer.headers["x-fastroute-model"] == "cheap"
            assert answer.headers["x-fastroute-sticky"] == "stayed"
        found = ask(gateway, [ASKED[0], CALLED, RESULT], "/route").json()
        assert (found["previous_model"], found["stayed"]) == ("cheap", True)
        assert found["candidates"][0]["reason"] == "a tool call of cheap is open"
        # A request that only the other could answer is refused rather than moved.
        image = {"role": "tool", "tool_call_id": CALL["id"], "content": [{"type": "image_url"}]}
        answer = ask(gateway, [ASKED[0], CALLED, image])
        assert answer.json()["error"]["code"] == "no_eligible_model"
        assert ask(gateway, [MORE]).headers["x-fastroute-model"] == "dear"
        # The loop is over, and what is asked is better answered elsewhere.
        answer = ask(gateway, [ASKED[0], CALLED, RESULT, SAID, MORE])
        assert answer.headers["x-fastroute-model"] == "dear"


def test_a_streams_tool_call_is_remembered(models: dict[str, View], tmp_path: Path) -> None:
    before = '[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["cheap"]\n'
    with start(tmp_path, models, before) as gateway:
        chunk = {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]}
        raw = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
        models["cheap"].plan({"kind": "events", "raw": raw, "pieces": 9, "seconds": 0.01})
        assert ask(gateway, headers={"x-first": "1"}, stream=True).status == 200
        other = {"role": "user", "content": "A summary."}
        assert ask(gateway, [other, CALLED, RESULT]).headers["x-fastroute-model"] == "cheap"
        for more in ({"user": "another"}, {}):
            history = [other, CALLED, {**RESULT, "tool_call_id": "call_of_another"}]
            assert ask(gateway, history, **more).headers["x-fastroute-model"] in ("dear", "cheap")


@pytest.mark.parametrize("stream", [False, True])
def test_replicas_share_which_model_answered(
    models: dict[str, View], tmp_path: Path, stream: bool
) -> None:
    """Before its client has the tool call, however late the server has what is written."""
    for name in ("redis", "late"):
        (tmp_path / name).mkdir()
    first = '[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["cheap"]\n'
    with redis.start(tmp_path / "redis") as server, redis.network(server.port) as network:
        text = first + config(models) + "[state]\nwait_s = 5.0\nurl = "
        keys = {"CLAUDE_KEY": "sk-claude"}
        with (
            replicas.start(tmp_path / "late", f'{text}"{network.url}"\n', 1, keys) as (one,),
            replicas.start(tmp_path, f'{text}"{server.url}"\n', 1, keys) as (other,),
        ):
            network.delay_s = 0.3
            chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [CALL]}}]}
            raw = f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
            models["cheap"].plan(
                {"kind": "events", "raw": raw}
                if stream
                else {"kind": "reply", "body": {"choices": [{"message": CALLED}]}}
            )
            assert ask(one, headers={"x-first": "1"}, stream=stream).status == 200
            for begun in (ASKED[0], {"role": "user", "content": "A summary."}):
                answer = ask(other, [begun, CALLED, RESULT])
                assert answer.headers["x-fastroute-model"] == "cheap"
            assert ask(other, [MORE]).headers["x-fastroute-model"] == "dear"


def test_replicas_hold_a_days_dollars_together(models: dict[str, View], tmp_path: Path) -> None:
    def balance(gateway: Gateway) -> float:
        return metric(gateway, "fastroute_policy_balance_usd")

    (tmp_path / "redis").mkdir()
    keys = {"CLAUDE_KEY": "sk-claude"}
    with redis.start(tmp_path / "redis") as server:
        text = '[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["dear"]\n'
        text += config(models, policy="spend_per_day=1", dear_usd=1000.0)
        text += f'[state]\nurl = "{server.url}"\n'
        with replicas.start(tmp_path, text, 2, keys) as (one, other):
            before = balance(other)
            for _ in range(5):
                assert ask(one, headers={"x-first": "1"}).status == 200
            usd = metric(one, "fastroute_spent_dollars_total")
            assert usd > 0.01  # of it 0.0007 are granted in a minute
            other.wait_for(lambda: balance(other) < before - 0.9 * usd)
            with replicas.start(tmp_path, text, 1, keys) as (late,):
                late.wait_for(lambda: balance(late) < before - 0.9 * usd)


def test_signed_reasoning_stays_with_its_provider_or_is_dropped(
    models: dict[str, View], tmp_path: Path
) -> None:
    thinking = {"type": "thinking", "thinking": "Hm", "signature": "x"}
    said = {"role": "assistant", "content": [thinking, {"type": "text", "text": "Hi"}]}
    history = [*ASKED, said, MORE]
    before = '[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["cheap"]\n'
    for more, model in (("", "cheap"), ("drop_reasoning = true", "dear")):
        with start(tmp_path, models, before, more=more) as gateway:
            assert ask(gateway, headers={"x-first": "1"}).headers["x-fastroute-model"] == "cheap"
            assert ask(gateway, history).headers["x-fastroute-model"] == model
            got = models[model].requests()[-1]["messages"][1]["content"]
            assert got == (said["content"] if model == "cheap" else said["content"][1:])


def test_a_conversation_stays_within_the_margin(models: dict[str, View], tmp_path: Path) -> None:
    first = '[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["cheap"]\n'
    short = {"role": "user", "content": "yes, do it"}
    for margin, message, model in (
        (0.1, MORE, "dear"),
        (0.5, MORE, "cheap"),
        (0.1, short, "cheap"),
    ):
        sticky = f"[routing.session_affinity]\nmargin = {margin}\n"
        with start(tmp_path, models, first + sticky) as gateway:
            ask(gateway, headers={"x-first": "1"})
            answer = ask(gateway, [*ASKED, SAID, message])
            assert answer.headers["x-fastroute-model"] == model
            assert ("x-fastroute-sticky" in answer.headers) == (model == "cheap")


def test_a_switch_pays_for_the_lost_cache(models: dict[str, View], tmp_path: Path) -> None:
    """The tokens that the provider last read from its cache count at their own price."""
    first = ('[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["dear"]\n'
             '[[rules]]\ndeny = ["claude"]\n[routing.session_affinity]\nmargin = 0.0\n'
             )  # fmt: skip
    with openai_billed.start() as billed:
        billing = {**models, "dear": View(billed)}
        with start(tmp_path, billing, first, policy="best_value=10000", dear_usd=0.2) as gateway:
            text = (tmp_path / "gateway.toml").read_text()
            text = text.replace("cached_usd_per_mtok = 0.1", "cached_usd_per_mtok = 0.0001")
            text = text.replace("output_usd_per_mtok = 30.0", "output_usd_per_mtok = 0.3")
            (tmp_path / "gateway.toml").write_text(text)
            gateway.signal(signal.SIGHUP)
            gateway.wait_for(lambda: gateway.events("reloaded"))
            for word, model in (("CACHED", "dear"), ("plain", "cheap")):
                begun = [{"role": "user", "content": f"{word} " * 2000}]
                assert ask(gateway, begun).headers["x-fastroute-model"] == "cheap"
                answer = ask(gateway, begun, headers={"x-first": "1"})
                assert answer.headers["x-fastroute-model"] == "dear"
                found = ask(gateway, [*begun, SAID, MORE], "/route").json()
                assert found["model"] == model
                assert (found["cached_tokens"] > 3000) == (word == "CACHED")


def test_a_stored_response_is_continued_where_it_is_stored(
    models: dict[str, View], tmp_path: Path
) -> None:
    first = '[[rules]]\nheaders = {"x-first" = "*"}\nallow = ["cheap"]\n'
    with start(tmp_path, models, first) as gateway:
        models["cheap"].plan({"kind": "reply", "body": {"id": "resp_1", "object": "response"}})
        body = {"model": "fastroute", "input": "Hello there"}
        gateway.ask("POST", "/v1/responses", body, {"x-first": "1"})
        for more in ({}, {"previous_response_id": "resp_1"}):
            answer = gateway.ask("POST", "/v1/responses", body | more)
            assert answer.headers["x-fastroute-model"] == ("cheap" if more else "dear")
        reasons = [row["reason"] for row in log_line(gateway, 2)["candidates"]]
        assert reasons == ["the conversation is stored with cheap", None,
                           "the conversation is stored with cheap"]  # fmt: skip


# Ceilings, prices, reloads


def test_a_ceiling_is_held_shown_and_kept_over_a_reload(
    models: dict[str, View], tmp_path: Path
) -> None:
    with start(tmp_path, models, policy="spend_at_most=0.04", dear_usd=1.0) as gateway:
        for _ in range(3):
            ask(gateway, [], "/route", messages=ASKED)
        assert metric(gateway, "fastroute_policy_spent_usd") == 0
        for _ in range(150):
            assert ask(gateway).status == 200
        dear, cheap, _ = sent(models)
        assert dear > 0
        assert cheap > 0
        spent = metric(gateway, "fastroute_policy_spent_usd")
        billed = metric(gateway, "fastroute_spent_dollars_total")
        assert spent == pytest.approx(billed)
        assert spent < 150 * 0.04 / 1000
        assert metric(gateway, "fastroute_policy_quality_per_usd") > 0
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reloaded"))
        assert metric(gateway, "fastroute_policy_spent_usd") == pytest.approx(spent)
        text = (tmp_path / "gateway.toml").read_text()
        (tmp_path / "gateway.toml").write_text(text.replace("at_most=0.04", "per_day=50"))
        gateway.signal(signal.SIGHUP)
        gateway.wait_for(lambda: gateway.events("reloaded")[1:])
        assert metric(gateway, "fastroute_policy_spent_usd") == 0
        answer = ask(gateway)
        assert answer.headers["x-fastroute-policy"] == "spend_per_day=50"
        assert metric(gateway, "fastroute_policy_balance_usd") > 1


def test_workers_hold_a_days_dollars_in_equal_parts(
    models: dict[str, View], tmp_path: Path
) -> None:
    path = gateways.write_config(tmp_path, config(models, policy="spend_per_day=48"))
    with gateways.start(
        "--config", path, "--workers", "2", environment={"CLAUDE_KEY": "sk-claude"}
    ) as gateway:
        gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
        # An hour's part is granted at once; starting a worker takes a few seconds of the next.
        assert 2.0 <= metric(gateway, "fastroute_policy_balance_usd") < 2.1
        for _ in range(20):
            assert ask(gateway).headers["x-fastroute-policy"] == "spend_per_day=24"
        billed = metric(gateway, "fastroute_spent_dollars_total")
        assert billed > 0
        assert metric(gateway, "fastroute_policy_spent_usd") == pytest.approx(billed)
        spending = gateway.ask("GET", "/ui/stats").json()["spending"]
        assert spending["spent_usd"] == pytest.approx(billed)


def test_prices_and_limits_are_reloaded(models: dict[str, View], tmp_path: Path) -> None:
    listed = tmp_path / "models.toml"

    def write(usd: float, window: int) -> None:
        listed.write_text(
            f'[[candidates]]\nname = "dear"\noutput_usd_per_mtok = {usd}\nquality_prior = 0.9\n'
            f'context_window = {window}\n[[candidates]]\nname = "cheap"\n'
            "output_usd_per_mtok = 1.0\nquality_prior = 0.6\n"
        )

    write(1.0, 100_000)
    text = f"""
[candidates]
file = "models.toml"
[policy]
choose = "best_value=100"
[models.dear]
base_url = "{models["dear"].base_url}"
[models.cheap]
base_url = "{models["cheap"].base_url}"
"""
    path = gateways.write_config(tmp_path, text)
    with gateways.start("--config", path) as gateway:
        for i, (usd, window, model) in enumerate(
            [(1.0, 100_000, "dear"), (1000.0, 100_000, "cheap"), (1.0, 10, "cheap")]
        ):
            write(usd, window)
            gateway.signal(signal.SIGHUP)
            gateway.wait_for(lambda i=i: gateway.events("reloaded")[i:])
            assert ask(gateway).headers["x-fastroute-model"] == model
        assert log_line(gateway, 1)["cost_usd"] == pytest.approx(2 * 1.0 / 1e6)
        listed.write_text("[[candidates]]\n")  # not usable: the old ones stay
        gateway.signal(signal.SIGHUP)
        refused = gateway.wait_for(lambda: gateway.events("reload refused"))
        assert "models.toml: candidates[0]: name must be" in refused[0]["reason"]
        assert ask(gateway).status == 200


def test_a_pair_beside_candidates_works_as_before(models: dict[str, View], tmp_path: Path) -> None:
    pair = """
[routing]
strong_model = "dear"
weak_model = "cheap"
routers = ["length"]
threshold = 0.5
"""
    with start(tmp_path, models, pair) as gateway:
        listed = [row["id"] for row in gateway.ask("GET", "/v1/models").json()["data"]]
        assert listed == ["fastroute", "router-length-0.5", "dear", "cheap", "claude"]
        answer = ask(gateway, model="router-length-0.9")
        assert answer.headers["x-fastroute-model"] == "cheap"
        assert answer.headers["x-fastroute-router"] == "length"
        assert "x-fastroute-policy" not in answer.headers
        assert ask(gateway).headers["x-fastroute-router"] == "candidates"
        found = gateway.ask("POST", "/v1/route", {"model": "router-length-0.9", "messages": ASKED})
        assert set(found.json()) == {"model", "router", "win_rate", "threshold", "difficulty",
                                     "strong", "stayed", "decision_us"}  # fmt: skip


def test_the_journal_has_the_scores_of_all_candidates(
    models: dict[str, View], tmp_path: Path
) -> None:
    journal = "[journal]\nurl = 'sqlite:///journal.db'\n"
    with start(tmp_path, models, journal) as gateway:
        models["dear"].plan(OVERFLOW)
        assert ask(gateway).headers["x-fastroute-model"] == "cheap"

        def rows() -> list[dict[str, Any]]:
            with closing(sqlite3.connect(tmp_path / "journal.db")) as connection:
                connection.row_factory = sqlite3.Row
                with suppress(sqlite3.OperationalError):
                    return [dict(row) for row in connection.execute("SELECT * FROM requests")]
            return []

        (row,) = gateway.wait_for(rows)
    assert (row["router"], row["policy"]) == ("candidates", "max_quality")
    assert (row["chosen"], row["answered_by"], row["propensity"]) == ("dear", "cheap", 1.0)
    assert json.loads(row["scores"]) == {"dear": 0.9, "cheap": 0.6, "claude": 0.3}
    assert json.loads(row["probabilities"]) == {"dear": 1.0, "cheap": 0.0, "claude": 0.0}
    assert row["conversation"]


def test_many_at_once(models: dict[str, View], tmp_path: Path) -> None:
    with start(tmp_path, models, policy="spend_at_most=3", dear_usd=1.0) as gateway:
        failed: list[Any] = []

        def run() -> None:
            for _ in range(10):
                answer = ask(gateway)
                if answer.status != 200:
                    failed.append(answer)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert metric(gateway, "fastroute_policy_spent_usd") == pytest.approx(
            metric(gateway, "fastroute_spent_dollars_total")
        )
