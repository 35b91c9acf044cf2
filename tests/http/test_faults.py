"""What providers and networks do wrong, against servers in other processes, by every transport."""

from __future__ import annotations

import asyncio
import gzip
import socket
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from fakes import forgetful, raw, tls
from fakes.planned import Server, View
from fastroute.errors import (
    DispatchError,
    ProviderConnectionError,
    ProviderResponseError,
    ProviderStatusError,
)
from fastroute.http import AiohttpTransport, Endpoint, Request
from fastroute.resilience import BreakerTransport
from http_ways import WAYS, Send

BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'


@pytest.fixture(params=WAYS.values(), ids=WAYS.keys())
def send(request: pytest.FixtureRequest) -> Send:
    chosen: Send = request.param
    return chosen


@pytest.fixture(scope="module")
def running_forgetful() -> Iterator[Server]:
    with forgetful.start() as server:
        yield server


def make(base_url: str, body: bytes = BODY, *, max_retries: int = 0) -> Request:
    endpoint = Endpoint(base_url, "sk-test-0123456789", timeout_s=20.0, max_retries=max_retries)
    return Request(endpoint, body, stream=body == STREAM)


# What can't be read


@pytest.mark.parametrize(
    "nested", ["[" * 100_000, '{"error":' * 50_000, '{"error": {"message": ' + "[" * 50_000]
)
def test_a_deeply_nested_error_is_an_error_with_its_status(
    running: Server, send: Send, nested: str
) -> None:
    server = View(running)
    server.plan({"kind": "status", "status": 400, "raw": nested})
    with pytest.raises(ProviderStatusError, match="HTTP 400") as caught:
        send(make(server.base_url))
    assert caught.value.body == nested.encode()
    server.plan({"kind": "status", "status": 503, "raw": nested})
    with pytest.raises(ProviderStatusError, match="HTTP 503"):
        send(make(server.base_url, max_retries=0))


@pytest.mark.parametrize("status", [600, 700, 999])
@pytest.mark.parametrize("body", [BODY, STREAM], ids=["whole", "stream"])
def test_a_status_that_http_does_not_have(
    running: Server, send: Send, status: int, body: bytes
) -> None:
    server = View(running)
    server.plan({"kind": "status", "status": status, "raw": "what?"})
    with pytest.raises(ProviderResponseError, match=f"{status} is not a valid status") as caught:
        send(make(server.base_url, body))
    assert caught.value.body == b"what?"


@pytest.mark.parametrize("head", [b"101 Switching Protocols", b"099 Too Low", b"1000 Too High"])
def test_an_answer_that_nobody_asked_for(send: Send, head: bytes) -> None:
    with raw.start() as upstream:
        upstream.plan([b"HTTP/1.1 " + head + b"\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n{}"])
        with pytest.raises((ProviderResponseError, ProviderConnectionError)):
            send(make(upstream.base_url))


@pytest.mark.parametrize("status", [b"100 Continue", b"102 Processing", b"103 Early Hints"])
def test_interim_answers_are_skipped(send: Send, status: bytes) -> None:
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    with raw.start() as upstream:
        upstream.plan([b"HTTP/1.1 " + status + b"\r\n\r\n", final])
        assert send(make(upstream.base_url)) == [b"{}"]


def compressed(encoding: str, body: bytes, status: str = "200 OK") -> list[bytes | float]:
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n"
    return [head.encode() + b"\r\n" + body]


ENCODED = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes, "x-new": bytes}


@pytest.mark.parametrize("encoding", ENCODED)
def test_an_answer_that_is_compressed_anyway_is_decompressed(send: Send, encoding: str) -> None:
    text = b'{"error": {"message": "too much"}}'
    with raw.start() as upstream:
        upstream.plan(compressed(encoding, ENCODED[encoding](text)))
        assert send(make(upstream.base_url)) == [text]
        upstream.plan(compressed(encoding, ENCODED[encoding](text), "400 Bad Request"))
        with pytest.raises(ProviderStatusError, match=r"HTTP 400 \(too much\)") as caught:
            send(make(upstream.base_url))
    assert caught.value.body == text
    assert ("content-encoding" in caught.value.headers) == (encoding in ("identity", "x-new"))


def test_an_answer_that_can_not_be_decompressed_is_an_error(send: Send) -> None:
    with raw.start() as upstream:
        upstream.plan(compressed("gzip", b"not gzip at all"))
        with pytest.raises(ProviderResponseError, match="can't be"):
            send(make(upstream.base_url))


# Connections that were kept


LONG = b'{"model":"tiny","messages":[{"role":"user","content":"' + b"hi" * 10**6 + b'"}]}'


@pytest.mark.parametrize("body", [BODY, STREAM, LONG], ids=["whole", "stream", "long"])
def test_a_forgotten_connection_is_replaced_outside_of_retries(
    running_forgetful: Server, send: Send, body: bytes
) -> None:
    server = View(running_forgetful)
    answers = send(*[make(server.base_url, body)] * 6)
    assert all(b"echo:" in answer for answer in answers)
    seen = server.requests()
    assert len(seen) == 6  # none of them twice
    # A replacement is not kept, so after each the next request opens another kept connection.
    assert len({request["port"] for request in seen}) == 6


def test_a_fresh_connection_that_fails_is_not_replaced(running: Server, send: Send) -> None:
    server = View(running)
    server.plan({"kind": "reset"})
    with pytest.raises(ProviderConnectionError):
        send(make(server.base_url))
    assert len(server.requests()) == 1


def test_a_replacement_that_fails_is_an_error(running: Server, send: Send) -> None:
    server = View(running)
    server.plan({"kind": "usual"}, {"kind": "reset"}, {"kind": "reset"})
    with pytest.raises(ProviderConnectionError):
        send(*[make(server.base_url)] * 2)
    assert len(server.requests()) == 3


@pytest.mark.parametrize("kind", ["cut", "trickle"])
def test_an_answer_that_began_is_never_replaced(running: Server, send: Send, kind: str) -> None:
    server = View(running)
    server.plan({"kind": "usual"}, {"kind": kind, "seconds": 0.2})
    first = make(server.base_url)
    late = Request(first.endpoint, BODY, timeout_s=0.6)
    with pytest.raises(DispatchError):
        send(first, late)
    assert len(server.requests()) == 2


def test_forgotten_connections_do_not_open_the_breaker(running_forgetful: Server) -> None:
    server = View(running_forgetful)
    request = make(server.base_url)

    async def go() -> list[bytes]:
        transport = BreakerTransport(AiohttpTransport(), failures=1)
        ask = [transport.asend(request) for _ in range(24)]
        first = [await r.read() for r in await asyncio.gather(*ask[:12])]
        second = [await r.read() for r in await asyncio.gather(*ask[12:])]
        await transport.aclose()
        return first + second

    assert all(b"echo: hi" in answer for answer in asyncio.run(go()))
    assert len(server.requests()) == 24


# Causes that an operator must see


def test_a_host_without_an_address_is_named_as_such(send: Send) -> None:
    with pytest.raises(ProviderConnectionError, match=r"the DNS of this machine") as caught:
        send(make("http://no-such-host.invalid/v1"))
    assert "no-such-host.invalid" in str(caught.value)
    causes, error = [], caught.value.__cause__
    while error is not None:
        causes.append(error)
        error = getattr(error, "os_error", None) or error.__cause__ or error.__context__
    (looked_up,) = [cause for cause in causes if isinstance(cause, socket.gaierror)][:1]
    assert str(looked_up.strerror) in str(caught.value)


@pytest.fixture(scope="module")
def untrusted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The base URL of a TLS server with a certificate that nobody signed, and the certificate."""
    with tls.start(tmp_path_factory.mktemp("certificate")) as started:
        yield started


def test_an_untrusted_certificate_is_named_as_such(send: Send, untrusted: tuple[str, Path]) -> None:
    with pytest.raises(ProviderConnectionError, match=r"certificate verify failed.*SSL_CERT_FILE"):
        send(make(untrusted[0]))


def test_another_certificate_can_be_trusted(
    send: Send, untrusted: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(untrusted[1]))
    assert send(make(untrusted[0])) == [b"{}"]
