"""The page shows what the cheap models said, whether they agreed, and what was saved."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import browser, openai_chat
from fakes.gateway import Gateway
from fakes.planned import Server, View
from gateway.cascade_models import ASKED, NAMES, ask, says, start, start_models, views
from gateway.test_page import FITS, look, needs_browser, url_of

STALL = {"kind": "stall", "seconds": 9}


@pytest.fixture(scope="module")
def running() -> Iterator[dict[str, Server]]:
    with start_models(openai_chat) as models:
        yield models


@pytest.fixture
def models(running: dict[str, Server]) -> dict[str, View]:
    return views(running)


@pytest.fixture
def gateway(running: dict[str, Server], tmp_path: Path) -> Iterator[Gateway]:
    with start(tmp_path, running) as found:
        yield found


def post(gateway: Gateway, **more: Any) -> Any:
    body = {"model": "cascade", "messages": ASKED} | more
    return gateway.ask("POST", "/ui/cascade", body)


def test_the_evidence_of_one_request(gateway: Gateway, models: dict[str, View]) -> None:
    for name, text in (("weak", "So #### 7"), ("helper", "It is 7."), ("other", "")):
        models[name].plan(says(text) if text else STALL)
    found = post(gateway).json()
    assert (found["reason"], found["votes"], found["answers"]) == ("agree", 2, 2)
    assert [call.get("text") for call in found["calls"]] == ["So #### 7", "It is 7.", None]
    assert found["saved_usd"] > 0
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    models["weak"].plan(says("#### 7"))
    models["helper"].plan({"kind": "status", "status": 500})
    models["other"].plan(says("#### 8"))
    models["strong"].plan(says("", tool_calls=[call]))
    found = post(gateway).json()
    assert [call["outcome"] for call in found["calls"]] == [
        "not_sent",
        "failed",
        "not_sent",
        "sent",
    ]
    assert found["calls"][-1]["tool_calls"] == [{"name": "f", "arguments": "{}"}]
    assert found["saved_usd"] < 0
    stats = gateway.ask("GET", "/ui/stats").json()
    assert {row["reason"]: row["count"] for row in stats["cascades"]} == {"agree": 1, "disagree": 1}
    assert stats["saved_by_evidence_usd"] == pytest.approx(stats["saved_usd"])
    # It is a request like others: counted, and without the answers in the log.
    lines = gateway.wait_for(lambda: gateway.events("request")[1:] and gateway.events("request"))
    assert [line["evidence"] for line in lines] == ["agree 2/2", "disagree 1/2"]
    assert "So #### 7" not in "".join(gateway.lines)


def test_what_is_no_cascade_is_answered_as_ever(gateway: Gateway, models: dict[str, View]) -> None:
    answer = post(gateway, n=2)
    assert answer.json()["choices"][0]["message"]["content"].startswith("echo")
    for name in NAMES:
        models[name].plan({"kind": "status", "status": 503})
    assert post(gateway).status == 503
    assert gateway.ask("POST", "/ui/cascade", b"{").status == 400


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_a_cascade_from_the_page(
    gateway: Gateway, models: dict[str, View], width: int, dark: bool
) -> None:
    said = "There were 9 eggs, and 2 were eaten. <b>9 - 2 = 7</b>\n#### 7"

    async def run() -> None:
        async with browser.open_tab(url_of(gateway), width=width, height=1800, dark=dark) as tab:
            await tab.wait_for("!document.getElementById('cascade-section').hidden")
            text = await tab.js("$('cascade-said').textContent")
            assert text.startswith("Sends the prompt above to weak, helper, other, and to strong")
            await tab.js("$('ask-cascade').click()")
            await tab.wait_for("!$('cascade-problem').hidden")
            await tab.js("$('prompt').value = 'How many eggs are left?'")
            await tab.js("$('ask-cascade').click()")
            await tab.wait_for("!$('evidence').hidden")
            text = await tab.js("$('evidence-reason').textContent")
            assert text == "2 of 2 answers are equal: the cheap models agree."
            assert await tab.js("$('evidence-model').textContent") == "Sent: weak"
            answers = "[...document.querySelectorAll('#answers li')].map((e) => e.textContent)"
            found = await tab.js(answers)
            assert [line.split(" ")[0] for line in found] == [
                "weaksent",
                "helperagrees",
                "othercancelled",
            ]
            assert said in found[0]
            assert await tab.js("document.querySelectorAll('#answers b').length") == 0
            text = await tab.js("$('evidence-cost').textContent")
            assert text.endswith("less than the strong model alone.")
            await tab.wait_for("document.querySelectorAll('#cascades tr').length === 2")
            text = await tab.js("$('cascade-calls').textContent")
            assert "weak sent 1" in text
            assert "other cancelled 1" in text
            assert "Saved by cascades: " in text
            assert await tab.js(FITS)
            await look(tab, f"page-cascade-{width}-{'dark' if dark else 'light'}")
            assert tab.errors == []

    for name, text in (("weak", "#### 7"), ("helper", "#### 8"), ("other", "#### 6")):
        models[name].plan(says(text))
    assert ask(gateway).headers["x-fastroute-evidence"] == "disagree 1/3"
    models["weak"].plan(says(said))
    models["helper"].plan(says("The answer is 7."))
    models["other"].plan(STALL)
    asyncio.run(run())
