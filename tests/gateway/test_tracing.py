"""Spans reach a collector, name what happened, and hold no prompt."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fakes import gateway as gateways
from fakes.planned import View

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_spans_of_a_request(config_file: str, upstream: View) -> None:
    got: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    path = Path(config_file)
    path.write_text("[server]\nopentelemetry = true\n" + path.read_text())
    with ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        environment = {
            "PROVIDER_KEY": "sk-provider-0123456789abcdef",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with gateways.start("--config", config_file, environment=environment) as gateway:
            body = {
                "model": "router-length-0.5",
                "messages": [{"role": "user", "content": "a secret prompt"}],
            }
            headers = {"traceparent": PARENT}
            assert gateway.ask("POST", "/v1/chat/completions", body, headers).status == 200
        collector.shutdown()
    sent = b"".join(got)
    for text in (b"POST /v1/chat/completions", b"provider", b"fastroute.win_rate", b"service.name"):
        assert text in sent
    assert bytes.fromhex(PARENT.split("-")[1]) in sent  # inside the caller's trace
    assert b"secret" not in sent
    handed_on = upstream.requests()[0]["headers"]["traceparent"].split("-")
    assert handed_on[1] == PARENT.split("-")[1]
    assert handed_on[2] != PARENT.split("-")[2]
