"""A canary of several gateways, in other processes, with a common journal in PostgreSQL."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, update

from cli_runner import fastroute as command
from fakes import gateway as gateways
from fakes import postgresql
from fakes.gateway import Gateway
from fakes.journals import opened, read_state, write_state
from fakes.planned import View
from fakes.postgresql import PostgreSQL
from fastroute.journal.database import writing
from fastroute.journal.schema import FEEDBACK, JOBS, REQUESTS
from fastroute.rollout.canary import CANARY, Canary, Rules
from gateway.test_rollout import BUNDLED, CONFIG

#: Margins that few conversations decide by, and a shorter wait than a configuration may have.
QUICK = Rules(
    stages=(0.5,), settle_s=0.5, quality_margin=0.3, errors_margin=0.3, latency_margin=3.0,
    dollars_margin=3.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with postgresql.start() as running:
        yield running


@contextmanager
def start(folder: Path, provider: View, url: str) -> Iterator[Gateway]:
    """A gateway with a folder, and files, of its own."""
    folder.mkdir(exist_ok=True)
    text = CONFIG.format(base_url=provider.base_url, router=BUNDLED, more="")
    path = gateways.write_config(folder, text.replace("[journal]", f'[journal]\nurl = "{url}"'))
    with gateways.start("--config", path) as gateway:
        yield gateway


def arms(gateway: Gateway) -> list[str]:
    """Where conversations go now."""
    asked = [{"model": "fastroute", "messages": [{"role": "user", "content": f"Prompt {i}"}]}
             for i in range(30)]  # fmt: skip
    return [gateway.ask("POST", "/v1/route", one).json()["router"] for one in asked]


def agreed(both: list[Gateway], few: int = 1, most: int = 29) -> list[str] | None:
    """Where conversations go, if all gateways agree, and the canary gets so many of 30."""
    first, *others = [arms(gateway) for gateway in (*both, *both)]
    is_so = few <= first.count("canary") <= most
    return first if is_so and all(other == first for other in others) else None


def log_conversations(engine: Engine, canary: Canary, **of_canary: Any) -> None:
    """600 answered, graded conversations from the canary's beginning; ``of_canary`` differs."""
    rows = []
    for i in range(600):
        name = f"{canary.name}{i:016x}"
        arm = canary.arm(name)
        row = {"request_id": f"{canary.name} {i}", "time": canary.since + i / 10_000,
               "conversation": name, "path": "/", "arm": arm, "status": 200, "chosen": "weak",
               "latency_ms": 100.0, "cost_usd": 1.0}  # fmt: skip
        rows.append(row | (of_canary if arm == CANARY else {}))
    grades = [
        {"request_id": row["request_id"], "source": "user", "idempotency_key": "", "score": 1.0,
         "time": row["time"]}
        for row in rows
    ]  # fmt: skip
    with writing(engine) as connection:
        connection.execute(insert(REQUESTS), rows)
        connection.execute(insert(FEEDBACK), grades)


def begin(url: str, rules: Rules = QUICK) -> Canary:
    """A new canary of the gateways' router."""
    begun = read_state(url, Canary)
    assert begun is not None
    canary = Canary.start(begun.router, rules, time.time())
    write_state(url, canary)
    return canary


def order(url: str, action: str) -> Canary:
    """The canary after a command."""
    assert command("canary", action, "--journal", url).status == 0
    found = read_state(url, Canary)
    assert found is not None
    return found


def page(gateway: Gateway) -> dict[str, Any]:
    """What the page shows of the canary."""
    found: dict[str, Any] = gateway.ask("GET", "/ui/rollout").json()["canary"]
    return found


def test_replicas_agree_on_the_stage(tmp_path: Path, provider: View, server: PostgreSQL) -> None:
    url = server.database()
    with ExitStack() as stack:
        engine = stack.enter_context(opened(url))
        both = [stack.enter_context(start(tmp_path / name, provider, url)) for name in "ab"]
        a, b = both
        initial = agreed(both)  # from the first request on
        assert initial
        begin(url)
        first = a.wait_for(lambda: (found := agreed(both)) != initial and found)

        order(url, "freeze")
        assert [page(gateway)["status"] for gateway in both] == ["frozen", "frozen"]
        assert agreed(both) == first
        order(url, "revert")
        a.wait_for(lambda: {*arms(a), *arms(b)} == {"length"})
        canary = order(url, "start")
        a.wait_for(lambda: agreed(both))

        log_conversations(engine, canary, cost_usd=0.1)
        a.wait_for(lambda: agreed(both, 21, 30))
        promoted = [e["reason"] for g in both for e in g.events("canary: share 95%")]
        assert promoted == ["dollars better"]  # by one of them

        a.process.kill()  # as it reads the journal, for all that the other one knows
        until = time.time() + 3.0
        with writing(engine) as connection:
            connection.execute(
                update(JOBS).where(JOBS.c.name == "rollout").values(holder="a", until=until)
            )
        canary = order(url, "start")
        log_conversations(engine, canary, status=502)
        [event] = b.wait_for(lambda: b.events("canary: reverted"))
        assert event["reason"] == "alarm: errors worse than allowed"
        assert time.time() >= until
        b.wait_for(lambda: set(arms(b)) == {"length"})


def test_without_the_database_the_stage_stays(
    tmp_path: Path, provider: View, server: PostgreSQL
) -> None:
    url = server.database()
    with ExitStack() as stack:
        a = stack.enter_context(start(tmp_path / "a", provider, url))
        initial = arms(a)
        canary = begin(url, replace(QUICK, settle_s=8.0))
        before = a.wait_for(lambda: (found := agreed([a])) != initial and found)
        with opened(url) as engine:
            log_conversations(engine, canary, cost_usd=0.1)
        server.stop()
        try:
            a.wait_for(lambda: a.events("the canary's stage can't be read"))
            assert a.ask("GET", "/ui/rollout").status == 503
            a.process.send_signal(signal.SIGHUP)
            a.wait_for(lambda: a.events("reloaded"))
            assert arms(a) == before
            # One that has never known the stage gives nothing to the new router.
            late = stack.enter_context(start(tmp_path / "b", provider, url))
            while time.time() < canary.since + 10.0:  # the proof has settled
                assert set(arms(late)) == {"length"}
            assert arms(a) == before
        finally:
            server.start()
        a.wait_for(lambda: agreed([a, late], 21, 30))
        assert page(a)["status"] == "promoted"
