"""How much a client may send, how fast, and how many at once."""

from __future__ import annotations

import asyncio
import math

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import ContentEncodingError

from fastroute.gateway.config.settings import ServerConfig
from fastroute.gateway.protocol.replies import RefusalError
from fastroute.gateway.request.document import LONG_BYTES

# What aiohttp's server decompresses with the libraries of the extra.
_ENCODINGS = frozenset({"identity", "gzip", "deflate", "zstd"})


class Admission:
    """Counts requests under way; requests above the limit are rejected with 429."""

    def __init__(self, config: ServerConfig) -> None:
        self.configure(config)
        self.count = 0

    def configure(self, config: ServerConfig) -> None:
        """Take the limit of a new config."""
        self._most = config.max_concurrency
        self._retry_after_s = config.retry_after_s

    @property
    def free(self) -> int:
        """How many more requests would be taken."""
        return self._most - self.count

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


async def read_body(request: web.BaseRequest, config: ServerConfig) -> bytes:
    """The whole body, decompressed. Raises RefusalError if it is too long, too slow or can't be
    decompressed."""
    most = config.max_body_bytes
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding not in _ENCODINGS:
        raise RefusalError(
            415,
            "unsupported_encoding",
            f"Content-Encoding {encoding[:80]!r} is not supported; use gzip, deflate, zstd or none",
            headers={"accept-encoding": "gzip, deflate, zstd"},
        )
    if (request.content_length or 0) > most:
        raise _too_long(most)
    expects = request.headers.get("expect", "").lower() == "100-continue"
    if expects and request.version >= HttpVersion11 and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    parts: list[bytes] = []
    size = 0
    content = request.content
    try:
        if content.is_eof() and content.total_bytes <= min(most, LONG_BYTES):
            return content.read_nowait()  # it came with the head, as most do
        async with asyncio.timeout(config.body_timeout_s):
            while piece := await content.readany():
                parts.append(piece)
                size += len(piece)
                if size > most:
                    raise _too_long(most)
    except TimeoutError as error:
        raise RefusalError(
            408, "body_too_slow", f"no complete body in {config.body_timeout_s:g} s"
        ) from error
    except (web.RequestPayloadError, ContentEncodingError) as error:
        raise RefusalError(
            400, "invalid_body", f"the body is not valid chunks, or not {encoding}"
        ) from error
    if len(parts) == 1:
        return parts[0]
    if size <= LONG_BYTES:
        return b"".join(parts)
    return await asyncio.to_thread(b"".join, parts)  # which takes 40 ms for 32 MB


def _too_long(most: int) -> RefusalError:
    return RefusalError(
        413,
        "body_too_long",
        f"the body is longer than {most} bytes, the gateway's max_body_bytes",
    )
