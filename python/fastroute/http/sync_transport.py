"""The transport for threads: HTTP/1.1 with kept connections and bounded retries, over httpx2."""

from __future__ import annotations

import os
import random
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple, Self

from fastroute._forking import ForkSafeLock
from fastroute.errors import DispatchError, ProviderConnectionError
from fastroute.http.environment import find_proxy, tls_context
from fastroute.http.failures import raise_for_status
from fastroute.http.httpx_client import Attempt, client_options, headers_of
from fastroute.http.request import Request, Response
from fastroute.http.retry import Attempts, RetryPolicy

if TYPE_CHECKING:
    import ssl

    import httpx2


class _ClientKey(NamedTuple):
    process: int
    proxy: str | None
    keep: bool


class HttpTransport:
    """Sends over HTTP/1.1 with kept connections, which threads share and forked children do not.

    No client is made before the first request. Answers are asked for uncompressed. Redirects are
    not followed. Proxies and certificates are those of ``fastroute.http.environment``.

    A stream is returned when its first byte is here: until then it may be retried. A kept
    connection that breaks before an answer begins is replaced at once by a fresh one, which counts
    as the same attempt.

    Args:
        retry: when failed requests are sent again; how often is ``Endpoint.max_retries``.
    """

    def __init__(self, *, retry: RetryPolicy | None = None) -> None:
        self._retry = retry or RetryPolicy()
        self._clients: dict[_ClientKey, httpx2.Client] = {}
        self._tls: ssl.SSLContext | None = None
        self._closed = False
        self._lock = ForkSafeLock()
        self._rng = random.Random()
        # A transport that is dropped without close() leaves no socket open.
        weakref.finalize(self, _close_all, self._clients)

    def send(self, request: Request) -> Response:
        """Send, with retries. Raises as ``Transport`` says, and DispatchError once closed."""
        attempts = Attempts(self._retry, request, self._rng)
        while True:
            try:
                return self._send_once(attempts.request())
            except DispatchError as error:
                wait_s = attempts.wait_s(error)
                if wait_s is None:
                    raise
            time.sleep(wait_s)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            self._closed = True
            _close_all(self._clients)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send_once(self, request: Request) -> Response:
        attempt = Attempt(request)
        try:
            return _exchange(self._client(request), attempt)
        except ProviderConnectionError:
            if not attempt.was_stale():
                raise
        return _exchange(self._client(request, keep=False), Attempt(request))

    def _client(self, request: Request, *, keep: bool = True) -> httpx2.Client:
        import httpx2

        proxy = find_proxy(request.endpoint.address("").url)
        # The child of a fork has connections of its own.
        key = _ClientKey(os.getpid(), proxy, keep)
        with self._lock:
            if self._closed:
                raise DispatchError("this HttpTransport is closed; make a new one")
            if self._tls is None:
                self._tls = tls_context()
            if key not in self._clients:
                self._clients[key] = httpx2.Client(**client_options(proxy, self._tls, keep=keep))
            return self._clients[key]


def _close_all(clients: dict[_ClientKey, httpx2.Client]) -> None:
    while clients:
        clients.popitem()[1].close()


def _exchange(client: httpx2.Client, attempt: Attempt) -> Response:
    """Send once. A stream has its first byte when this returns, any other answer its last."""
    with attempt.translated(client):
        response = client.send(attempt.prepare(client, attempt.trace), stream=True)
        try:
            streams = attempt.begin(response)
            status, headers, pieces = (
                response.status_code,
                headers_of(response),
                response.iter_bytes(),
            )
            if streams:
                first = next(pieces, b"")
                rest = _rest(client, attempt, first, pieces)
                return Response(status, headers, rest, response.close)
            for piece in pieces:
                if not attempt.add(piece):
                    response.close()
                    break
        except BaseException:
            response.close()
            raise
    raise_for_status(attempt.request, status, headers, attempt.body())
    return Response(status, headers, attempt.body())


def _rest(
    client: httpx2.Client, attempt: Attempt, first: bytes, pieces: Iterator[bytes]
) -> Iterator[bytes]:
    with attempt.translated(client):
        if first:
            yield first
        yield from pieces
