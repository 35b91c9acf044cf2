"""HttpTransport and AsyncHttpTransport against a real HTTP server in another process."""

from __future__ import annotations

import asyncio
import datetime
import gc
import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from typing import Any

import pytest

from fakes.planned import View
from fastroute import Endpoint
from fastroute.errors import (
    AnswerCutError,
    DispatchError,
    ProviderConnectionError,
    ProviderStatusError,
    ProviderTimeoutError,
)
from fastroute.http import AsyncHttpTransport, HttpTransport, Request, RetryPolicy

KEY = "sk-test-0123456789abcdef"
BODY = b'{"model":"tiny","messages":[{"role":"user","content":"hi"}]}'
STREAM = BODY[:-1] + b',"stream":true}'

QUICK = RetryPolicy(backoff_s=0.01)

Send = Callable[..., bytes]


def make(server: View, body: bytes = BODY, **values: Any) -> Request:
    ours = {k: values.pop(k) for k in ("headers", "path") if k in values}
    endpoint = Endpoint(server.base_url, **({"api_key": KEY, "timeout_s": 20.0} | values))
    return Request(endpoint, body, stream=b'"stream"' in body, **ours)


def send_sync(request: Request) -> bytes:
    with HttpTransport(retry=QUICK) as transport:
        return transport.send(request).read()


def send_async(request: Request) -> bytes:
    async def go() -> bytes:
        async with AsyncHttpTransport(retry=QUICK) as transport:
            response = await transport.asend(request)
            return await response.read()

    return asyncio.run(go())


@pytest.fixture(params=[send_sync, send_async], ids=["sync", "async"])
def send(request: pytest.FixtureRequest) -> Send:
    chosen: Send = request.param
    return chosen


@pytest.fixture(params=[BODY, STREAM], ids=["whole", "stream"])
def body(request: pytest.FixtureRequest) -> bytes:
    chosen: bytes = request.param
    return chosen


# What is sent and what comes back


def test_the_body_arrives_byte_for_byte(server: View, send: Send, body: bytes) -> None:
    assert b"echo:" in send(make(server, body))
    (request,) = server.requests()
    assert request["raw"].encode() == body
    assert request["path"] == "/v1/chat/completions"
    headers = request["headers"]
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "identity"
    assert headers["accept"] == ("text/event-stream" if body == STREAM else "*/*")
    assert headers["user-agent"].startswith("fastroute/")


def test_without_a_key_there_is_no_authorization_header(server: View, send: Send) -> None:
    send(make(server, api_key=None))
    assert "authorization" not in server.requests()[0]["headers"]


def test_headers_of_a_request_win(server: View, send: Send) -> None:
    send(make(server, headers={"AUTHORIZATION": "Basic x", "X-Mine": "1"}))
    headers = server.requests()[0]["headers"]
    assert headers["authorization"] == "Basic x"
    assert headers["x-mine"] == "1"


def test_the_answer_comes_as_it_was_sent(server: View) -> None:
    with HttpTransport() as transport:
        response = transport.send(make(server, STREAM))
        assert response.status_code == 200
        assert response.headers["x-request-id"] == "r1"
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.read().endswith(b"data: [DONE]\n\n")


def test_a_stream_arrives_while_it_is_made(server: View) -> None:
    # 20 pieces, 50 ms apart: the first is here long before the last was sent.
    server.plan({"kind": "events", "raw": "data: 1\n\n" * 20, "pieces": 20, "seconds": 0.05})
    with HttpTransport() as transport:
        started = time.monotonic()
        pieces = transport.send(make(server, STREAM)).iter_bytes()
        next(pieces)
        first_s = time.monotonic() - started
        rest = list(pieces)
        assert first_s < (time.monotonic() - started) / 2
        assert len(rest) > 5


def test_connections_are_kept(server: View) -> None:
    with HttpTransport() as transport:
        for body in (BODY, STREAM, BODY, STREAM, BODY):
            transport.send(make(server, body)).read()

    async def go() -> None:
        async with AsyncHttpTransport(retry=QUICK) as transport:
            for body in (BODY, STREAM, BODY, STREAM, BODY):
                await (await transport.asend(make(server, body))).read()

    asyncio.run(go())
    ports = [request["port"] for request in server.requests()]
    assert len(set(ports[:5])) == 1
    assert len(set(ports[5:])) == 1


def wait_until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("how", ["close", "drop"])
def test_giving_up_a_stream_closes_its_connection(server: View, how: str) -> None:
    server.plan({"kind": "endless", "seconds": 0.01})
    with HttpTransport() as transport:
        response = transport.send(make(server, STREAM))
        next(response.iter_bytes())
        if how == "close":
            response.close()
        del response
        gc.collect()
        assert wait_until(lambda: bool(server.requests()[0]["gave_up"]))
        assert b"echo" in transport.send(make(server)).read()  # and the transport goes on


def test_giving_up_an_async_stream_closes_its_connection(server: View) -> None:
    server.plan({"kind": "endless", "seconds": 0.01})

    async def go() -> None:
        async with AsyncHttpTransport(retry=QUICK) as transport:
            response = await transport.asend(make(server, STREAM))
            await anext(response.iter_bytes())
            await response.aclose()
            gave_up = asyncio.to_thread(wait_until, lambda: bool(server.requests()[0]["gave_up"]))
            assert await gave_up

    asyncio.run(go())


def test_cancelling_a_task_closes_its_connection(server: View) -> None:
    server.plan({"kind": "stall", "seconds": 1.5})

    async def go() -> None:
        async with AsyncHttpTransport(retry=QUICK) as transport:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(transport.asend(make(server)), 0.5)
            assert await (await transport.asend(make(server))).read()

    asyncio.run(go())
    assert len(server.requests()) == 2  # a cancelled request is not tried again


# Errors


@pytest.mark.parametrize("status", [400, 401, 404, 422, 501])
def test_a_status_is_raised_with_all_that_came(
    server: View, send: Send, body: bytes, status: int
) -> None:
    raw = '{"error": {"message": "no such\\n model", "code": 7}, "äöü": [1.0, null]}'
    plan = {"kind": "status", "status": status, "raw": raw, "headers": {"X-Request-Id": "r9"}}
    server.plan(plan)
    with pytest.raises(ProviderStatusError, match=rf"HTTP {status} \(no such model\)") as caught:
        send(make(server, body))
    assert caught.value.status_code == status
    assert caught.value.body == raw.encode()
    assert caught.value.headers["x-request-id"] == "r9"
    assert server.base_url in str(caught.value)
    assert len(server.requests()) == 1


def test_redirects_are_not_followed(server: View, send: Send) -> None:
    server.plan({"kind": "status", "status": 307, "headers": {"Location": "/v1/chat/completions"}})
    with pytest.raises(ProviderStatusError, match="redirects are not followed"):
        send(make(server))
    assert len(server.requests()) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_some_statuses_are_tried_again(server: View, send: Send, status: int) -> None:
    server.plan({"kind": "status", "status": status}, {"kind": "status", "status": status})
    assert b"echo: hi" in send(make(server))
    assert len(server.requests()) == 3


@pytest.mark.parametrize("max_retries", [0, 1])
def test_retries_are_bounded(server: View, send: Send, body: bytes, max_retries: int) -> None:
    server.plan(*[{"kind": "status", "status": 503, "message": "busy"}] * 5)
    with pytest.raises(ProviderStatusError, match=r"HTTP 503 \(busy\)") as caught:
        send(make(server, body, max_retries=max_retries))
    assert len(server.requests()) == 1 + max_retries
    notes = getattr(caught.value, "__notes__", [])
    assert notes == (["after 2 attempts"] if max_retries else [])


def retry_after(seconds: float, form: str) -> dict[str, str]:
    if form == "date":  # of whole seconds, and some pass before the server sends it
        then = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds + 2)
        return {"Retry-After": format_datetime(then, usegmt=True)}
    return (
        {"retry-after-ms": f"{seconds * 1000}"} if form == "ms" else {"Retry-After": f"{seconds}"}
    )


@pytest.mark.parametrize("form", ["seconds", "ms", "date"])
def test_retry_after_is_obeyed(server: View, send: Send, form: str) -> None:
    server.plan({"kind": "status", "status": 429, "headers": retry_after(0.4, form)})
    send(make(server))
    first, second = server.requests()
    assert second["at"] - first["at"] >= 0.4


def test_an_hour_is_not_waited_for(server: View, send: Send) -> None:
    server.plan({"kind": "status", "status": 429, "headers": {"Retry-After": "3600"}})
    with pytest.raises(ProviderStatusError) as caught:
        send(make(server))
    assert caught.value.headers["retry-after"] == "3600"
    assert len(server.requests()) == 1


def test_a_reset_connection_is_tried_again(server: View, send: Send, body: bytes) -> None:
    server.plan({"kind": "reset"}, {"kind": "reset"})
    assert b"echo" in send(make(server, body))
    assert len(server.requests()) == 3


def test_half_an_answer_is_no_answer(server: View, send: Send) -> None:
    server.plan({"kind": "cut"}, {"kind": "cut"})
    with pytest.raises(AnswerCutError, match=r"RemoteProtocolError.*may have been billed"):
        send(make(server))
    assert len(server.requests()) == 1  # it is not bought again, unless one says so
    assert b"echo: hi" in send(make(server, retry_cut_answers=True))
    assert len(server.requests()) == 3


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_stream_is_never_tried_again_after_its_first_byte(server: View, end: str) -> None:
    server.plan({"kind": "events", "raw": "data: {}\n\n", "end": end, "seconds": 0.4})
    with HttpTransport() as transport:
        pieces = transport.send(make(server, STREAM)).iter_bytes()
        assert next(pieces) == b"data: {}\n\n"
        with pytest.raises(ProviderConnectionError):
            list(pieces)
    assert len(server.requests()) == 1


@pytest.mark.parametrize("end", ["cut", "reset"])
def test_a_stream_that_breaks_before_its_first_byte_is_tried_again(
    server: View, send: Send, end: str
) -> None:
    server.plan({"kind": "events", "raw": "", "end": end})
    assert b"[DONE]" in send(make(server, STREAM))
    assert len(server.requests()) == 2


def test_a_late_answer_is_given_up_and_not_bought_twice(
    server: View, send: Send, body: bytes
) -> None:
    server.plan({"kind": "stall", "seconds": 1.5})
    with pytest.raises(ProviderTimeoutError, match=r"no .* in 0\.5 s.*raise timeout_s"):
        send(make(server, body, timeout_s=0.5))
    assert len(server.requests()) == 1


def test_an_answer_that_drips_is_late_too(server: View, send: Send) -> None:
    server.plan({"kind": "trickle", "seconds": 0.05})
    with pytest.raises(ProviderTimeoutError, match=r"no complete answer in 0\.4 s"):
        send(make(server, timeout_s=0.4))


def test_a_stream_may_take_longer_than_its_timeout_but_not_pause_for_it(server: View) -> None:
    with HttpTransport() as transport:
        server.plan({"kind": "events", "raw": "data: 1\n\n" * 8, "pieces": 8, "seconds": 0.2})
        response = transport.send(make(server, STREAM, timeout_s=1.0))
        assert len(response.read()) == 8 * 9
        server.plan({"kind": "events", "raw": "data: 1\n\n" * 2, "pieces": 2, "seconds": 1.0})
        pieces = transport.send(make(server, STREAM, timeout_s=0.3)).iter_bytes()
        next(pieces)
        with pytest.raises(ProviderTimeoutError):
            next(pieces)


def test_the_timeout_of_a_request_wins(server: View) -> None:
    server.plan({"kind": "stall", "seconds": 1.5})
    request = make(server)
    with pytest.raises(ProviderTimeoutError, match=r"0\.5 s"):
        send_sync(Request(request.endpoint, request.body, timeout_s=0.5))


def test_nobody_listens(server: View, send: Send) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening: connections are refused
        endpoint = Endpoint(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", max_retries=1)
        with pytest.raises(ProviderConnectionError, match="ConnectError") as caught:
            send(Request(endpoint, BODY))
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.__notes__ == ["after 2 attempts"]
    assert server.requests() == []


def test_no_connection_in_time(send: Send) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]  # fill the queue, so that nobody else gets in
        for one in crowd:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", connect_timeout_s=0.2, max_retries=1)
        with pytest.raises(
            ProviderTimeoutError, match=r"no connection.*connect_timeout_s"
        ) as caught:
            send(Request(endpoint, BODY))
        assert caught.value.__notes__ == ["after 2 attempts"]
        for one in crowd:
            one.close()


def test_a_closed_transport_says_so(server: View) -> None:
    transport = HttpTransport()
    transport.send(make(server)).read()
    transport.close()
    transport.close()
    with pytest.raises(DispatchError, match="closed; make a new one"):
        transport.send(make(server))

    async def go() -> None:
        async with AsyncHttpTransport() as closed:
            await (await closed.asend(make(server))).read()
        with pytest.raises(DispatchError, match="closed; make a new one"):
            await closed.asend(make(server))

    asyncio.run(go())


# Threads and event loops


def test_eight_threads_share_a_transport(server: View) -> None:
    with HttpTransport() as transport, ThreadPoolExecutor(8) as threads:

        def ask(i: int) -> bool:
            body = BODY.replace(b"hi", f"number {i}.".encode())
            body = body[:-1] + b',"stream":true}' if i % 2 else body
            answer = transport.send(make(server, body)).read()
            return f"{i}.".encode() in answer

        assert all(threads.map(ask, range(64)))
    assert len(server.requests()) == 64


def test_one_transport_in_several_event_loops_leaves_nothing_open(server: View) -> None:
    transport = AsyncHttpTransport()

    async def ask() -> bytes:
        both = await asyncio.gather(*(transport.asend(make(server)) for _ in range(2)))
        return b"".join([await response.read() for response in both])

    answers = [asyncio.run(ask()) for _ in range(2)]

    def elsewhere() -> None:
        answers.append(asyncio.run(ask()))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert all(answer.count(b"echo: hi") == 2 for answer in answers)
    assert len(answers) == 3
    gc.collect()  # an open connection would warn here, and warnings are errors


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_a_forked_child_has_its_own_connections(server: View) -> None:
    with HttpTransport() as transport:
        assert transport.send(make(server)).read()
        child = os.fork()
        if child == 0:
            good = False
            try:
                good = all(b"echo" in transport.send(make(server)).read() for _ in range(2))
            finally:
                os._exit(0 if good else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert b"echo" in transport.send(make(server)).read()  # over the connection of before
    ports = [request["port"] for request in server.requests()]
    assert ports[0] == ports[3] != ports[1] == ports[2]
