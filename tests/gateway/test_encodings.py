"""Answers that come compressed though none was asked for are handed on as they are without that."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator

import pytest

from fakes import gateway as gateways
from fakes import raw
from fakes.gateway import Gateway
from fakes.raw import RawUpstream, post, send

from .conftest import CONFIG, PROVIDER_KEY

BODY = b'{"model": "weak", "messages": [{"role": "user", "content": "hi"}]}'
STREAM = BODY[:-1] + b', "stream": true}'
TELLS = b'{"error": {"message": "Bearer %s"}}' % PROVIDER_KEY.encode()
COVERED = TELLS.replace(PROVIDER_KEY.encode(), b"*" * len(PROVIDER_KEY))


def raw_deflate(body: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(body) + stream.flush()


ENCODED = {
    "gzip": ("gzip", gzip.compress(TELLS)),
    "deflate": ("deflate", zlib.compress(TELLS)),
    "bare deflate": ("deflate", raw_deflate(TELLS)),
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[RawUpstream]:
    with raw.start() as running:
        yield running


@pytest.fixture(scope="module")
def compressed(
    upstream: RawUpstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    text = CONFIG.format(base_url=upstream.base_url)
    path = gateways.write_config(tmp_path_factory.mktemp("encodings"), text)
    with gateways.start("--config", path, environment={"PROVIDER_KEY": PROVIDER_KEY}) as started:
        yield started


def whole(status: str, encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Encoding: {encoding}\r\nContent-Type: text/plain\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answer_of(said: bytes) -> tuple[bytes, bytes]:
    """Head, in lower case, and body, without the chunks that it may be in."""
    head, _, body = said.partition(b"\r\n\r\n")
    if b"chunked" not in head:
        return head.lower(), body
    found = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        found += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return head.lower(), found


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
def test_no_key_hides_in_a_compressed_answer(
    compressed: Gateway, upstream: RawUpstream, kind: str, status: str
) -> None:
    upstream.plan([whole(status, *ENCODED[kind])])
    head, body = answer_of(send(compressed.port, post(BODY)))
    assert head.startswith(f"http/1.1 {status}".lower().encode())
    assert body == COVERED
    assert b"content-encoding" not in head


def test_a_compressed_stream_comes_piece_by_piece(
    compressed: Gateway, upstream: RawUpstream
) -> None:
    stream = zlib.compressobj(wbits=31)
    events = [b"data: %s\n\n" % text for text in (b"one", TELLS, b"[DONE]")]
    pieces = [stream.compress(event) + stream.flush(zlib.Z_SYNC_FLUSH) for event in events]
    pieces.append(stream.flush())
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n"
    parts: list[bytes | float] = [head + b"Transfer-Encoding: chunked\r\n\r\n"]
    for piece in pieces:
        parts += [b"%x\r\n%s\r\n" % (len(piece), piece), 0.05]
    upstream.plan([*parts, b"0\r\n\r\n"])
    said = send(compressed.port, post(STREAM))
    _, body = answer_of(said)
    assert body == b"".join(events).replace(TELLS, COVERED)
    assert b"\r\ndata: one\n\n\r\n" in said  # in a chunk of its own: nothing waited for more


@pytest.mark.parametrize(("encoding", "body"), [("gzip", b"not gzip at all"), ("br", b"\x0b")])
@pytest.mark.parametrize("status", ["200 OK", "401 Unauthorized"])
def test_what_can_not_be_read_is_an_error_of_the_gateway(
    compressed: Gateway, upstream: RawUpstream, encoding: str, body: bytes, status: str
) -> None:
    upstream.plan([whole(status, encoding, body)])
    head, said = answer_of(send(compressed.port, post(BODY)))
    assert head.startswith(b"http/1.1 502")
    assert b"content-encoding" not in head
    assert "error" in json.loads(said)


def test_an_unknown_encoding_passes(compressed: Gateway, upstream: RawUpstream) -> None:
    upstream.plan([whole("200 OK", "x-new", b"\x0b\x02new")])
    head, body = answer_of(send(compressed.port, post(BODY)))
    assert b"content-encoding: x-new" in head
    assert body == b"\x0b\x02new"


def test_a_large_answer_is_decompressed_within_bounds(
    compressed: Gateway, upstream: RawUpstream
) -> None:
    text = json.dumps({"choices": [], "text": "a" * 5_000_000}).encode()
    upstream.plan([whole("200 OK", "gzip", gzip.compress(text))])
    _, body = answer_of(send(compressed.port, post(BODY)))
    assert body == text
