"""Chromium without a window, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

PROGRAM = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="no chromium; install it to open the page in a browser"
)
_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--remote-debugging-port=0",
    "--disable-dev-shm-usage",
]


class Tab:
    """One tab. Errors of its scripts and console are in ``errors``."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self.errors: list[str] = []
        self.reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            elif said["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.errors.append(json.dumps(said["params"]))

    async def do(self, method: str, **parameters: Any) -> Any:
        """One command of the protocol."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        said = await asyncio.wait_for(self._waiting[number], 30)
        assert "error" not in said, said["error"]["message"]
        return said["result"]

    async def js(self, code: str) -> Any:
        """The value of an expression in the page."""
        found = await self.do(
            "Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def _is_true(self, code: str) -> bool:
        try:
            return bool(await self.js(code))
        except AssertionError as error:  # asked while another page was loaded
            if "navigated" not in str(error):
                raise
            return False

    async def wait_for(self, code: str, timeout_s: float = 60.0) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + timeout_s
        while not await self._is_true(code):
            assert time.monotonic() < end, f"{code}: {self.errors}"
            await asyncio.sleep(0.05)

    async def press(self, key: str, modifiers: int = 0, text: str = "") -> None:
        """Press and release a key; ``modifiers``: 2 is Ctrl, 8 is Shift."""
        codes = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "Home": 36, "End": 35}
        common = {"key": key, "code": key, "modifiers": modifiers}
        common["windowsVirtualKeyCode"] = codes.get(key, 0)
        await self.do("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        await self.do("Input.dispatchKeyEvent", type="keyUp", **common)

    async def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        found = await self.do("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(found["data"]))


async def look(tab: Tab, name: str) -> None:
    """Keep a screenshot where FASTROUTE_SCREENSHOTS says, for somebody to look at."""
    folder = os.environ.get("FASTROUTE_SCREENSHOTS")
    if folder:
        await tab.screenshot(Path(folder) / f"{name}.png")


@asynccontextmanager
async def open_tab(
    url: str, *, width: int = 1280, height: int = 900, dark: bool = False
) -> AsyncIterator[Tab]:
    """Open ``url`` in a new browser, which ends with the block."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [str(PROGRAM), *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            file = Path(profile) / "DevToolsActivePort"
            end = time.monotonic() + 30
            while not (file.exists() and file.read_text().strip()):
                assert time.monotonic() < end, "the browser did not start"
                await asyncio.sleep(0.05)
            port = file.read_text().split()[0]
            async with aiohttp.ClientSession() as session:
                async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                    page = next(t for t in await answer.json() if t["type"] == "page")
                async with session.ws_connect(
                    page["webSocketDebuggerUrl"], max_msg_size=2**26
                ) as socket:
                    tab = Tab(socket)
                    for domain in ("Page", "Runtime", "Log"):
                        await tab.do(f"{domain}.enable")
                    await tab.do(
                        "Emulation.setDeviceMetricsOverride",
                        width=width,
                        height=height,
                        deviceScaleFactor=1,
                        mobile=width < 600,
                    )
                    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                    await tab.do("Emulation.setEmulatedMedia", features=[scheme])
                    await tab.do("Page.navigate", url=url)
                    await tab.wait_for("document.readyState === 'complete'")
                    yield tab
                    tab.reader.cancel()
        finally:
            process.terminate()
            process.wait(timeout=20)
