"""The gateway as an ASGI application, for uvicorn, Ray Serve and others.

A request goes on to the gateway's own HTTP server, in this process and event loop, through a Unix
socket that no other user can open. So limits, compressed bodies, streams and cancelled requests are
what ``fastroute serve`` has, by the same code.
"""

from __future__ import annotations

import asyncio
import os
import socket
import string
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import yarl

from fastroute.errors import FastRouteError
from fastroute.gateway.config.settings import Config, load_config
from fastroute.gateway.operations.logs import log, log_to_stderr
from fastroute.gateway.operations.metrics import Metrics
from fastroute.gateway.operations.run import start, stop
from fastroute.gateway.operations.state import State
from fastroute.gateway.protocol.headers import end_to_end
from fastroute.gateway.protocol.replies import to_text

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: Of these aiohttp would add its own.
_AUTOMATIC = ("accept", "accept-encoding", "content-type", "user-agent")


class GatewayApp:
    """An ASGI 3 application that serves what ``fastroute serve --config FILE`` serves.

    It can be pickled. Its server must support the lifespan protocol: the gateway starts and stops
    with it. ``host``, ``port`` and ``workers`` of the file are those of the ASGI server, but
    without ``[[keys]]`` a loopback ``host`` means that other names of this server are refused.

    Args:
        config: the configuration file. It is read at startup, which fails if it is not valid.
    """

    def __init__(self, config: str | os.PathLike[str]) -> None:
        self._config = Path(config).absolute()
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one connection of ASGI."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            if self._session is None:
                raise RuntimeError("the gateway has not started: GatewayApp needs ASGI's lifespan")
            await _answer(self._session, scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        async with AsyncExitStack() as stack:
            try:
                self._session = await stack.enter_async_context(_gateway(self._config))
            except (FastRouteError, OSError) as error:
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self._session = None
        await send({"type": "lifespan.shutdown.complete"})


@asynccontextmanager
async def _gateway(path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """A running gateway, and a client of it."""

    def load() -> Config:
        return load_config(str(path))

    config = await asyncio.to_thread(load)
    log_to_stderr(config.server.log_level)
    state = await asyncio.to_thread(State, config, load, Metrics())
    with tempfile.TemporaryDirectory(prefix="fastroute-") as folder:
        address = f"{folder}/gateway"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(address)
        server = await start(state, listener)
        log("serving ASGI", keys=len(config.keys))
        try:
            async with aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(address, limit=0),
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                auto_decompress=False,
                max_field_size=2**20,  # the gateway has its own limit of a provider's headers
            ) as session:
                yield session
        finally:
            await stop(state, server, config.server.shutdown_timeout_s)


async def _answer(
    session: aiohttp.ClientSession, scope: Message, receive: Receive, send: Send
) -> None:
    """Answer a request; raises ConnectionError where the answer breaks off."""
    left, is_read = asyncio.Event(), asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                left.set()
                await asyncio.Future()  # until this request is cancelled
            yield message.get("body", b"")
            if not message.get("more_body", False):
                is_read.set()
                return

    async def watch() -> None:
        await is_read.wait()
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    names = {name.lower() for name, value in scope["headers"] if value != b"0"}
    has_body = bool(names & {b"content-length", b"transfer-encoding"})
    if not (has_body or scope["http_version"].startswith("1")):
        has_body = scope["method"] not in ("GET", "HEAD")
    if not has_body:
        is_read.set()
    answering = asyncio.create_task(_pass_on(session, scope, body() if has_body else None, send))
    tasks = (answering, asyncio.create_task(watch()), asyncio.create_task(left.wait()))
    try:
        await asyncio.wait((tasks[0], tasks[2]), return_when=asyncio.FIRST_COMPLETED)
        if answering.done() and not left.is_set():
            await answering
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pass_on(
    session: aiohttp.ClientSession, scope: Message, body: AsyncIterator[bytes] | None, send: Send
) -> None:
    # The ASGI server has answered Expect, and writes Date.
    headers = [item for item in end_to_end(scope["headers"]) if item[0] != b"expect"]
    try:
        async with session.request(
            scope["method"], _url(scope), headers=to_text(headers), data=body, allow_redirects=False
        ) as answer:
            passed = [item for item in end_to_end(answer.raw_headers) if item[0] != b"date"]
            await send({"type": "http.response.start", "status": answer.status, "headers": passed})
            async for piece in answer.content.iter_any():
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except aiohttp.ClientError as error:
        raise ConnectionError("the gateway's response was interrupted") from error
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _url(scope: Message) -> yarl.URL:
    """Where a request goes: its path as it came, below where the application is mounted."""
    path = scope.get("raw_path") or quote(scope["path"]).encode()
    path = path.removeprefix(quote(scope.get("root_path", "")).encode())
    query = scope.get("query_string", b"")
    target = quote(path + b"?" * bool(query) + query, safe=string.printable)
    return yarl.URL(f"http://gateway{target}", encoded=True)
