"""Every way in which a connection can outlive or outrun its answers, over raw sockets."""

from __future__ import annotations

import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from fakes import gateway as gateways
from fakes import raw
from fakes.gateway import Gateway
from fakes.raw import RawUpstream, post, send
from fastroute.gateway.protocol.auth import hash_key

CONFIG = """
[routing]
strong_model = "strong"
weak_model = "weak"
router = "length"
[endpoint]
base_url = "{base_url}"
"""
KEY = "fr-0123456789abcdef0123456789abcdef"
BODY = b'{"model": "weak", "messages": [{"role": "user", "content": "hi"}]}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(scope="module")
def running() -> Iterator[RawUpstream]:
    with raw.start() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def gateway(running: RawUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    text = CONFIG.format(base_url=running.base_url)
    path = gateways.write_config(tmp_path_factory.mktemp("connections"), text)
    with gateways.start("--config", path) as started:
        yield started


@pytest.fixture(scope="module")
def locked(running: RawUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    keys = f'[[keys]]\nname = "a"\nsha256 = "{hash_key(KEY)}"\n'
    text = CONFIG.format(base_url=running.base_url) + keys
    path = gateways.write_config(tmp_path_factory.mktemp("locked"), text)
    with gateways.start("--config", path) as started:
        yield started


@pytest.fixture
def upstream(running: RawUpstream) -> RawUpstream:
    running.plan([ANSWER])
    return running


def rss_mb(process: subprocess.Popen[str]) -> float:
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


# Offers to upgrade


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.0", b"h2c, websocket"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_offer_to_upgrade_smuggles_nothing(
    gateway: Gateway, upstream: RawUpstream, offer: bytes, in_pieces: bool
) -> None:
    inside = post(BODY)  # the body of a request is a request
    headers = (b"Upgrade: " + offer, b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAM")
    request = post(inside, *headers).replace(b"connection: close\r\n", b"", 1)
    head = request[: -len(inside)]
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        connection.sendall(head if in_pieces else request)
        if in_pieces:
            time.sleep(0.1)
            connection.sendall(inside)
        answer = connection.recv(65536)
        connection.settimeout(0.3)
        with suppress(TimeoutError):
            answer += connection.recv(65536)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert upstream.heads == []


@pytest.mark.parametrize("offer", [b"h2c", b"websocket", b"TLS/1.0"])
def test_an_offer_to_upgrade_is_ignored(
    gateway: Gateway, upstream: RawUpstream, offer: bytes
) -> None:
    headers = (b"Upgrade: " + offer, b"Connection: Upgrade")
    request = post(BODY, *headers).replace(b"connection: close\r\n", b"")
    head, _, body = request.partition(b"\r\n\r\n")
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=5) as connection:
        for _ in range(2):  # and the connection is good for another request
            connection.sendall(head + b"\r\n\r\n")
            time.sleep(0.05)
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")
    assert upstream.bodies == [BODY, BODY]


# More requests than answers are read


@pytest.mark.parametrize("path", [b"/health", b"/v1/models", b"/nowhere", b"/ui/about"])
def test_pipelined_requests_whose_answers_nobody_reads_take_no_memory(
    locked: Gateway, path: bytes
) -> None:
    request = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"
    before = rss_mb(locked.process)
    data = request * (500_000 * 41 // len(request))
    with socket.create_connection(("127.0.0.1", locked.port)) as connection:
        connection.setblocking(False)
        sent, end = 0, time.monotonic() + 3
        while sent < len(data) and time.monotonic() < end:
            if select.select([], [connection], [], 0.5)[1]:
                sent += connection.send(data[sent : sent + 2**18])
        assert sent < len(data)  # it stopped reading
        assert rss_mb(locked.process) - before < 16
        assert locked.ask("GET", "/health").status == 200


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, upstream: RawUpstream) -> None:
    ask = post(BODY).replace(b"connection: close\r\n", b"")
    health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = send(gateway.port, (ask + health) * 100 + post(BODY))
    assert answer.count(b"HTTP/1.1 200 OK") == 201
    assert len(upstream.bodies) == 101


# Requests that are refused before their body has come

REFUSED = [
    (b"POST /v1/chat/completions", b"401"),
    (b"POST /v1/route", b"401"),
    (b"POST /v1/nowhere", b"404"),
    (b"POST /health", b"405"),
    (b"GET /health", b"200"),
    (b"POST /ui/neighbors", b"401"),
    (b"POST /ui/page.css", b"405"),
    (b"GET /v1/models", b"401"),
    (b"PUT /v1/chat/completions", b"405"),
]


@pytest.mark.parametrize(("line", "status"), REFUSED)
@pytest.mark.parametrize("framing", [b"Content-Length: 1000000000", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("fast", [False, True])
def test_a_request_that_is_refused_is_not_read_on(
    locked: Gateway, line: bytes, status: bytes, framing: bytes, fast: bool
) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", locked.port), timeout=10) as connection:
        connection.sendall(line + b" HTTP/1.1\r\nHost: localhost\r\n" + framing + b"\r\n\r\n")
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 " + status)
        assert b"connection: close\r\n" in answer.lower()
        piece = b"10\r\n" + b"a" * 16 + b"\r\n"
        with suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() < began + 8:
                connection.sendall(piece * (4096 if fast else 1))
                if not fast:
                    time.sleep(0.1)
    assert time.monotonic() - began < 4


def test_a_short_body_of_a_refused_request_ends_no_connection(locked: Gateway) -> None:
    request = post(BODY).replace(b"connection: close\r\n", b"")
    with socket.create_connection(("127.0.0.1", locked.port), timeout=10) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


# Connections that do nothing

SERVER = """
import asyncio, sys
from aiohttp import web
from fastroute.gateway.protocol.server import Server
async def answer(request):
    return web.Response(body=bytes(50_000_000) if request.raw_path == "/long" else b"ok")
async def main():
    import socket
    listener = socket.create_server(("127.0.0.1", 0))
    await Server(answer, idle_s=0.5, stalled_s=0.5).start(listener)
    print(listener.getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def impatient() -> Iterator[int]:
    """The port of a server with short limits."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / HT",
        b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n",
    ],
)
def test_an_idle_or_slow_connection_is_closed(impatient: int, said: bytes) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=5) as connection:
        connection.sendall(said)
        began = time.monotonic()
        while connection.recv(65536):
            pass
        assert 0.3 < time.monotonic() - began < 3


def test_a_client_that_reads_nothing_is_disconnected(impatient: int) -> None:
    with socket.create_connection(("127.0.0.1", impatient), timeout=5) as connection:
        connection.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(2)
        received = 0
        with suppress(ConnectionResetError):  # or the end, short of the whole
            while piece := connection.recv(2**20):
                received += len(piece)
        assert received < 50_000_000


def test_a_head_without_end_is_cut_off(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=10) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        sent = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(10_000):
                connection.sendall(b"X-Long: " + b"a" * 8000 + b"\r\n")
                sent += 8010
    assert sent < 8_000_000


def test_many_idle_connections_make_room_for_others(upstream: RawUpstream, tmp_path: Path) -> None:
    path = gateways.write_config(tmp_path, CONFIG.format(base_url=upstream.base_url))

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        started = stack.enter_context(gateways.start("--config", path, descriptors=256))
        for _ in range(400):
            stack.enter_context(socket.create_connection(("127.0.0.1", started.port), timeout=10))
        for _ in range(20):
            assert send(started.port, post(BODY)).startswith(b"HTTP/1.1 200")
        said = "too many connections: the longest idle are closed, or new ones refused"
        started.wait_for(lambda: started.events(said))
        assert len(started.events(said)) < 20
        assert len(list(Path(f"/proc/{started.process.pid}/fd").iterdir())) < 256
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
