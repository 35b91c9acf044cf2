"""A share that a gateway holds, whatever prompts come: real requests, metrics, reload, workers."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.planned import Server
from fastroute.artifacts import load_artifact, save_provenance
from fastroute.errors import ConfigError
from fastroute.gateway.config.settings import load_config
from fastroute.gateway.gateway import Gateway as InProcess
from fastroute.gateway.request.document import read_document
from fastroute.http import MockTransport
from fastroute.routers.matrix_factorization import DEFAULT_FOLDER

PROVIDER = {"PROVIDER_KEY": "sk-provider-0123456789abcdef"}
SHARE, STEP = 0.3, 0.05
ROUTING = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["mf={router}"]
strong_share = 0.3

[routing.held_share]
enabled = true
step = 0.05
window = 100

[routing.session_affinity]
by = "{by}"

[endpoint]
base_url = "{base_url}"
api_key_env = "PROVIDER_KEY"
"""
# The router is calibrated on prompts that are all easier than this one.
HARD = "Prove that the sum of the first {i} odd numbers is a square, and derive its error bound."


def _write(tmp_path: Path, upstream: Server, by: str = "none") -> str:
    router = tmp_path / "router"
    shutil.copytree(DEFAULT_FOLDER, router)
    known = load_artifact(router).provenance
    save_provenance(
        router, replace(known, calibration=np.linspace(0.0, 0.1, 1001, dtype=np.float32))
    )
    text = ROUTING.format(base_url=upstream.base_url, by=by, router=router)
    return gateways.write_config(tmp_path, text)


def _body(i: int, model: str = "fastroute") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": HARD.format(i=i)}]}


def _ask(gateway: Gateway, count: int, threads: int = 1) -> list[str]:
    """The models that answered ``count`` requests."""

    def one(i: int) -> str:
        answer = gateway.ask("POST", "/v1/chat/completions", _body(i))
        assert answer.status == 200, answer.body
        return answer.headers["x-fastroute-model"]

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(count)))


def _metric(gateway: Gateway, name: str) -> list[float]:
    page = gateway.ask("GET", "/metrics").body.decode()
    return [float(v) for v in re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", page, re.M)]


def test_the_share_holds_where_a_fixed_threshold_would_not(
    tmp_path: Path, upstream_server: Server
) -> None:
    path = _write(tmp_path, upstream_server)
    with gateways.start("--config", path, environment=PROVIDER) as gateway:
        fixed = [gateway.ask("POST", "/v1/route", _body(i)).json() for i in range(20)]
        assert len({said["threshold"] for said in fixed}) == 1  # asking where it would go is free
        assert {said["strong"] for said in fixed} == {True}
        assert {said["difficulty"] for said in fixed} == {1.0}
        models = Counter(_ask(gateway, 300, threads=8))
        assert abs(models["strong"] - SHARE * 300) <= 1 / STEP
        decisions = 'fastroute_held_decisions_total{side="strong"}'
        assert _metric(gateway, decisions) == [models["strong"]]
        assert sum(_metric(gateway, "fastroute_held_decisions_total")) == 300
        assert _metric(gateway, "fastroute_held_strong_share") == [SHARE]
        said = gateway.ask("POST", "/v1/route", _body(0)).json()
        assert _metric(gateway, "fastroute_held_threshold") == [pytest.approx(said["threshold"])]
        held = gateway.ask("GET", "/ui/stats").json()["held"]
        assert held == {
            "strong_share": SHARE,
            "threshold": said["threshold"],
            "decisions": 300,
            "strong": models["strong"],
            "at_bound": 0,
        }
        lines = gateway.wait_for(
            lambda: [line for line in gateway.events("request") if "win_rate" in line]
        )
        assert {line["difficulty"] for line in lines} == {1.0}


def test_a_named_threshold_neither_follows_nor_moves_it(
    tmp_path: Path, upstream_server: Server
) -> None:
    path = _write(tmp_path, upstream_server)
    with gateways.start("--config", path, environment=PROVIDER) as gateway:
        _ask(gateway, 30)
        before = gateway.ask("POST", "/v1/route", _body(0)).json()["threshold"]
        for i in range(10):
            answer = gateway.ask("POST", "/v1/chat/completions", _body(i, "router-mf-0.5"))
            assert answer.headers["x-fastroute-threshold"] == "0.5"
        assert gateway.ask("POST", "/v1/route", _body(0)).json()["threshold"] == before
        assert sum(_metric(gateway, "fastroute_held_decisions_total")) == 30
        # It is far from the win rates of the calibration, which the log says once.
        gateway.wait_for(lambda: any("ThresholdWarning" in line for line in gateway.lines))
        (line,) = (line for line in gateway.lines if "ThresholdWarning" in line)
        assert json.loads(line)["level"] == "warning"
        assert "calibrated from 0.0000 to 0.1000" in line


def test_a_reload_goes_on_from_where_it_was_unless_the_share_is_another(
    tmp_path: Path, upstream_server: Server
) -> None:
    path = Path(_write(tmp_path, upstream_server))
    with gateways.start("--config", str(path), environment=PROVIDER) as gateway:

        def reloaded(old: str, new: str) -> float:
            count = len(gateway.events("reloaded"))
            path.write_text(path.read_text().replace(old, new))
            gateway.signal(signal.SIGHUP)
            gateway.wait_for(lambda: len(gateway.events("reloaded")) > count)
            threshold: float = gateway.ask("POST", "/v1/route", _body(0)).json()["threshold"]
            return threshold

        first = gateway.ask("POST", "/v1/route", _body(0)).json()["threshold"]
        _ask(gateway, 60)
        moved = gateway.ask("POST", "/v1/route", _body(0)).json()["threshold"]
        assert moved > first
        assert reloaded('weak_model = "weak"', 'weak_model = "weaker"') == moved
        assert reloaded("strong_share = 0.3", "strong_share = 0.31") < moved
        assert _metric(gateway, "fastroute_held_strong_share") == [0.31]
        assert reloaded("enabled = true", "enabled = false") < moved
        assert str(_metric(gateway, "fastroute_held_strong_share")) == "[nan]"
        assert gateway.ask("GET", "/ui/stats").json()["held"] is None


def test_each_worker_holds_the_share_by_itself(tmp_path: Path, upstream_server: Server) -> None:
    path = _write(tmp_path, upstream_server)
    arguments = ("--config", path, "--workers", "2")
    with gateways.start(*arguments, environment=PROVIDER) as gateway:
        gateway.wait_for(lambda: len(gateway.events("serving")) == 2)
        models = Counter(_ask(gateway, 300, threads=4))
        assert abs(models["strong"] - SHARE * 300) <= 2 / STEP
        assert _metric(gateway, "fastroute_held_strong_share") == [SHARE, SHARE]
        assert sum(_metric(gateway, "fastroute_held_decisions_total")) == 300
        assert len(_metric(gateway, "fastroute_held_threshold")) == 2


@pytest.fixture
def in_process(
    tmp_path: Path, upstream_server: Server, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], InProcess]:
    monkeypatch.setenv("PROVIDER_KEY", "sk-provider-0123456789abcdef")

    def make(by: str) -> InProcess:
        return InProcess(load_config(_write(tmp_path, upstream_server, by)), MockTransport())

    return make


def test_a_conversation_that_stays_counts_with_the_side_it_stays_on(
    in_process: Callable[[str], InProcess],
) -> None:
    gateway = in_process("messages")
    control = gateway.decider.share_control
    assert control is not None

    async def run() -> None:
        turns = [{"role": "user", "content": HARD.format(i=1)}]
        for _ in range(80):
            raw = str({"model": "fastroute", "messages": turns}).replace("'", '"').encode()
            routed = await gateway.route(read_document(raw), "/chat/completions", {}, "me")
            assert routed.decision is not None
            assert routed.decision.strong  # "yes" never moves a conversation
            assert routed.held is not None
            turns += [{"role": "assistant", "content": "ok"}, {"role": "user", "content": "yes"}]
        await gateway.aclose()

    asyncio.run(run())
    state = control.state
    assert (state.requests, state.strong) == (80, 80)
    assert state.threshold == 1.0  # all that can be done: other conversations make up for it
    assert state.at_bound > 0


def test_two_requests_at_once_are_decided_one_after_the_other(
    in_process: Callable[[str], InProcess],
) -> None:
    gateway = in_process("none")
    long = "prove it " * 2000  # scored in a thread

    async def one(i: int) -> bool:
        body = {"model": "fastroute", "messages": [{"role": "user", "content": f"{i} {long}"}]}
        raw = str(body).replace("'", '"').encode()
        routed = await gateway.route(read_document(raw), "/chat/completions", {}, "me")
        assert routed.decision is not None
        assert routed.decision.strong == (routed.decision.win_rate >= routed.decision.threshold)
        return routed.decision.strong

    async def run() -> list[bool]:
        found = await asyncio.gather(*map(one, range(200)))
        await gateway.aclose()
        return found

    strong = sum(asyncio.run(run()))
    assert abs(strong - SHARE * 200) <= 1 / STEP


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("strong_share = 0.3", "", "enabled needs strong_share"),
        ("step = 0.05", "step = 0", "routing.held_share.step"),
        ("window = 100", "window = 1", "routing.held_share.window"),
        ("window = 100", "min_threshold = 0.6\nmax_threshold = 0.5", "at least min_threshold"),
        ("window = 100", "windows = 100", "routing.held_share.windows"),
    ],
)
def test_configurations_that_can_not_hold_a_share(
    old: str, new: str, message: str, tmp_path: Path, upstream_server: Server,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("PROVIDER_KEY", "sk-provider-0123456789abcdef")
    path = Path(_write(tmp_path, upstream_server))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))
