"""What the two transports over httpx2 share: clients, requests, and the translation of errors."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fastroute.errors import DispatchError
from fastroute.http.environment import missing_socks
from fastroute.http.failures import (
    MOST_ANSWER_BYTES,
    MOST_ERROR_BYTES,
    connect_timeout,
    connection_error,
    cut_error,
    late_error,
    malformed,
    unsendable,
)
from fastroute.http.request import RawHeaders, Request, default_headers, without_encoding

if TYPE_CHECKING:
    import ssl

    import httpx2

_MAX_CONNECTIONS = 1000
_KEPT_CONNECTIONS = 100
_KEPT_S = 30.0


def client_options(proxy: str | None, tls: ssl.SSLContext, *, keep: bool) -> dict[str, Any]:
    """Arguments of an httpx2 client whose connections are kept, or used once each."""
    import httpx2

    if proxy is not None and proxy.startswith("socks"):
        try:
            import socksio  # noqa: F401
        except ImportError as error:
            raise missing_socks() from error
    return {
        "verify": tls,
        "trust_env": False,  # see fastroute.http.environment
        "proxy": proxy,
        "limits": httpx2.Limits(
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_KEPT_CONNECTIONS if keep else 0,
            keepalive_expiry=_KEPT_S,
        ),
    }


class Attempt:
    """One attempt at a request, and how far it got."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.connected = False  #: whether it opened a connection of its own
        self.begun = False  #: whether the head of an answer came
        #: when its time is up, on the monotonic clock.
        self.end_s = time.monotonic() + request.limit_s
        self._received_bytes = 0
        self._parts: list[bytes] = []
        self._whole_of: httpx2.Response | None = None

    def trace(self, event: str, _: dict[str, Any]) -> None:
        """Receives httpx2's trace events for the request."""
        self.connected |= ".connect_tcp." in event

    async def trace_async(self, event: str, _: dict[str, Any]) -> None:
        """The same in an event loop."""
        self.connected |= ".connect_tcp." in event

    def prepare(self, client: httpx2.Client | httpx2.AsyncClient, trace: object) -> httpx2.Request:
        """The request as httpx2 has it."""
        import httpx2

        request = self.request
        ours: list[tuple[bytes, bytes]] = httpx2.Headers(default_headers(request)).raw
        named = {name for name, _ in request.raw_headers}
        headers = [pair for pair in ours if pair[0] not in named]
        limit_s = request.limit_s
        return client.build_request(
            request.method,
            request.endpoint.address(request.path).url,
            content=request.body or None,
            headers=httpx2.Headers([*headers, *request.raw_headers]),
            timeout=httpx2.Timeout(
                limit_s, connect=min(request.endpoint.connect_timeout_s, limit_s)
            ),
            extensions={"trace": trace},
        )

    def begin(self, response: httpx2.Response) -> bool:
        """The head of an answer came: whether its body is handed on as a stream."""
        self.begun = True
        if self.request.stream and response.is_success:
            return True
        self._whole_of = response
        return False

    def add(self, piece: bytes) -> bool:
        """Take a piece of a body that is read as a whole; whether more is wanted."""
        self._parts.append(piece)
        self._received_bytes += len(piece)
        if time.monotonic() > self.end_s:  # each wait was short enough, all together were not
            raise self.late()
        assert self._whole_of is not None
        if not self._whole_of.is_success:
            return self._received_bytes < MOST_ERROR_BYTES
        if self._received_bytes > MOST_ANSWER_BYTES:
            raise malformed(self.request, f"the answer is longer than {MOST_ANSWER_BYTES} bytes")
        return True

    def body(self) -> bytes:
        """The outcome."""
        return b"".join(self._parts)

    def late(self) -> DispatchError:
        """The error for an answer that took too long."""
        return late_error(self.request, f"complete answer in {self.request.limit_s:.3g} s")

    @contextmanager
    def translated(self, client: httpx2.Client | httpx2.AsyncClient) -> Iterator[None]:
        """Translate httpx2's exceptions into fastroute's; the original is the cause."""
        import httpx2

        request = self.request
        try:
            yield
        except httpx2.TimeoutException as error:
            if isinstance(error, (httpx2.ConnectTimeout, httpx2.PoolTimeout)):
                raise connect_timeout(request) from error
            raise self.late() from error
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            raise unsendable(request, error) from error
        except httpx2.DecodingError as error:
            raise malformed(request, f"the answer can't be decompressed: {error}") from error
        except httpx2.RequestError as error:
            answer = self._whole_of
            if answer is not None and answer.is_success and self._received_bytes:
                raise cut_error(request, self._received_bytes, error) from error
            raise connection_error(request, error) from error
        except RuntimeError as error:
            if client.is_closed:
                raise DispatchError("the transport was closed during the request") from error
            raise

    def was_stale(self) -> bool:
        """Whether a failed attempt used a kept connection and got nothing: the provider may have
        closed it a while ago."""
        return not (self.connected or self.begun)


def headers_of(response: httpx2.Response) -> RawHeaders:
    """The headers of an answer, whose body is handed on decompressed."""
    return without_encoding(tuple((name.lower(), value) for name, value in response.headers.raw))
