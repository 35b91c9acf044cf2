"""A canary and drift in a gateway in another process, with its journal and the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

import fastroute
from cli_runner import fastroute as command
from cli_runner import refused
from fakes import gateway as gateways
from fakes.gateway import Answer, Gateway
from fakes.journals import opened, read_state, write_state
from fakes.planned import View
from fastroute.gateway.config.settings import load_config
from fastroute.gateway.operations import canary
from fastroute.gateway.operations.canary import CanaryRouter
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import REQUESTS
from fastroute.rollout.canary import CANARY, CONTROL, STALE, Canary, Rules
from fastroute.rollout.drift import Drift

BUNDLED = Path(fastroute.__file__).parent / "bundled" / "mf"
CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
[endpoint]
base_url = "{base_url}"
[journal]
[drift]
settle_s = 10
[canary]
router = "{router}"
stages = [0.5]
{more}
"""


@contextmanager
def start(folder: Path, provider: View, more: str = "") -> Iterator[Gateway]:
    text = CONFIG.format(base_url=provider.base_url, router=BUNDLED, more=more)
    with gateways.start("--config", gateways.write_config(folder, text)) as gateway:
        yield gateway


def ask(gateway: Gateway, *words: str, model: str = "fastroute") -> Answer:
    messages = [{"role": ["user", "assistant"][i % 2], "content": w} for i, w in enumerate(words)]
    answer = gateway.ask("POST", "/v1/chat/completions", {"model": model, "messages": messages})
    assert answer.status == 200, answer.body
    return answer


def router(answer: Answer) -> str:
    return answer.headers["x-fastroute-router"]


def rows(folder: Path) -> list[Any]:
    engine = open_journal(f"sqlite:///{folder}/journal.db")
    with engine.connect() as connection:
        found = list(connection.execute(REQUESTS.select().order_by(REQUESTS.c.time)))
    engine.dispose()
    return found


def test_a_part_of_the_conversations_gets_the_new_router(tmp_path: Path, provider: View) -> None:
    prompts = [f"What is the capital of country number {i}?" for i in range(60)]
    with start(tmp_path, provider) as gateway:
        first = [router(ask(gateway, prompt)) for prompt in prompts]
        assert set(first) == {"canary", "length"}
        assert 15 <= first.count("canary") <= 45
        # The next turn of a conversation goes where its first went.
        later = [router(ask(gateway, prompt, "Paris.", "Are you sure?")) for prompt in prompts[:20]]
        assert later == first[:20]
        # Who names a router gets it.
        named = [router(ask(gateway, p, model="router-length-0.5")) for p in prompts[:20]]
        assert set(named) == {"length"}
        gateway.wait_for(lambda: len(rows(tmp_path)) == 100)
    found = rows(tmp_path)
    assert [row.arm for row in found[:60]] == [
        "canary" if name == "canary" else "control" for name in first
    ]
    assert {row.arm for row in found[80:]} == {None}
    checksums = {row.arm: row.router_checksum for row in found[:60]}
    of_state = read_state(tmp_path, Canary).router  # type: ignore[union-attr]
    assert of_state.startswith(f"{checksums['canary']} at 0.")
    with start(tmp_path, provider) as gateway:  # which goes on with the same canary
        assert [router(ask(gateway, prompt)) for prompt in prompts[:20]] == first[:20]


def test_a_canary_may_be_one_model_for_everything(tmp_path: Path, provider: View) -> None:
    text = CONFIG.format(base_url=provider.base_url, router="length", more="threshold = 1.0")
    with gateways.start("--config", gateways.write_config(tmp_path, text)) as gateway:
        long = [ask(gateway, f"{i} " + "a long question " * 60) for i in range(20)]
        models = {router(answer): answer.headers["x-fastroute-model"] for answer in long}
    assert models == {"canary": "weak", "length": "strong"}


def test_commands_reach_a_running_gateway(tmp_path: Path, provider: View) -> None:
    where = ("--journal", f"sqlite:///{tmp_path}/journal.db")
    missing = command("canary", "status", *where)
    assert (missing.status, "there is no journal" in missing.err) == (1, True)
    open_journal(where[1]).dispose()
    assert "there is no canary" in refused("canary", "status", *where)
    prompts = [f"Prompt {i}" for i in range(30)]
    with start(tmp_path, provider) as gateway:
        shown = command("canary", "status", *where)
        assert shown.status == 0
        assert "running, 50% of the conversations" in shown.out
        assert command("canary", "freeze", *where, "--json").json["status"] == "frozen"
        assert "frozen" in refused("canary", "freeze", *where)
        assert command("canary", "revert", *where).status == 0
        gateway.wait_for(lambda: {router(ask(gateway, p)) for p in prompts} == {"length"})
        assert command("canary", "status", *where).status == 3
        page = gateway.ask("GET", "/ui/rollout").json()
        assert page["canary"]["status"] == "reverted"
        assert page["drift"] == {"streams": [], "alarms": []}
        assert command("canary", "start", *where).status == 0
        gateway.wait_for(lambda: "canary" in {router(ask(gateway, p)) for p in prompts})


def test_a_gateway_rolls_back_by_itself(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider):
        begun = read_state(tmp_path, Canary)
        assert begun is not None
    # Shorter than a configuration may be, so that the test need not wait.
    canary = Canary.start(begun.router, Rules(stages=(0.5,), settle_s=0.5), time.time())
    write_state(tmp_path, canary)
    with start(tmp_path, provider) as gateway:
        began = time.time()
        failing = []
        for i in range(300):
            name = f"{i:032x}"
            arm = canary.arm(name)
            status = 502 if arm == CANARY and i % 2 else 200
            failing.append(
                {"request_id": f"r{i}", "time": began + i / 1000, "conversation": name, "path": "/",
                 "arm": arm, "status": status, "chosen": "weak", "win_rate": 0.5}
            )  # fmt: skip
        engine = open_journal(f"sqlite:///{tmp_path}/journal.db")
        with writing(engine) as connection:
            connection.execute(insert(REQUESTS), failing)
        engine.dispose()
        [event] = gateway.wait_for(lambda: gateway.events("canary: reverted"))
        assert event["reason"] == "alarm: errors worse than allowed"
        prompts = [f"Prompt {i}" for i in range(20)]
        gateway.wait_for(lambda: {router(ask(gateway, p)) for p in prompts} == {"length"})
        metrics = gateway.ask("GET", "/metrics").body.decode()
        assert 'fastroute_rollout_events_total{event="canary: reverted"} 1.0' in metrics
    assert read_state(tmp_path, Canary).status == "reverted"  # type: ignore[union-attr]


def test_a_file_of_before_goes_on_in_the_journal(tmp_path: Path, provider: View) -> None:
    with start(tmp_path, provider):
        begun = read_state(tmp_path, Canary)
        assert begun is not None
    (tmp_path / "journal.db").unlink()
    before = Canary.start(begun.router, begun.rules, 100.0)
    for name, state in (("canary", before), ("drift", Drift({"others": 7}))):
        document = {"schema": 1, **state.to_dict()}
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
    with start(tmp_path, provider) as gateway:
        assert {router(ask(gateway, f"Prompt {i}")) for i in range(20)} == {"canary", "length"}
        gateway.wait_for(lambda: not (tmp_path / "drift.json").exists())
    assert read_state(tmp_path, Canary).name == before.name  # type: ignore[union-attr]
    assert read_state(tmp_path, Drift).others == 7  # type: ignore[union-attr]


def test_a_stage_that_has_not_been_read_of_late_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = CONFIG.format(base_url="http://127.0.0.1:9/v1", router=BUNDLED, more="")
    found = CanaryRouter(load_config(gateways.write_config(tmp_path, text)))
    names = [f"{i}".encode() for i in range(20)]
    assert {found.arm(name) for name in names} == {None}
    assert found.noted(None) is None
    with opened(tmp_path) as engine:
        found.follow(engine)
    assert {found.arm(name) for name in names} == {CANARY, CONTROL}
    assert found.noted(CANARY) == CANARY
    monkeypatch.setattr(canary, "GRACE_S", 0.0)
    assert (found.noted(CANARY), found.noted(CONTROL), found.noted(None)) == (STALE, STALE, None)


@pytest.mark.parametrize(("more", "status"), [("", "reverted"), ('on_drift = "none"', "running")])
def test_drift_rolls_a_canary_back_unless_told_not_to(
    tmp_path: Path, provider: View, more: str, status: str
) -> None:
    began = time.time() - 1000.0
    with start(tmp_path, provider, more):
        begun = read_state(tmp_path, Canary)
        assert begun is not None
    # As if all had begun some minutes ago, so that the test need not wait.
    write_state(tmp_path, Canary.start(begun.router, begun.rules, began))
    write_state(tmp_path, Drift({"cursor": began}))
    traffic = [
        {"request_id": f"r{i}", "time": began + 1 + i / 10, "path": "/", "status": 200,
         "chosen": "weak", "win_rate": 0.4 if i < 300 else 0.9}
        for i in range(500)
    ]  # fmt: skip
    engine = open_journal(f"sqlite:///{tmp_path}/journal.db")
    with writing(engine) as connection:
        connection.execute(insert(REQUESTS), traffic)
    engine.dispose()
    with start(tmp_path, provider, more) as gateway:
        gateway.wait_for(lambda: gateway.events("drift: win_rate"))
        if status == "reverted":
            [event] = gateway.wait_for(lambda: gateway.events("canary: reverted"))
            assert event["reason"] == "drift of win_rate"
            prompts = [f"Prompt {i}" for i in range(20)]
            gateway.wait_for(lambda: {router(ask(gateway, p)) for p in prompts} == {"length"})
        time.sleep(2.5)  # a further step
        assert gateway.ask("GET", "/ui/rollout").json()["canary"]["status"] == status
    with start(tmp_path, provider, more):
        assert read_state(tmp_path, Canary).status == status  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("on_drift = 'restart'", "on_drift"),
        ("stages = [0.5, 0.2]", "stages"),
        ("holdback = 0.0", "holdback"),
        ("[routing.session_affinity]\nby = 'none'", "can't be told apart"),
        ("[[candidates]]\nname = 'strong'\n[[candidates]]\nname = 'weak'", "'models' is needed"),
        ("policy = 'max_quality'", "policy needs [[candidates]]"),
    ],
)
def test_sections_that_make_no_sense(tmp_path: Path, more: str, said: str) -> None:
    text = CONFIG.format(base_url="http://127.0.0.1:9/v1", router=BUNDLED, more=more)
    text = text.replace("stages = [0.5]\nstages", "stages")
    assert said in refused_config(tmp_path, text)
    without = text.replace("[journal]\n", "").replace(more, "")
    assert "needs the section [journal]" in refused_config(tmp_path, without)


def refused_config(folder: Path, text: str) -> str:
    ran = command("serve", "--port", "0", "--config", gateways.write_config(folder, text))
    assert ran.status == 2
    return ran.err


def test_a_router_that_is_not_there(tmp_path: Path) -> None:
    text = CONFIG.format(base_url="http://127.0.0.1:9/v1", router="nowhere", more="")
    assert "nowhere" in refused_config(tmp_path, text)
