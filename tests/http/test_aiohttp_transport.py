"""AiohttpTransport against a real HTTP server in another process."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import pytest

from fakes.planned import View
from fastroute.errors import (
    DispatchError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http import AiohttpTransport, Endpoint, Request

KEY = "sk-test-0123456789abcdef"
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'


def make(base_url: str, body: bytes = BODY, **values: Any) -> Request:
    ours = {k: values.pop(k) for k in ("headers", "path") if k in values}
    endpoint = Endpoint(base_url, **({"api_key": KEY, "timeout_s": 20.0} | values))
    return Request(endpoint, body, stream=b'"stream"' in body, **ours)


def send(*requests: Request) -> list[bytes]:
    async def run() -> list[bytes]:
        async with AiohttpTransport() as transport:
            return [await (await transport.asend(request)).read() for request in requests]

    return asyncio.run(run())


def fail(request: Request) -> DispatchError:
    with pytest.raises(DispatchError) as caught:
        send(request)
    assert KEY not in str(caught.value)
    return caught.value


def test_bytes_and_headers_arrive(server: View) -> None:
    (answer,) = send(make(server.base_url, headers={"X-Extra": "1"}))
    assert b"echo: hi" in answer
    (seen,) = server.requests()
    assert seen["raw"].encode() == BODY
    headers = seen["headers"]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert (headers["x-extra"], headers["accept-encoding"]) == ("1", "identity")
    assert headers["content-type"] == "application/json"


def test_connections_are_kept(server: View) -> None:
    send(*[make(server.base_url)] * 4)
    assert len({seen["port"] for seen in server.requests()}) == 1


def test_a_stream_comes_piece_by_piece(server: View) -> None:
    server.plan({"kind": "events", "raw": "data: 1\n\ndata: 2\n\n", "pieces": 2, "seconds": 0.3})

    async def run() -> list[tuple[float, bytes]]:
        async with AiohttpTransport() as transport:
            response = await transport.asend(make(server.base_url, STREAM))
            return [(time.monotonic(), piece) async for piece in response.iter_bytes()]

    pieces = asyncio.run(run())
    assert b"".join(piece for _, piece in pieces) == b"data: 1\n\ndata: 2\n\n"
    assert pieces[-1][0] - pieces[0][0] > 0.2


def test_a_stream_that_is_closed_is_given_up(server: View) -> None:
    server.plan({"kind": "endless", "seconds": 0.02})

    async def run() -> None:
        async with AiohttpTransport() as transport:
            response = await transport.asend(make(server.base_url, STREAM))
            await anext(response.iter_bytes())
            await response.aclose()

    asyncio.run(run())
    end = time.monotonic() + 10
    while not server.requests()[0]["gave_up"]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_error_status_is_raised_as_it_came(server: View) -> None:
    server.plan({"kind": "status", "status": 418, "raw": f"tea {KEY}", "headers": {"X-A": "b"}})
    error = fail(make(server.base_url))
    assert isinstance(error, ProviderStatusError)
    assert (error.status_code, error.headers["x-a"]) == (418, "b")
    assert error.body == f"tea {KEY}".encode()


def test_redirects_are_not_followed(server: View) -> None:
    server.plan({"kind": "status", "status": 307, "headers": {"Location": "/v1/chat/completions"}})
    assert isinstance(fail(make(server.base_url)), ProviderStatusError)
    assert len(server.requests()) == 1


@pytest.mark.parametrize("kind", ["reset", "cut"])
@pytest.mark.parametrize("body", [BODY, STREAM])
def test_a_broken_answer_is_a_connection_error(server: View, kind: str, body: bytes) -> None:
    plan: dict[str, Any] = {"kind": kind}
    if body == STREAM and kind == "cut":
        plan = {"kind": "events", "raw": "data: 1\n\n", "end": "cut"}
    server.plan(plan)
    error = fail(make(server.base_url, body))
    assert isinstance(error, ProviderConnectionError)


def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = fail(make(f"http://127.0.0.1:{unused.getsockname()[1]}/v1"))
    assert isinstance(error, ProviderConnectionError)


def test_each_time_limit_is_named(server: View) -> None:
    stall = {"kind": "stall", "seconds": 3}
    server.plan(stall, {"kind": "trickle", "seconds": 0.2})
    error = fail(make(server.base_url, STREAM, first_byte_timeout_s=0.3))
    assert isinstance(error, ProviderTimeoutError)
    assert "no first byte in 0.3 s" in str(error)
    assert "raise first_byte_timeout_s" in str(error)
    # The first byte came in time, the whole answer does not.
    error = fail(make(server.base_url, first_byte_timeout_s=0.8, timeout_s=1.0))
    assert isinstance(error, ProviderTimeoutError)
    assert "no complete answer in 1 s" in str(error)
    assert "raise timeout_s" in str(error)


def test_after_close_nothing_is_sent(server: View) -> None:
    async def run() -> None:
        transport = AiohttpTransport()
        await transport.asend(make(server.base_url))
        await transport.aclose()
        with pytest.raises(DispatchError, match="closed"):
            await transport.asend(make(server.base_url))

    asyncio.run(run())
