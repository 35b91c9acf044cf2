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
from fastroute.errors import ProviderResponseError
from fastroute.gateway.protocol.encodings import MOST_BYTES, Decoder, decoded_error

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
    "x-gzip": ("X-Gzip", gzip.compress(TELLS)),
    "parts": ("gzip", gzip.compress(TELLS[:10]) + gzip.compress(TELLS[10:]) + b"\0\0"),
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


def test_what_is_not_what_it_says_is_cut(compressed: Gateway, upstream: RawUpstream) -> None:
    for broken in (b"no gzip at all", gzip.compress(TELLS)[:-9]):
        upstream.plan([whole("200 OK", "gzip", broken)])
        said = send(compressed.port, post(BODY))
        assert said.startswith(b"HTTP/1.1 200")
        assert b"transfer-encoding: chunked" in said
        assert not said.endswith(b"0\r\n\r\n")


def test_an_unknown_encoding_passes_in_an_answer_and_not_in_an_error(
    compressed: Gateway, upstream: RawUpstream
) -> None:
    upstream.plan([whole("200 OK", "br", b"\x0b\x02brotli")])
    head, body = answer_of(send(compressed.port, post(BODY)))
    assert b"content-encoding: br" in head
    assert body == b"\x0b\x02brotli"
    upstream.plan([whole("429 Too Many Requests", "br", b"\x0b\x02brotli")])
    head, body = answer_of(send(compressed.port, post(BODY)))
    assert head.startswith(b"http/1.1 429")
    assert b"content-type: application/json" in head
    assert b"content-encoding" not in head
    error = json.loads(body)["error"]
    assert error["code"] == "provider_error_unreadable"
    assert "its Content-Encoding is br" in error["message"]


@pytest.mark.parametrize("kind", ENCODED)
@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_decoder_takes_whatever_pieces(kind: str, size: int) -> None:
    encoding, body = ENCODED[kind]
    decoder = Decoder.of([(b"content-encoding", encoding.encode())])
    assert decoder is not None
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    assert b"".join(part for piece in pieces for part in decoder.feed(piece)) == TELLS
    decoder.finish()


def test_a_decoder_makes_no_large_pieces() -> None:
    decoder = Decoder(b"gzip")
    sizes = [len(part) for part in decoder.feed(gzip.compress(bytes(5 * MOST_BYTES + 1)))]
    assert sum(sizes) == 5 * MOST_BYTES + 1
    assert max(sizes) == MOST_BYTES


def test_a_decoder_tells_of_what_broke_off() -> None:
    decoder = Decoder(b"gzip")
    decoder.finish()  # an empty answer is none
    list(decoder.feed(gzip.compress(TELLS)[:-1]))
    with pytest.raises(ProviderResponseError, match=r"compressed by gzip, broke off"):
        decoder.finish()


def test_an_error_that_is_too_long_is_not_read() -> None:
    headers = [(b"content-encoding", b"gzip"), (b"x-kept", b"1")]
    body = gzip.compress(bytes(3 * MOST_BYTES))
    kept, told = decoded_error(500, headers, body, 2 * MOST_BYTES)
    assert kept == [(b"x-kept", b"1"), (b"content-type", b"application/json")]
    assert json.loads(told)["error"]["code"] == "provider_error_unreadable"
    assert decoded_error(500, headers, body, 3 * MOST_BYTES)[1] == bytes(3 * MOST_BYTES)
    assert decoded_error(304, headers, b"", 1) == (headers, b"")
