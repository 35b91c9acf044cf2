"""The tabs of the journal and of savings, in a real browser."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fakes import browser, openai_billed
from fakes.browser import look, needs_browser
from fakes.gateway import Gateway
from fakes.planned import View
from gateway.test_journal import SHADOW, ask, start, wait_for_budget, wait_for_rows
from gateway.test_page import FITS

PROVIDER = openai_billed


@needs_browser
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (360, True)])
def test_the_tabs_of_journal_and_savings(
    tmp_path: Path, server: View, width: int, *, dark: bool
) -> None:
    async def run(gateway: Gateway) -> None:
        url = f"http://127.0.0.1:{gateway.port}/"
        async with browser.open_tab(url + "#Journal", width=width, dark=dark) as tab:
            await tab.wait_for("document.getElementById('journal-section').offsetHeight > 0")
            said = await tab.js("document.getElementById('journal-section').innerText")
            assert "Requests" in said
            assert "3" in await tab.js("document.querySelector('#journal-tiles dd').innerText")
            assert await tab.js("document.querySelectorAll('#journal-models tr').length") == 2
            assert await tab.js(FITS)
            await look(tab, f"journal-{width}-{'dark' if dark else 'light'}")
            await tab.js("choose('Savings')")
            cells = "[...document.querySelectorAll('#savings-months td')].map((c) => c.innerText)"
            saved, paid, *_, requests = await tab.js(cells)
            assert requests == "3"
            assert paid.startswith("$0.0")
            assert saved.startswith("\N{MINUS SIGN}$0.00")  # each request had a shadow, which cost
            assert " to " in saved
            dollars = "[0, 0.5, 1234.5, 0.0000123456, -0.045549].map(dollars).join(' ')"
            shown = "$0.00 $0.50 $1,234.50 $0.0000123 \N{MINUS SIGN}$0.0455"
            assert await tab.js(dollars) == shown
            assert await tab.js(FITS)
            box = "document.querySelector('#savings-section .scroll')"
            assert await tab.js(f"{box}.scrollWidth <= {box}.clientWidth")  # nothing is cut off
            await look(tab, f"savings-{width}-{'dark' if dark else 'light'}")
            assert tab.errors == []

    more = SHADOW.format(share=1.0, usd=10, more="")
    with start(tmp_path, server, more=more) as gateway:
        wait_for_budget(gateway, tmp_path)
        for prompt in ("short", "another", "long " * 400):
            ask(gateway, prompt)
        wait_for_rows(gateway, tmp_path, 3)
        figures = gateway.ask("GET", "/ui/journal").json()
        assert figures["stats"]["rows"]["requests"] == 3
        assert figures["savings"][0]["requests"] == 3
        asyncio.run(run(gateway))


def test_without_a_journal_there_are_no_figures(tmp_path: Path, gateway: Gateway) -> None:
    assert list(tmp_path.iterdir()) == []
    figures = gateway.ask("GET", "/ui/journal").json()
    assert figures == {"stats": None, "savings": None}
