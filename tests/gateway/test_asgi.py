"""The gateway as an ASGI application, under a real uvicorn in another process."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli_runner import wait_for
from fakes.gateway import Answer, Gateway, stop
from fakes.planned import Server, View
from fastroute.gateway.asgi import GatewayApp
from gateway.conftest import CONFIG, PROVIDER_KEY

ASK = [{"role": "user", "content": "hello there"}]
APP = 'from fastroute.gateway.asgi import GatewayApp\napp = GatewayApp("{config}")\n'


@contextmanager
def _uvicorn(folder: Path, config: str) -> Iterator[subprocess.Popen[str]]:
    path = folder / "gateway.toml"
    path.write_text(config)
    (folder / "app.py").write_text(APP.format(config=path))
    words = ["--port", "0", "--app-dir", str(folder), "--timeout-graceful-shutdown", "5", "app:app"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "uvicorn", "--no-server-header", *words],
        env=os.environ | {"PROVIDER_KEY": PROVIDER_KEY},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        stop(process)
        assert process.stderr is not None
        process.stderr.close()


class Application(Gateway):
    """A uvicorn that is ready."""

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            _, found, where = line.partition("running on http://127.0.0.1:")
            if found:
                self.port = int(where.split()[0])
                self.lines.append('{"event": "serving"}\n')
                self._listening.set()
        self._listening.set()


@pytest.fixture(scope="module")
def app(upstream_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    text = CONFIG.format(base_url=upstream_server.base_url)
    with _uvicorn(tmp_path_factory.mktemp("asgi"), text) as process:
        yield Application(process)


def _chat(**more: Any) -> dict[str, Any]:
    return {"model": "weak", "messages": ASK, **more}


def test_answers_are_those_of_serve(app: Application, gateway: Gateway, upstream: View) -> None:
    asked: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", "/v1/chat/completions?x=%2F1", _chat(model="fastroute"), {"x-title": "Übung"}),
        ("POST", "/v1/chat/completions", gzip.compress(json.dumps(_chat()).encode()),
         {"content-encoding": "gzip"}),
        ("POST", "/v1/chat/completions", b"{", {}),
        ("POST", "/v1/chat/completions", _chat(model="none such"), {}),
        ("GET", "/v1/models/", None, {}),
        ("GET", "/v1/models/router-length-0.5", None, {}),
        ("GET", "/v1/models%2F", None, {}),
        ("GET", "/v1/chat/completions", None, {}),
        ("HEAD", "/health", None, {}),
    ]  # fmt: skip
    for method, path, body, headers in asked:
        here, there = (_without_own(g.ask(method, path, body, headers)) for g in (app, gateway))
        assert here == there, path
    ours, theirs = ({**r, "at": 0, "port": 0} for r in upstream.requests()[:2])
    assert ours == theirs
    assert ours["path"].endswith("?x=%2F1")


def _without_own(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    own = ("date", "x-fastroute-request-id", "x-fastroute-decision-us", "connection")
    headers = {name: value for name, value in answer.headers.items() if name not in own}
    return answer.status, headers, answer.body


def test_a_stream_comes_piece_by_piece(app: Application, upstream: View) -> None:
    upstream.plan({"kind": "endless", "seconds": 0.05})
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", json.dumps(_chat(stream=True)))
    answer = connection.getresponse()
    assert answer.readline().startswith(b"data: ")
    # The client leaves, and so does the gateway.
    answer.close()
    connection.close()
    wait_for(lambda: upstream.requests()[-1]["gave_up"])
    app.wait_for(lambda: app.events("request")[-1]["error"] == "client_left")


def test_a_client_that_leaves_before_the_answer(app: Application, upstream: View) -> None:
    upstream.plan({"kind": "trickle", "seconds": 0.05})
    body = json.dumps(_chat()).encode()
    with socket.create_connection(("127.0.0.1", app.port)) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_for(lambda: len(upstream.requests()) == 1)
    wait_for(lambda: upstream.requests()[0]["gave_up"])


def test_a_client_that_leaves_within_its_body(app: Application) -> None:
    before = len(app.events("request"))
    with socket.create_connection(("127.0.0.1", app.port)) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        wait_for(lambda: b"in_flight 1.0" in app.ask("GET", "/metrics").body)
    app.wait_for(lambda: len(app.events("request")) > before)
    assert app.events("request")[-1]["error"] == "client_left"


def test_an_answer_that_breaks_off_is_seen_by_the_client(app: Application, upstream: View) -> None:
    upstream.plan({"kind": "events", "end": "reset"})
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        app.ask("POST", "/v1/chat/completions", _chat(stream=True))


def test_a_body_that_is_too_long_is_refused_at_its_beginning(app: Application) -> None:
    with socket.create_connection(("127.0.0.1", app.port), timeout=30) as connection:
        head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        connection.sendall(f"{head}Content-Length: {2**34}\r\n\r\n{{".encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_a_body_in_chunks(app: Application) -> None:
    body = json.dumps(_chat()).encode()
    pieces = (body[i : i + 7] for i in range(0, len(body), 7))
    connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
    connection.request("POST", "/v1/chat/completions", pieces, encode_chunked=True)
    assert connection.getresponse().status == 200
    connection.close()


def test_requests_under_way_are_finished(
    upstream_server: Server, upstream: View, tmp_path: Path
) -> None:
    with _uvicorn(tmp_path, CONFIG.format(base_url=upstream_server.base_url)) as process:
        app = Application(process)
        upstream.plan({"kind": "events", "pieces": 5, "seconds": 0.2})
        connection = http.client.HTTPConnection("127.0.0.1", app.port, timeout=30)
        connection.request("POST", "/v1/chat/completions", json.dumps(_chat(stream=True)))
        answer = connection.getresponse()
        answer.readline()
        process.terminate()
        assert answer.read().endswith(b"[DONE]\n\n")
        connection.close()
        assert process.wait(timeout=30) in (0, -signal.SIGTERM)


def test_a_configuration_that_is_not_valid_stops_the_start(tmp_path: Path) -> None:
    with _uvicorn(tmp_path, "[routing]\nrouters = 5\n") as process:
        assert process.stderr is not None
        said = process.stderr.read()
        process.wait(timeout=30)
    assert process.returncode != 0
    assert "routers" in said


def test_without_a_lifespan_it_says_so() -> None:
    app = GatewayApp("gateway.toml")
    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "http_version": "1.1"}

    async def nothing(*_: Any) -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(RuntimeError, match="needs ASGI's lifespan"):
        asyncio.run(app(scope, nothing, nothing))  # type: ignore[arg-type]
