"""The worker of [learn]: gateways and ``fastroute learn`` in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli_runner import fastroute as command
from fakes import gateway as gateways
from fakes.gateway import Gateway
from fakes.journals import read_state
from fastroute.provenance import OperatingPoint
from fastroute.rollout.canary import Canary
from fastroute.routers.matrix_factorization import MatrixFactorizationRouter
from fastroute.training.heads import save_mf
from graded_traffic import make_traffic
from learning import test_learn

CONFIG = """
[server]
workers = {workers}
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
[endpoint]
base_url = "http://127.0.0.1:9/v1"
[journal]
prompts = true
[learn]
every_hours = 24
target_quality = 0.9
{more}
"""


def start(folder: Path, workers: int = 1, more: str = "") -> Any:
    text = CONFIG.format(workers=workers, more=more)
    return gateways.start("--config", gateways.write_config(folder, text))


def journal(folder: Path, count: int, **more: bool) -> None:
    """A journal whose last request came an hour ago."""
    test_learn.journal(folder, make_traffic(count), **more)
    connection = sqlite3.connect(folder / "journal.db")
    began = time.time() - 3600.0 * (count + 1)
    with connection:
        for table in ("requests", "shadows", "feedback", "judgements"):
            connection.execute(f"UPDATE {table} SET time = time + ?", [began])
    connection.close()


def job(folder: Path) -> dict[str, Any]:
    connection = sqlite3.connect(folder / "journal.db")
    connection.row_factory = sqlite3.Row
    try:
        return dict(connection.execute("SELECT * FROM jobs").fetchone() or {})
    finally:
        connection.close()


def change_job(folder: Path, **values: float) -> None:
    connection = sqlite3.connect(folder / "journal.db", timeout=10)
    with connection:
        for name, value in values.items():
            connection.execute(f"UPDATE jobs SET {name} = ?", [value])
    connection.close()


def children(folder: Path) -> list[int]:
    """Processes of ``fastroute learn`` on the journal in ``folder``."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"learn" in words and any(str(folder).encode() in word for word in words):
                found.append(int(entry.name))
    return found


def wait(condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def outcomes(*running: Gateway) -> list[dict[str, Any]]:
    names = ("learn: proposed", "learn: not_proposed", "learn: failed")
    return [event for gateway in running for name in names for event in gateway.events(name)]


def test_one_of_all_workers_and_replicas_proposes_a_router_once(tmp_path: Path) -> None:
    journal(tmp_path, 500)
    with ExitStack() as stack:
        running = [stack.enter_context(start(tmp_path, workers)) for workers in (2, 1)]
        running[0].wait_for(lambda: outcomes(*running), 60)
        shown = [
            gateway.wait_for(
                lambda g=gateway: (
                    (said := g.ask("GET", "/ui/rollout").json()["learn"])["outcome"] and said
                )
            )
            for gateway in running
        ]
        assert {said["outcome"] for said in shown} == {"proposed"}
        assert not shown[0]["running"]
        assert shown[0]["due"] > time.time() + 80_000
        sums = [
            'learn_runs_total{outcome="proposed"} 1.0' in g.ask("GET", "/metrics").body.decode()
            for g in running
        ]
        assert sorted(sums) == [False, True]
        folder = Path(shown[0]["folder"])
        assert folder.parent == tmp_path / "learned"
        assert json.loads((folder / "result.json").read_text())["goal"]["target"] == 0.9
        routed = command("route", "--router", f"mf={folder}", "--json", "funny warm puppy")
        assert routed.status == 0, routed.err
    with start(tmp_path) as gateway:  # which does not learn again at once
        gateway.wait_for(lambda: gateway.ask("GET", "/ui/rollout").json()["learn"]["outcome"])
        assert not gateway.events("learn: began")
        change_job(tmp_path, time=time.time() - 25 * 3600)
        gateway.wait_for(lambda: gateway.events("learn: began"))
    assert [path.name for path in (tmp_path / "learned").iterdir()] == [folder.name]


def test_it_ends_with_the_gateway_and_is_due_again(tmp_path: Path) -> None:
    journal(tmp_path, 500)
    with start(tmp_path) as gateway:
        [pid] = gateway.wait_for(lambda: children(tmp_path))
        gateway.wait_for(lambda: os.getpriority(os.PRIO_PROCESS, pid) == 19)
        gateway.signal(signal.SIGTERM)
        assert gateway.process.wait(30) == 0
        assert not children(tmp_path)
    assert gateway.events("learn: stopped with the gateway")
    assert job(tmp_path)["until"] is None
    assert list((tmp_path / "learned").iterdir()) == []
    with start(tmp_path) as gateway:
        gateway.wait_for(lambda: children(tmp_path))
        gateway.process.kill()
        gateway.process.wait()
        wait(lambda: not children(tmp_path))
    # Whether the process that held it is alive can't be known before the lease is over.
    assert job(tmp_path)["until"] > time.time()
    change_job(tmp_path, time=0.0)  # as if a day had passed
    with start(tmp_path) as gateway:
        gateway.wait_for(lambda: gateway.ask("GET", "/ui/rollout").json()["learn"]["running"])
        assert not gateway.events("learn: began")
        change_job(tmp_path, until=1.0)
        gateway.wait_for(lambda: gateway.events("learn: began"))


def test_a_canary_tries_what_was_proposed_last(tmp_path: Path) -> None:
    where, learned = ("--journal", f"sqlite:///{tmp_path}/journal.db"), tmp_path / "learned"
    learned.mkdir()

    def propose(name: str, threshold: float) -> str:
        router = MatrixFactorizationRouter.load_default()
        point = OperatingPoint(threshold, None, "learnt")
        router = router.with_provenance(replace(router.provenance, operating_point=point))
        save_mf(tmp_path / "made", router, training={}, card="")
        (tmp_path / "made").rename(learned / name)
        return str(learned / name)

    def routers(gateway: Gateway) -> set[str]:
        body = {"model": "fastroute"}
        asked = [{**body, "messages": [{"role": "user", "content": f"Prompt {i}"}]}
                 for i in range(20)]  # fmt: skip
        return {gateway.ask("POST", "/v1/route", one).json()["router"] for one in asked}

    def tried() -> tuple[str, str] | None:
        canary = read_state(tmp_path, Canary)
        return canary and (canary.folder, canary.status)

    with start(tmp_path, 2, "[canary]\nstages = [0.5]") as gateway:
        assert routers(gateway) == {"length"}
        assert gateway.ask("GET", "/ui/rollout").json()["canary"] is None
        first = propose("proposed-20260101-000000", 0.4)
        gateway.wait_for(lambda: tried() == (first, "running"))
        gateway.wait_for(lambda: len(gateway.events("canary")) == 2)
        assert routers(gateway) == {"length", "canary"}
        second = propose("proposed-20260102-000000", 0.6)
    with start(tmp_path, more="[canary]\nstages = [0.5]") as gateway:
        assert routers(gateway) == {"length", "canary"}
        time.sleep(2.5)  # a look
        assert tried() == (first, "running")  # it goes on, whatever is proposed meanwhile
        assert command("canary", "revert", *where).status == 0
        gateway.wait_for(lambda: tried() == (second, "running"))
        assert command("canary", "start", *where).status == 0
        assert tried() == (second, "running")
        assert len(gateway.events("canary")) == 2


@pytest.mark.parametrize(
    ("more", "outcome", "reason"),
    [
        ("", "failed", "none of 60 requests with a prompt has grades of both weak and strong"),
        ('output = "gateway.toml/x"', "failed", "can't be used: Not a directory"),
    ],
)
def test_why_there_is_no_proposal_is_said(
    tmp_path: Path, more: str, outcome: str, reason: str
) -> None:
    journal(tmp_path, 60, judged=False)
    with start(tmp_path, more=more) as gateway:
        [event] = gateway.wait_for(lambda: outcomes(gateway))
        assert event["event"] == f"learn: {outcome}"
        assert reason in event["reason"]
        said = gateway.wait_for(
            lambda: (s := gateway.ask("GET", "/ui/rollout").json()["learn"])["outcome"] and s
        )
        assert reason in said["reason"]
        assert said["proposed"] is None
        metrics = gateway.ask("GET", "/metrics").body.decode()
        assert f'fastroute_learn_runs_total{{outcome="{outcome}"}} 1.0' in metrics


def test_a_journal_that_has_just_begun_is_left_alone(tmp_path: Path) -> None:
    with start(tmp_path) as gateway:
        gateway.wait_for(lambda: (tmp_path / "journal.db").exists())
        time.sleep(2.5)  # a look
        said = gateway.ask("GET", "/ui/rollout").json()["learn"]
        assert (said["outcome"], said["due"], said["running"]) == (None, None, False)
        assert not gateway.events("learn: began")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("target_spend = 1.0", "target_quality is given too; give one target"),
        ("every_hours = 0", "every_hours"),
    ],
)
def test_sections_that_make_no_sense(tmp_path: Path, more: str, said: str) -> None:
    text = CONFIG.format(workers=1, more="").replace("every_hours = 24", more)
    ran = command("serve", "--port", "0", "--config", gateways.write_config(tmp_path, text))
    assert ran.status == 2
    assert said in ran.err
    without = CONFIG.format(workers=1, more="").replace("prompts = true", "")
    ran = command("serve", "--port", "0", "--config", gateways.write_config(tmp_path, without))
    assert "needs prompts = true in [journal]" in ran.err
