"""The tabs of the journal and of savings: figures that another process reads from the database."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from fastroute.gateway.config.journal import JournalConfig
from fastroute.gateway.operations.logs import log
from fastroute.gateway.protocol.replies import json_response
from fastroute.journal import PASSWORD_VARIABLE

if TYPE_CHECKING:
    from fastroute.gateway.operations.state import State

#: Seconds for which figures are shown, and for which they may be read.
_KEPT_S, _PATIENCE_S = 30.0, 120.0


class JournalEndpoint:
    """The handler of ``/ui/journal``.

    A journal may have millions of rows: to read them here would delay requests.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._lock = asyncio.Lock()
        self._read: dict[str, Any] = {}
        self._until_s = 0.0

    async def __call__(self, _: web.BaseRequest) -> web.Response:
        """Counts and savings by month; null where there is no journal yet."""
        section = self._state.gateway.config.journal
        if section is None:
            return json_response({"stats": None, "savings": None})
        async with self._lock:
            if time.monotonic() > self._until_s:
                self._read = {name: await _figures(section, name) for name in ("stats", "savings")}
                self._until_s = time.monotonic() + _KEPT_S
        return json_response(self._read)


async def _figures(section: JournalConfig, name: str) -> Any:
    """What ``fastroute journal NAME --json`` says; None where it fails."""
    words = ("-P", "-m", "fastroute", "journal", name, section.url, "--json")
    secret = {} if section.password is None else {PASSWORD_VARIABLE: section.password}
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, env=os.environ | secret,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(_PATIENCE_S):
            said, _ = await process.communicate()
        return json.loads(said) if process.returncode == 0 else None
    except TimeoutError:
        log("the journal's figures took too long to read", name=name)
        return None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
