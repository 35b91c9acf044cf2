"""The page shows a choice among candidates: each one's chance, price, and why it was not taken."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import browser
from fakes import gateway as gateways
from fakes.browser import look, needs_browser
from fakes.gateway import Gateway
from fakes.planned import Server
from gateway.test_page import FITS, url_of

POEM = "Write a poem about rain and winter."
CONFIG = """
[policy]
choose = "spend_at_most=2"
router = "router"
[endpoint]
base_url = "{base_url}"
[[rules]]
deny = ["a-model-with-a-rather-long-name-2025-11-28"]
"""


def write_models(folder: Path) -> str:
    names = {"poet": 10.0, "sums": 1.0, "a-model-with-a-rather-long-name-2025-11-28": 0.1}
    nouns = ("rain", "horses", "a river", "stars", "bread", "the sea", "winter", "a train")
    rows: list[dict[str, Any]] = [
        {"prompt": f"Write a poem about {a} and <b>{b}</b>.", "scores": {"poet": 1, "sums": 0}}
        for a in nouns for b in nouns
    ]  # fmt: skip
    rows += [
        {"prompt": f"Compute {a} times {b} plus {a + b}.", "scores": {"poet": 0, "sums": 1}}
        for a in range(8) for b in range(8)
    ]  # fmt: skip
    graded = folder / "graded.jsonl"
    graded.write_text("\n".join(map(json.dumps, rows)))
    trained = subprocess.run(
        [sys.executable, "-m", "fastroute", "train", "models", "--data", str(graded),
         "--output", str(folder / "router"), "--keep-prompts", "texts"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert (folder / "router").exists(), trained.stderr
    return "".join(
        f'[[candidates]]\nname = "{name}"\ninput_usd_per_mtok = {usd}\n'
        f"output_usd_per_mtok = {usd}\nquality_prior = 0.5\n"
        for name, usd in names.items()
    )


@pytest.fixture(scope="module")
def gateway(upstream_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("candidates")
    text = write_models(folder) + CONFIG.format(base_url=upstream_server.base_url)
    with gateways.start("--config", gateways.write_config(folder, text)) as found:
        yield found


def ask(gateway: Gateway, path: str) -> Any:
    body = {"model": "fastroute", "messages": [{"role": "user", "content": POEM}]}
    return gateway.ask("POST", path, body)


def test_the_decision_names_the_nearest_graded_prompts(gateway: Gateway) -> None:
    found = ask(gateway, "/v1/route").json()
    assert not found["abstained"]
    poet, sums, _ = found["candidates"]
    assert poet["quality"] > 0.8 > sums["quality"]
    assert poet["low"] < poet["quality"] < poet["high"]
    first = found["nearest"][0]
    assert first["prompt"].startswith("Write a poem")
    assert first["scores"] == {"poet": 1.0, "sums": 0.0}
    assert first["similarity"] > 0.5
    # The log has the candidates of a request, and no graded prompt.
    assert ask(gateway, "/v1/chat/completions").status == 200
    line = gateway.wait_for(lambda: gateway.events("request")[1:])[-1]
    assert len(line["candidates"]) == 3
    assert "Write a poem" not in "".join(gateway.lines)


def test_the_page_knows_of_the_candidates(gateway: Gateway) -> None:
    about = gateway.ask("GET", "/ui/about").json()
    assert about["candidates"][:2] == ["poet", "sums"]
    assert (about["policy"], about["strong_model"]) == ("spend_at_most=2", "")
    before = gateway.ask("GET", "/ui/stats").json()
    assert ask(gateway, "/v1/chat/completions").status == 200
    stats = gateway.ask("GET", "/ui/stats").json()
    assert stats["has_prices"]
    assert stats["spending"]["spent_usd"] > before["spending"]["spent_usd"]
    assert stats["spending"]["quality_per_usd"] > 0
    assert {row["router"] for row in stats["by_model"]} == {"candidates"}


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_a_choice_on_the_page(gateway: Gateway, width: int, dark: bool) -> None:
    async def run() -> None:
        async with browser.open_tab(url_of(gateway), width=width, height=1600, dark=dark) as tab:
            await tab.wait_for("$('pair').textContent.includes('3 candidates by spend_at_most=2')")
            assert await tab.js("$('threshold-label').hidden")
            await tab.js(f"$('prompt').value = {POEM!r}")
            await tab.js("$('route-form').requestSubmit()")
            await tab.wait_for("!$('choice').hidden")
            cells = "(r) => [...r.cells].map((c) => c.innerText)"
            rows = f"[...$('candidates').tBodies[0].rows].map({cells})"
            poet, sums, other = await tab.js(rows)
            assert (poet[0], sums[0]) == ("poet", "sums")
            assert float(poet[1].split()[0]) > float(sums[1].split()[0])
            assert poet[2].startswith("$0.00")
            assert "rule 1 denies a-model-with-a-rather-long-name-2025-11-28" in other[0]
            chosen = await tab.js(
                "$('candidates').querySelector('.is-chosen').cells[0].textContent"
            )
            assert chosen == await tab.js("$('choice-model').textContent")
            near = await tab.js("$('graded').firstChild.textContent")
            assert near.startswith("Write a poem")
            assert "poet 1.00, sums 0.00" in near
            assert await tab.js("document.querySelectorAll('#graded b').length") == 0
            await tab.wait_for("$('tiles').textContent.includes('Spent of the ceiling')")
            assert "To the strong model" not in await tab.js("$('tiles').textContent")
            assert await tab.js("$('decision').hidden")
            assert await tab.js(FITS)
            await look(tab, f"page-candidates-{width}-{'dark' if dark else 'light'}")
            assert tab.errors == []

    asyncio.run(run())
