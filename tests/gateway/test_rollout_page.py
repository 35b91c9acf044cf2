"""The page's tabs of canary, drift and learning, in a real browser without a window."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert

from canary_runs import Change, run
from fakes import browser
from fakes import gateway as gateways
from fakes.browser import look, needs_browser
from fakes.gateway import Gateway
from fakes.journals import read_state, write_state
from fakes.planned import Server
from fastroute.journal.database import open_journal, writing
from fastroute.journal.schema import JOBS
from fastroute.rollout.canary import Canary, Rules
from fastroute.rollout.drift import Drift
from gateway.test_rollout import BUNDLED, CONFIG

FITS = "document.documentElement.scrollWidth <= innerWidth"
TABS = "[...document.querySelectorAll('[role=tab]')].map((tab) => tab.textContent)"
VISIBLE = """[...document.querySelectorAll('main > section')].filter((s) => s.offsetHeight > 0)
  .map((s) => s.id)"""


@pytest.fixture(scope="module")
def gateway(upstream_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("rollout")
    text = CONFIG.format(base_url=upstream_server.base_url, router=BUNDLED, more="[learn]")
    text = text.replace("[journal]", "[journal]\nprompts = true")
    engine = open_journal(f"sqlite:///{folder}/journal.db")
    with writing(engine) as connection:
        connection.execute(insert(JOBS), [{
            "name": "learn", "time": time.time(), "ended": time.time(), "outcome": "not_proposed",
            "reason": "No router <b>is</b> needed.", "proposed": 1e9, "folder": "/a/proposed-1",
        }])  # fmt: skip
    engine.dispose()
    path = gateways.write_config(folder, text)
    with gateways.start("--config", path) as running:
        begun = read_state(folder, Canary)
        assert begun is not None
        rules = Rules(stages=(0.5,))
        canary, _ = run(Change("errors", errors=0.4), 0, 600, rules)
        assert canary.status == "reverted"
        canary.router = begun.router
        write_state(folder, canary)
        drift = Drift()
        for i in range(900):
            drift.observe("win_rate", (i % 10) / 10 if i < 500 else 0.95, i)
            drift.observe("output tokens of <b>weak</b>", 10 + i % 7, i)
        write_state(folder, drift)
        yield running


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_tabs_of_canary_and_drift(gateway: Gateway, width: int, dark: bool) -> None:
    async def go() -> None:
        url = f"http://127.0.0.1:{gateway.port}/"
        async with browser.open_tab(url, width=width, height=1400, dark=dark) as tab:
            await tab.wait_for(f"{TABS}.slice(0, 3).join() === 'Routing,Canary,Drift'")
            assert "canary-section" not in await tab.js(VISIBLE)
            await tab.js("document.querySelector('[role=tab]').focus()")
            await tab.press("ArrowRight")
            assert await tab.js(VISIBLE) == ["canary-section"]
            said = await tab.js("document.getElementById('canary-section').innerText")
            assert (
                "Rolled back: the new router has 0\N{NO-BREAK SPACE}% of the conversations" in said
            )
            assert "alarm: errors worse than allowed" in said
            rows = await tab.js("document.querySelectorAll('#canary-outcomes tr').length")
            assert rows == 4
            assert await tab.js(FITS)
            await look(tab, f"canary-{width}-{'dark' if dark else 'light'}")
            await tab.press("ArrowRight")
            assert await tab.js(VISIBLE) == ["drift-section"]
            said = await tab.js("document.getElementById('drift-section').innerText")
            assert "win_rate: unlike the" in said
            assert "<b>weak</b>" in said
            assert await tab.js(FITS)
            await look(tab, f"drift-{width}-{'dark' if dark else 'light'}")
            await tab.press("ArrowRight")
            text = "document.getElementById('learn-section').innerText"
            await tab.wait_for(f"{text}.includes('No router was proposed.')")  # it is read often
            said = await tab.js(text)
            assert "No router <b>is</b> needed." in said
            assert "2001-09-09 01:46:40 UTC: /a/proposed-1" in said
            assert await tab.js(FITS)
            await look(tab, f"learn-{width}-{'dark' if dark else 'light'}")
            await tab.press("ArrowLeft")
            assert await tab.js("location.hash") == "#Drift"
            await tab.do("Page.reload")  # the address has the tab
            await tab.wait_for(f"{VISIBLE}.join() === 'drift-section'")
            await tab.press("Tab")
            assert tab.errors == []

    asyncio.run(go())


@needs_browser
def test_there_are_no_tabs_where_nothing_is_on(upstream_server: Server, tmp_path: Path) -> None:
    text = CONFIG.format(base_url=upstream_server.base_url, router=BUNDLED, more="")
    text = text[: text.index("[journal]")]

    async def go(url: str) -> None:
        async with browser.open_tab(url) as tab:
            await tab.wait_for("document.querySelectorAll('#router option').length === 1")
            await tab.wait_for("document.getElementById('tabs').hidden")
            assert "canary-section" not in await tab.js(VISIBLE)
            assert tab.errors == []

    with gateways.start("--config", gateways.write_config(tmp_path, text)) as running:
        asyncio.run(go(f"http://127.0.0.1:{running.port}/"))
