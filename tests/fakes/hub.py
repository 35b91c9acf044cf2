"""A Hugging Face Hub with one model, ``someone/tiny``, served from a folder."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def serve_hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Its address, for HF_ENDPOINT, and the files asked for so far."""
    files = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    commit = "0" * 40
    fetched: list[str] = []

    class Hub(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def answer(self, body: bytes, **headers: str) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.partition(f"/someone/tiny/resolve/{commit}/")[2]
            if path.startswith("/api/models/someone/tiny/tree/"):
                tree = [
                    {"type": "file", "path": n, "size": p.stat().st_size, "oid": "1" * 40}
                    for n, p in files.items()
                ]
                self.answer(json.dumps(tree).encode(), Content_Type="application/json")
            elif path.startswith("/api/models/someone/tiny"):
                info = {
                    "id": "someone/tiny",
                    "sha": commit,
                    "siblings": [{"rfilename": n} for n in files],
                }
                self.answer(json.dumps(info).encode(), Content_Type="application/json")
            elif name in files:
                if self.command == "GET":
                    fetched.append(name)
                etag = f'"{name.replace("/", "-")}"'
                self.answer(files[name].read_bytes(), ETag=etag, X_Repo_Commit=commit)
            else:
                self.send_error(404)

        do_HEAD = do_GET  # noqa: N815

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", fetched
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
