"""The gateway between raw sockets: headers, lengths and ends of answers, byte by byte."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fakes import gateway as gateways
from fakes import raw
from fakes.gateway import Gateway
from fakes.raw import RawUpstream, post, send

CONFIG = """
[server]
max_provider_header_bytes = 20000
[routing]
strong_model = "strong"
weak_model = "weak"
routers = ["length"]
[resilience]
retries = 2
fallback = "both"
breaker_failures = 0
[endpoint]
base_url = "{base_url}"
[models.again]
base_url = "{base_url}"
retry_cut_answers = true
"""
BODY = b'{"model": "weak", "messages": [{"role": "user", "content": "hi"}]}'
ROUTED = BODY.replace(b"weak", b"router-length-0.5")
AGAIN = BODY.replace(b"weak", b"again")
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
ANSWER = b'{"id": "a", "choices": []}'


@pytest.fixture(scope="module")
def running() -> Iterator[RawUpstream]:
    with raw.start() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(running: RawUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = CONFIG.format(base_url=running.base_url)
    path = gateways.write_config(tmp_path_factory.mktemp("raw"), text)
    with gateways.start("--config", path) as started:
        yield started


@pytest.fixture
def upstream(running: RawUpstream) -> RawUpstream:
    running.plan([whole()])
    return running


def whole(*headers: bytes, body: bytes = ANSWER, status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def lines_of(head: bytes, name: bytes) -> list[bytes]:
    """The values of one header, in order."""
    pairs = (line.partition(b": ") for line in head.split(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    return [value for found, _, value in pairs if found.lower() == name]


# Headers


def test_repeated_headers_reach_the_provider(gateway: Gateway, upstream: RawUpstream) -> None:
    values = [b"first", "caf\u00e9".encode("latin-1"), "caf\u00e9".encode(), b"\xff\xfe last"]
    send(gateway.port, post(BODY, *(b"X-Many: " + value for value in values)))
    (head,) = upstream.heads
    # Headers leave as UTF-8; what came in another encoding is taken for Latin-1.
    utf_8 = [b"first", *["caf\u00e9".encode()] * 2, "\u00ff\u00fe last".encode()]
    assert lines_of(head, b"x-many") == utf_8
    assert upstream.bodies == [BODY]
    assert len(lines_of(head, b"host")) == len(lines_of(head, b"content-length")) == 1


@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad Request"])
def test_repeated_headers_reach_the_client(
    gateway: Gateway, upstream: RawUpstream, status: bytes
) -> None:
    values = [b"a=1; Path=/", b"b=2, or \xe9", "c=\u00e9".encode()]
    upstream.plan([whole(*(b"Set-Cookie: " + value for value in values), status=status)])
    answer = send(gateway.port, post(BODY))
    # Headers leave as UTF-8; what came in another encoding is taken for Latin-1.
    assert lines_of(answer, b"set-cookie") == [values[0], "b=2, or \u00e9".encode(), values[2]]
    assert lines_of(answer, b"content-length") == [b"%d" % len(ANSWER)]
    assert len(lines_of(answer, b"x-fastroute-request-id")) == 1
    assert answer.endswith(ANSWER)


def test_what_is_between_the_client_and_the_gateway_stays_there(
    gateway: Gateway, upstream: RawUpstream
) -> None:
    kept = [
        *(b"Connection: X-Named", b"X-Named: a", b"Proxy-Connection: keep-alive", b"TE: trailers"),
        *(b"Via: 1.1 internal.example", b"Forwarded: for=10.0.0.1", b"X-Forwarded-For: 10.0.0.1"),
        *(b"X-Forwarded-Port: 1", b"X-Forwarded-" + b"a" * 80 + b": 1", b"X-Real-Ip: 10.0.0.1"),
        *(b"Cf-Connecting-Ip: 10.0.0.1", b"True-Client-Ip: 10.0.0.1", b"Origin: http://localhost"),
        *(b"X-Goog-Api-Key: secret", b"Api-Key: secret", b"X-Api-Key: secret", b"Cookie: secret"),
        *(b"X-Auth-Token: secret", b"Authorization: Bearer secret", b"X-Fastroute-A: 1"),
    ]
    send(gateway.port, post(BODY, *kept, b"OpenAI-Organization: org", b"X-Title: mine"))
    (head,) = upstream.heads
    for line in kept:
        name = line.partition(b":")[0].lower()
        assert not lines_of(head, name) or name == b"via", name
    assert lines_of(head, b"via") == [b"1.1 fastroute"]
    assert lines_of(head, b"openai-organization") == [b"org"]
    assert lines_of(head, b"x-title") == [b"mine"]


def test_what_is_between_the_gateway_and_the_provider_stays_there(
    gateway: Gateway, upstream: RawUpstream
) -> None:
    kept = [
        *(b"Connection: keep-alive, X-Named", b"X-Named: a", b"Keep-Alive: timeout=5"),
        *(b"Proxy-Connection: close", b"Alt-Svc: h3", b"Trailer: X-T"),
        *(b"Strict-Transport-Security: max-age=1", b"Access-Control-Allow-Origin: *"),
    ]
    upstream.plan(
        [whole(*kept, b"Server: theirs", b"X-Request-Id: 7", b"Via: 1.1 theirs", b"X-Odd: a\x01b")]
    )
    answer = send(gateway.port, post(BODY))
    assert answer.startswith(b"HTTP/1.1 200")
    for line in kept[1:]:
        assert not lines_of(answer, line.partition(b":")[0].lower()), line
    assert b"X-Named" not in answer
    assert b"keep-alive" not in answer
    assert lines_of(answer, b"server") == [b"fastroute"]
    assert lines_of(answer, b"x-request-id") == [b"7"]
    assert lines_of(answer, b"via") == [b"1.1 theirs"]
    assert not lines_of(answer, b"x-odd")  # nothing may write a control character


def test_two_keys_are_none(tmp_path: Path, upstream: RawUpstream) -> None:
    digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"  # of "secret"
    keys = f'[[keys]]\nname = "a"\nsha256 = "{digest}"\n'
    path = gateways.write_config(tmp_path, CONFIG.format(base_url=upstream.base_url) + keys)
    one, other = b"Authorization: Bearer secret", b"Authorization: Bearer other"
    with gateways.start("--config", path) as locked:
        assert send(locked.port, post(BODY, one)).startswith(b"HTTP/1.1 200")
        assert send(locked.port, post(BODY, one, other)).startswith(b"HTTP/1.1 401")
        assert send(locked.port, post(BODY, other, one)).startswith(b"HTTP/1.1 401")


def test_long_headers_of_the_provider_pass_up_to_the_limit(
    gateway: Gateway, upstream: RawUpstream
) -> None:
    upstream.plan([whole(b"X-Long: " + b"a" * 15_000)])
    assert lines_of(send(gateway.port, post(BODY)), b"x-long") == [b"a" * 15_000]
    upstream.plan([whole(b"X-Long: " + b"a" * 30_000)])
    answer = send(gateway.port, post(BODY))
    assert answer.startswith(b"HTTP/1.1 502")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "provider_answer_unreadable"
    assert "longer than 20000 bytes, the gateway's max_provider_header_bytes" in error["message"]
    assert len(upstream.heads) == 1  # it was answered, and perhaps billed


def test_an_answer_without_content_has_no_length(gateway: Gateway, upstream: RawUpstream) -> None:
    upstream.plan([b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"])
    answer = send(gateway.port, post(BODY))
    assert answer.startswith(b"HTTP/1.1 204")
    assert not lines_of(answer, b"content-length")
    assert not lines_of(answer, b"transfer-encoding")
    assert answer.endswith(b"\r\n\r\n")


def test_a_byte_order_mark_is_named(gateway: Gateway, upstream: RawUpstream) -> None:
    answer = send(gateway.port, post(b"\xef\xbb\xbf" + BODY))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"byte order mark" in answer
    assert upstream.heads == []


# Answers that come late, long or in half


def test_a_stream_asked_for_by_another_word_is_not_held_back(
    gateway: Gateway, upstream: RawUpstream
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    for body in (BODY[:-1] + b', "stream": 1}', BODY):
        upstream.plan([head + b"data: 1\n\n", 1.0, b"data: 2\n\n"])
        at = first_and_last(gateway.port, post(body), b"data: 1", b"data: 2")
        assert at[1] - at[0] > 0.7


def test_a_long_answer_is_not_held_back(gateway: Gateway, upstream: RawUpstream) -> None:
    size = 3 * 2**20
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (size + 4)
    upstream.plan([head + b"a" * size, 1.0, b"done"])
    at = first_and_last(gateway.port, post(BODY), b"aaaa", b"done")
    assert at[1] - at[0] > 0.7
    upstream.plan([head + b"a" * 10, 2.5, b"a" * (size - 10) + b"done"])  # nor one that drips
    at = first_and_last(gateway.port, post(BODY), b"aaaa", b"done")
    assert at[1] - at[0] > 0.5


def first_and_last(port: int, data: bytes, first: bytes, last: bytes) -> tuple[float, float]:
    """When ``first`` and ``last`` arrived."""
    at = []
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        received = b""
        for wanted in (first, last):
            while wanted not in received:
                piece = connection.recv(2**20)
                assert piece, received[:500]
                received = received[-20:] + piece if len(received) > 2**16 else received + piece
            at.append(time.monotonic())
    return at[0], at[1]


def cut(sent: int, *, pause_s: float = 0.0) -> list[bytes | float]:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(ANSWER)
    return [head + ANSWER[:sent], pause_s]


@pytest.mark.parametrize("pause_s", [0.0, 0.2])
@pytest.mark.parametrize("body", [BODY, ROUTED])
def test_an_answer_that_breaks_off_is_not_bought_again(
    gateway: Gateway, upstream: RawUpstream, body: bytes, pause_s: float
) -> None:
    upstream.plan(cut(10, pause_s=pause_s), [whole()])
    answer = send(gateway.port, post(body))
    assert answer.startswith(b"HTTP/1.1 502")
    error = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
    assert error["code"] == "provider_answer_cut"
    assert "may have been billed" in error["message"]
    assert len(upstream.heads) == 1


def test_it_is_where_the_policy_says_so(gateway: Gateway, upstream: RawUpstream) -> None:
    upstream.plan(cut(10), cut(20, pause_s=0.1), [whole()])
    assert send(gateway.port, post(AGAIN)).endswith(ANSWER)
    assert len(upstream.heads) == 3


def test_an_answer_that_breaks_off_before_its_first_byte_is_asked_again(
    gateway: Gateway, upstream: RawUpstream
) -> None:
    upstream.plan(cut(0), [whole()])
    assert send(gateway.port, post(BODY)).endswith(ANSWER)
    assert len(upstream.heads) == 2


def test_a_long_answer_that_breaks_off_is_broken_off(
    gateway: Gateway, upstream: RawUpstream
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"
    upstream.plan([head + b"a" * 500_000, 0.3])
    answer = send(gateway.port, post(BODY))
    assert lines_of(answer, b"content-length") == [b"1000000"]
    assert len(answer.partition(b"\r\n\r\n")[2]) == 500_000
    assert len(upstream.heads) == 1


# Clients of other habits


def test_http_1_0_gets_no_chunks(gateway: Gateway, upstream: RawUpstream) -> None:
    events = b"data: 1\n\ndata: [DONE]\n\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    upstream.plan([head, events[:9], 0.1, events[9:]])
    stream = BODY[:-1] + b', "stream": true}'
    answer = send(gateway.port, post(stream, b"Expect: 100-continue", version=b"1.0"))
    assert answer.startswith(b"HTTP/1.0 200")
    assert not lines_of(answer, b"transfer-encoding")
    assert lines_of(answer, b"connection") in ([], [b"close"])
    assert answer.partition(b"\r\n\r\n")[2] == events
    upstream.plan([whole()])
    answer = send(gateway.port, post(BODY, version=b"1.0"))
    assert lines_of(answer, b"content-length") == [b"%d" % len(ANSWER)]
    assert answer.endswith(ANSWER)


def test_http_1_0_sees_that_a_stream_broke_off(gateway: Gateway, upstream: RawUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + CHUNKED
    upstream.plan([head + b"9\r\ndata: 1\n\n\r\n", 0.3])
    with pytest.raises(ConnectionResetError):
        send(gateway.port, post(BODY, version=b"1.0"))


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_request_ends_when_its_client_leaves(
    gateway: Gateway, upstream: RawUpstream, version: bytes, half: bool
) -> None:
    upstream.plan([20.0, whole()])

    def left() -> list[dict[str, Any]]:
        return [e for e in gateway.events("request") if e["error"] == "client_left"]

    before = len(left())
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as connection:
        connection.sendall(post(BODY, version=version))
        gateway.wait_for(lambda: upstream.heads)
        if half:  # the end of its half is the end
            connection.shutdown(socket.SHUT_WR)
            gateway.wait_for(lambda: len(left()) > before)
    gateway.wait_for(lambda: len(left()) > before)
    assert left()[-1]["duration_ms"] < 15_000  # and not when the answer came


# Statuses that are not an answer's


@pytest.mark.parametrize("status", [101, 199, 600, 799, 999])
def test_a_status_out_of_range_is_502(gateway: Gateway, upstream: RawUpstream, status: int) -> None:
    upstream.plan([whole(status=b"%d Odd" % status)])
    answer = send(gateway.port, post(BODY))
    assert answer.startswith(b"HTTP/1.1 502")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"].startswith("provider_")


def test_a_deeply_nested_error_is_answered(gateway: Gateway, upstream: RawUpstream) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    upstream.plan([whole(status=b"400 Bad Request", body=b'{"error": ' + deep + b"}")])
    answer = send(gateway.port, post(BODY))
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 502"))
    assert b"Traceback" not in answer
    assert b"content-type" in answer.lower()
