"""The page at ``/``, in a real browser without a window."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fakes import browser
from fakes import gateway as gateways
from fakes.browser import look, needs_browser
from fakes.gateway import Gateway
from fakes.planned import Server
from fastroute.gateway.protocol.auth import hash_key

KEY = "fr-0123456789abcdef0123456789abcdef"
HARD = "a long question " * 20

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length", "random", "mf", "sw_ranking"]
threshold = 0.5
[routers.length]
half_length = 100.0
[routers.sw_ranking]
battles = "{battles}"
strong_model = "good"
weak_model = "bad"
num_tiers = 2
[endpoint]
base_url = "{base_url}"
[models.strong]
input_usd_per_mtok = 10.0
output_usd_per_mtok = 30.0
[models.weak]
input_usd_per_mtok = 1.0
output_usd_per_mtok = 3.0
"""


def write(folder: Path, base_url: str, more: str = "") -> str:
    battles = folder / "battles.jsonl"
    lines = [
        {
            "prompt": f"<b>Question</b> number {i} about {'primes' if i % 2 else 'cooking rice'}",
            "model_a": "good",
            "model_b": "bad",
            "winner": "model_b" if i % 5 == 0 else "model_a",
        }
        for i in range(20)
    ]
    battles.write_text("\n".join(map(json.dumps, lines)))
    text = CONFIG.format(battles=battles, base_url=base_url) + more
    return gateways.write_config(folder, text)


@pytest.fixture(scope="module")
def gateway(upstream_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    path = write(tmp_path_factory.mktemp("page"), upstream_server.base_url)
    with gateways.start("--config", path) as running:
        for content in ("short", HARD):
            body = {
                "model": "router-length-0.5",
                "messages": [{"role": "user", "content": content}],
            }
            assert running.ask("POST", "/v1/chat/completions", body).status == 200
        yield running


def url_of(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}/"


FITS = "document.documentElement.scrollWidth <= innerWidth"
READY = "document.querySelectorAll('#decisions tr').length === 2 && document.getElementById('dot')"


@needs_browser
@pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (360, False), (360, True)]
)
def test_a_decision_by_keyboard_at_every_width_and_shade(
    gateway: Gateway, width: int, dark: bool
) -> None:
    async def run() -> None:
        async with browser.open_tab(url_of(gateway), width=width, height=1800, dark=dark) as tab:
            await tab.js("document.getElementById('router').value")
            await tab.wait_for("document.querySelectorAll('#decisions tr').length === 2")
            # The first Tab is the way past the header; then the prompt is typed and sent.
            await tab.press("Tab")
            assert await tab.js("document.activeElement.className") == "skip"
            await tab.js("document.getElementById('prompt').focus()")
            await tab.do("Input.insertText", text=HARD)
            await tab.press("Enter", modifiers=2)
            await tab.wait_for("!document.getElementById('decision').hidden")
            assert await tab.js("document.getElementById('model').textContent") == "strong"
            said = await tab.js("document.getElementById('said').textContent")
            assert said.startswith("win rate 0.7619 ≥ threshold 0.5")
            await tab.wait_for("document.querySelectorAll('#battles li').length === 5")
            # What a battle says is text, whatever it holds.
            assert await tab.js("document.querySelectorAll('#battles b').length") == 0
            assert await tab.js(FITS)
            await look(tab, f"page-{width}-{'dark' if dark else 'light'}")
            ink, paper = await tab.js(
                "(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))"
            )
            assert (_light(ink), _light(paper)) == (dark, not dark)
            assert tab.errors == []

    asyncio.run(run())


def _light(colour: str) -> bool:
    return sum(map(int, colour[4:-1].split(","))) > 3 * 128


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_slider_moves_along_the_curve(gateway: Gateway, width: int, dark: bool) -> None:
    async def run() -> None:
        async with browser.open_tab(url_of(gateway), width=width, height=1800, dark=dark) as tab:
            await tab.wait_for("document.querySelectorAll('#decisions tr').length === 2")
            # length was never calibrated and has no curve; mf has one.
            assert await tab.js("document.getElementById('curve-section').hidden")
            await tab.js(
                "(r => { r.value = 'mf'; r.dispatchEvent(new Event('change')); })"
                "(document.getElementById('router'))"
            )
            await tab.wait_for("!document.getElementById('curve-section').hidden")
            await tab.js("document.getElementById('slider').focus()")
            places = []
            for key in ("Home", "End"):
                await tab.press(key)
                places.append(
                    await tab.js("Number(document.getElementById('dot').getAttribute('cx'))")
                )
                places.append(await tab.js("document.getElementById('curve-said').textContent"))
            assert places[0] == 610  # below every win rate: all calls
            everything = "100.0 % of calls to the strong model keep 100.0 %".replace(" %", "\xa0%")
            assert places[1].startswith(everything)
            assert places[1].endswith("at 100.0\N{NO-BREAK SPACE}% of its cost.")
            assert places[2] == 60
            assert places[3].startswith("0.0\N{NO-BREAK SPACE}% of calls")
            assert places[3].endswith("at 10.0\N{NO-BREAK SPACE}% of its cost.")
            # The slider spans the scores, so that every step of it moves some calls.
            shares = await tab.js("curve.shares")
            assert sum(0.01 < share < 0.99 for share in shares) > 0.9 * len(shares)
            ends = "['min', 'max'].map((e) => Number($('slider-' + e).textContent))"
            low, high = await tab.js(ends)
            assert 0.0 < low < high < 1.0
            await tab.press("ArrowLeft")
            await tab.js("document.getElementById('adopt').click()")
            adopted = float(await tab.js("document.getElementById('threshold').value"))
            assert low < adopted < high
            assert adopted > 0.9 * high
            assert await tab.js(FITS)
            await look(tab, f"page-curve-{width}-{'dark' if dark else 'light'}")
            assert tab.errors == []

    asyncio.run(run())


@needs_browser
def test_a_problem_is_shown(gateway: Gateway) -> None:
    async def run() -> None:
        async with browser.open_tab(url_of(gateway)) as tab:
            await tab.wait_for("document.querySelectorAll('#decisions tr').length === 2")
            await tab.js(
                "document.getElementById('prompt').value = 'x';"
                "document.getElementById('threshold').removeAttribute('max');"
                "document.getElementById('threshold').value = '7';"
                "document.getElementById('route-form').requestSubmit()"
            )
            await tab.wait_for("!document.getElementById('problem').hidden")
            said = await tab.js("document.getElementById('problem').textContent")
            assert "threshold must be a number from 0 to 1" in said

    asyncio.run(run())


@needs_browser
def test_the_page_asks_for_the_key(upstream_server: Server, tmp_path: Path) -> None:
    more = f'\n[[keys]]\nsha256 = "{hash_key(KEY)}"\n'
    path = write(tmp_path, upstream_server.base_url, more)

    async def run(gateway: Gateway) -> None:
        async with browser.open_tab(url_of(gateway), width=360) as tab:
            await tab.wait_for("!document.getElementById('unlock').hidden")
            assert await tab.js(FITS)
            await look(tab, "page-key")
            await tab.js("document.getElementById('key').focus()")
            await tab.do("Input.insertText", text=KEY)
            await tab.press("Enter", text="\r")
            await tab.wait_for("document.getElementById('pair').textContent.includes('strong')")
            assert await tab.js("document.getElementById('unlock').hidden")

    with gateways.start("--config", path) as gateway:
        assert gateway.ask("GET", "/ui/stats").status == 401
        asyncio.run(run(gateway))


def test_counts_and_dollars(gateway: Gateway) -> None:
    found: Any = gateway.ask("GET", "/ui/stats").json()
    assert (found["decisions"], found["strong"]) == (2, 1)
    # 3 tokens in and 2 out, by both: 10 * 3 + 30 * 2 and a tenth of it, per million.
    assert found["spent_usd"] == pytest.approx(99e-6)
    assert found["saved_usd"] == pytest.approx(81e-6)


def test_the_curve_falls_with_the_threshold(gateway: Gateway) -> None:
    found = gateway.ask("GET", "/ui/curve?router=mf").json()
    for name in ("shares", "kept"):
        values = found[name]
        assert (values[0], values[-1]) == (1.0, 0.0)
        assert all(a >= b for a, b in pairwise(values))
    # A router that ranks keeps more of the advantage than it makes calls.
    assert all(k >= s - 1e-6 for k, s in zip(found["kept"], found["shares"], strict=True))
    assert found["price_ratio"] == pytest.approx(0.1)
    assert gateway.ask("GET", "/ui/curve?router=nobody").json()["thresholds"] == []


def test_files_need_nothing_from_elsewhere(gateway: Gateway) -> None:
    page = gateway.ask("GET", "/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/ui/page.css", "/ui/page.js"):
        answer = gateway.ask("GET", path)
        assert answer.status == 200
        text = answer.body.decode()
        assert "https://" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")


def test_the_page_is_off_by_a_flag(upstream_server: Server) -> None:
    arguments = ("--routers", "length", "--strong-model", "s", "--weak-model", "w", "--no-page")
    with gateways.start(*arguments, "--base-url", upstream_server.base_url) as gateway:
        for path in ("/", "/ui/stats", "/ui/page.js"):
            assert gateway.ask("GET", path).status == 404
