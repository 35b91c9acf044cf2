"""Compressed bodies: of requests, and of answers though none was asked for."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator

import pytest
from backports import zstd

from fakes import gateway as gateways
from fakes import raw
from fakes.gateway import Gateway
from fakes.raw import RawUpstream, post, send

from .conftest import CONFIG, PROVIDER_KEY

BODY = b'{"model": "weak", "messages": [{"role": "user", "content": "hi"}]}'
STREAM = BODY[:-1] + b', "stream": true}'
SAID = b'{"error": {"message": "Bearer %s"}}' % PROVIDER_KEY.encode()
MASKED = SAID.replace(PROVIDER_KEY.encode(), b"*" * len(PROVIDER_KEY))


def bare_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "Deflate": bare_deflate,
    "zstd": zstd.compress,
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with raw.start() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: RawUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = CONFIG.format(base_url=upstream.base_url) + "[server]\nmax_body_bytes = 100_000\n"
    path = gateways.write_config(tmp_path_factory.mktemp("encodings"), text)
    with gateways.start("--config", path, environment={"PROVIDER_KEY": PROVIDER_KEY}) as started:
        yield started


def whole(status: str, encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: {encoding}\r\nContent-Type: text/plain\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("encoding", COMPRESS)
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
def test_a_compressed_answer_is_decompressed(
    gateway: Gateway, upstream: RawUpstream, encoding: str, status: str
) -> None:
    upstream.plan([whole(status, encoding, COMPRESS[encoding](SAID))])
    head, _, body = send(gateway.port, post(BODY)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status}".encode())
    assert body == (SAID if status == "200 OK" else MASKED)
    assert b"content-encoding" not in head.lower()


def test_a_compressed_stream_comes_piece_by_piece(gateway: Gateway, upstream: RawUpstream) -> None:
    stream = zlib.compressobj(wbits=31)
    events = [b"data: one\n\n", b"data: [DONE]\n\n"]
    pieces = [stream.compress(event) + stream.flush(zlib.Z_SYNC_FLUSH) for event in events]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
    parts: list[bytes | float] = [head + b"Transfer-Encoding: chunked\r\n\r\n"]
    for piece in [*pieces, stream.flush()]:
        parts += [b"%x\r\n%s\r\n" % (len(piece), piece), 0.05]
    upstream.plan([*parts, b"0\r\n\r\n"])
    said = send(gateway.port, post(STREAM))
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)
    assert said.endswith(chunks + b"0\r\n\r\n")  # each in a chunk of its own: nothing waited


@pytest.mark.parametrize("broken", [b"not gzip at all", gzip.compress(SAID, mtime=0)[:-9]])
def test_an_answer_that_can_not_be_decompressed_is_502_or_cut(
    gateway: Gateway, upstream: RawUpstream, broken: bytes
) -> None:
    upstream.plan([whole("200 OK", "gzip", broken)])
    answer = send(gateway.port, post(BODY))
    assert answer.startswith(b"HTTP/1.1 502") or not answer.endswith(b"0\r\n\r\n")


def test_an_unknown_encoding_passes(gateway: Gateway, upstream: RawUpstream) -> None:
    upstream.plan([whole("200 OK", "compress", b"\x1f\x9d")])
    head, _, body = send(gateway.port, post(BODY)).partition(b"\r\n\r\n")
    assert b"content-encoding: compress" in head.lower()
    assert body == b"\x1f\x9d"


# Requests


def compressed(encoding: str, body: bytes) -> bytes:
    return post(body, f"Content-Encoding: {encoding}".encode())


@pytest.mark.parametrize("encoding", COMPRESS)
def test_a_compressed_request_is_decompressed(
    gateway: Gateway, upstream: RawUpstream, encoding: str
) -> None:
    upstream.plan([whole("200 OK", "identity", b"{}")])
    answer = send(gateway.port, compressed(encoding, COMPRESS[encoding](BODY)))
    assert answer.startswith(b"HTTP/1.1 200")
    assert upstream.bodies == [BODY.replace(b'"weak"', b'"weak-at-its-provider"')]
    assert b"content-encoding" not in upstream.heads[0].lower()


@pytest.mark.parametrize("encoding", COMPRESS)
def test_the_limit_holds_for_what_comes_out(
    gateway: Gateway, upstream: RawUpstream, encoding: str
) -> None:
    upstream.plan([whole("200 OK", "identity", b"{}")])
    bomb = BODY[:-1] + b" " * 50_000_000 + b"}"
    answer = send(gateway.port, compressed(encoding, COMPRESS[encoding](bomb)))
    assert answer.startswith(b"HTTP/1.1 413")
    assert upstream.bodies == []


@pytest.mark.parametrize("encoding", ["compress", "gzip, gzip", "a" * 500])
def test_other_encodings_are_refused(
    gateway: Gateway, upstream: RawUpstream, encoding: str
) -> None:
    upstream.plan([whole("200 OK", "identity", b"{}")])
    answer = send(gateway.port, compressed(encoding, BODY))
    assert answer.startswith(b"HTTP/1.1 415")
    assert upstream.bodies == []


@pytest.mark.parametrize("broken", [BODY, gzip.compress(BODY, mtime=0)[:-30]])
def test_what_is_not_what_it_says_is_refused(
    gateway: Gateway, upstream: RawUpstream, broken: bytes
) -> None:
    upstream.plan([whole("200 OK", "identity", b"{}")])
    assert send(gateway.port, compressed("gzip", broken)).startswith(b"HTTP/1.1 400")
    assert upstream.bodies == []
