"""Proxies in another process: one that speaks HTTP, one that speaks SOCKS5.

The HTTP proxy answers each request itself, with a chat completion whose ``seen`` is what it was
asked: the first line and the headers; for CONNECT it connects to the target, as the SOCKS proxy
does always.
"""

from __future__ import annotations

import json
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def start(kind: str) -> Iterator[str]:
    """Run an "http" or a "socks" proxy until the block ends; its address, without a scheme."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fakes.proxy", kind],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(timeout=10)
        process.stdout.close()


class HttpProxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"choices": [], "seen": {"line": self.requestline, "headers": headers}})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_copy, args=(upstream, self.connection), daemon=True)
            back.start()
            _copy(self.connection, upstream)
            back.join(timeout=10)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


class SocksProxy(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        client: socket.socket = self.request
        methods = client.recv(2)[1]
        client.recv(methods)
        client.sendall(b"\x05\x00")
        kind = client.recv(4)[3]
        if kind == 3:
            host = client.recv(client.recv(1)[0]).decode()
        else:
            host = socket.inet_ntoa(client.recv(4))
        port = int.from_bytes(client.recv(2), "big")
        # The name that only this proxy knows.
        target = "127.0.0.1" if host == "behind.the.proxy" else host
        with socket.create_connection((target, port)) as upstream:
            client.sendall(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=_copy, args=(upstream, client), daemon=True)
            back.start()
            _copy(client, upstream)
            back.join(timeout=10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class _Threading(socketserver.ThreadingTCPServer):
    daemon_threads = True


if __name__ == "__main__":
    server: socketserver.BaseServer
    if sys.argv[1] == "http":
        server = ThreadingHTTPServer(("127.0.0.1", 0), HttpProxy)
    else:
        server = _Threading(("127.0.0.1", 0), SocksProxy)
    print(server.server_address[1], flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
