"""Comparing answers and their shadows on the gateway's page, in a real browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import browser, openai_billed
from fakes.browser import look, needs_browser
from fakes.gateway import Gateway
from fakes.planned import View
from fastroute.gateway.protocol.auth import hash_key
from gateway.test_journal import (
    SHADOW,
    ask,
    rows,
    start,
    wait_for_budget,
    wait_for_rows,
    wait_for_shadows,
)
from gateway.test_page import FITS

PROVIDER = openai_billed
TEXTS = "prompts = true\nanswers = true"
SHADOWS = SHADOW.format(share=1.0, usd=10, more="")
KEYS = ("fr-0123456789abcdef0123456789abcdef", "fr-fedcba9876543210fedcba9876543210")


def fill(gateway: Gateway, folder: Path, count: int, key: str = "") -> list[str]:
    """Requests that have a shadow each."""
    wait_for_budget(gateway, folder)
    ids = []
    for i in range(count):
        ids.append(ask(gateway, f"question <b>{i}</b>", key))
        wait_for_shadows(gateway, folder, i + 1)
    wait_for_rows(gateway, folder, count)
    return ids


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_verdicts_by_keys(tmp_path: Path, server: View, width: int, *, dark: bool) -> None:
    async def run(gateway: Gateway) -> None:
        url = f"http://127.0.0.1:{gateway.port}/"
        async with browser.open_tab(url, width=width, dark=dark) as tab:
            label = (
                "[...document.querySelectorAll('[role=tab]')].find((t) => t.innerText === 'Label')"
            )
            await tab.wait_for(f"{label} !== undefined")
            await tab.js(f"{label}.click()")
            await look(tab, f"gateway-label-tab-{width}-{'dark' if dark else 'light'}")
            await tab.js("document.querySelector('#label-section a').click()")
            shown = "document.getElementById('prompt')?.textContent"
            await tab.wait_for(f"{shown} === 'question <b>1</b>'")  # the latest first
            assert await tab.js(FITS)
            page = await tab.js("document.documentElement.outerHTML")
            assert "weak" not in page
            assert "strong" not in page
            await look(tab, f"gateway-label-{width}-{'dark' if dark else 'light'}")
            said = "document.getElementById('progress').textContent"
            for key, expected in (("1", "Saved. 1 of 2"), ("u", "Undone. 0 of 2"),
                                  ("3", "Saved. 1 of 2"), ("2", "Saved. 2 of 2")):  # fmt: skip
                await tab.press(key, text=key)
                await tab.wait_for(f"{said}.startsWith('{expected}')")
            assert tab.errors == []

    with start(tmp_path, server, TEXTS, SHADOWS) as gateway:
        ids = fill(gateway, tmp_path, 2)
        asyncio.run(run(gateway))
    first, second = rows(tmp_path, "judgements")
    assert (first["request_id"], first["winner"], first["judge"]) == (ids[1], "tie", "user")
    assert (second["request_id"], second["winner"]) == (ids[0], second["model_b"])
    assert {second["model_a"], second["model_b"]} == {"strong", "weak"}


def test_each_key_sees_its_own_requests(tmp_path: Path, server: View) -> None:
    keys = "".join(
        f'[[keys]]\nname = "k{i}"\nsha256 = "{hash_key(k)}"\n' for i, k in enumerate(KEYS)
    )
    with start(tmp_path, server, TEXTS, SHADOWS + keys) as gateway:
        fill(gateway, tmp_path, 1, KEYS[0])
        totals = []
        for key in KEYS:
            headers = {"authorization": f"Bearer {key}"}
            answer = gateway.ask("POST", "/ui/label/next", {}, headers)
            assert answer.status == 200
            totals.append(answer.json()["total"])
        assert totals == [1, 0]
        assert gateway.ask("POST", "/ui/label/next", {}).status == 401
        assert gateway.ask("GET", "/ui/label/").status == 200  # holds nothing that is private
        moved = gateway.ask("GET", "/ui/label")
        assert (moved.status, moved.headers["location"]) == (308, "label/")


@pytest.mark.parametrize(
    ("journal", "more"), [("", ""), ("prompts = true", ""), (TEXTS, "[server]\npage = false\n")]
)
def test_without_texts_or_page_there_is_nothing(
    tmp_path: Path, server: View, journal: str, more: str
) -> None:
    with start(tmp_path, server, journal, more) as gateway:
        answer = gateway.ask("POST", "/ui/label/next", {})
        assert answer.status == 404
        assert answer.json()["error"]["code"] == ("not_found" if more else "no_pairs")
