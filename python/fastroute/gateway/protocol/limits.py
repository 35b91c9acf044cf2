"""How much a client may send, how fast, and how many at once."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from fastroute.errors import FastRouteError
from fastroute.gateway.config.settings import ServerConfig
from fastroute.gateway.protocol.replies import Receive, RefusalError, Scope


class ClientGoneError(FastRouteError):
    """The client hung up."""


class Admission:
    """Counts requests under way; one too many is told to come back later."""

    def __init__(self, config: ServerConfig) -> None:
        self.configure(config)
        self.count = 0

    def configure(self, config: ServerConfig) -> None:
        """Take the limit of a new config."""
        self._most = config.max_concurrency
        self._retry_after_s = config.retry_after_s

    def enter(self) -> None:
        """Take a place. Raises RefusalError 429 if there is none."""
        if self.count >= self._most:
            seconds = str(max(1, math.ceil(self._retry_after_s)))
            raise RefusalError(
                429,
                "too_many_requests",
                f"the gateway is serving {self._most} requests already; try again in {seconds} s",
                headers={"retry-after": seconds},
            )
        self.count += 1

    def leave(self) -> None:
        """Give the place back."""
        self.count -= 1


async def read_body(scope: Scope, receive: Receive, config: ServerConfig) -> bytes:
    """The whole body. Raises RefusalError if it is too long or too slow, ClientGoneError."""
    most = config.max_body_bytes
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value[:20]) > most):
            raise _too_long(most)
    message = await _receive(receive, config.body_timeout_s)
    body: bytes = message.get("body", b"")
    if len(body) > most:
        raise _too_long(most)
    if not message.get("more_body", False):
        return body
    parts = bytearray(body)
    end_s = asyncio.get_running_loop().time() + config.body_timeout_s
    while message.get("more_body", False):
        left_s = end_s - asyncio.get_running_loop().time()
        message = await _receive(receive, max(0.001, left_s))
        parts += message.get("body", b"")
        if len(parts) > most:
            raise _too_long(most)
    return bytes(parts)


async def _receive(receive: Receive, timeout_s: float) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError as error:
        raise RefusalError(
            408, "body_too_slow", "the body did not come in time", headers={"connection": "close"}
        ) from error
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


def _too_long(most: int) -> RefusalError:
    return RefusalError(
        413,
        "body_too_long",
        f"the body is longer than {most} bytes, the gateway's max_body_bytes",
        headers={"connection": "close"},  # what is left of it is not read
    )
