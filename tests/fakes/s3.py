"""A server on the loopback interface with as much of S3's API as Arrow's file system calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import IO
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_DATE = "Sat, 28 Nov 2026 10:00:00 GMT"


class FakeS3:
    """Objects by "bucket/key"."""

    def __init__(self, port: int) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.port = port

    def uri(self, path: str) -> str:
        """A URI for ``pyarrow.fs.FileSystem.from_uri``."""
        endpoint = quote(f"127.0.0.1:{self.port}", safe="")
        return f"s3://key:secret@{path}?scheme=http&region=x&endpoint_override={endpoint}"


def _chunks(stream: IO[bytes]) -> bytes:
    """The content of a chunked body, without its trailers."""
    content = b""
    while count := int(stream.readline().split(b";")[0], 16):
        content += stream.read(count)
        stream.readline()
    while stream.readline().strip():
        pass
    return content


@contextmanager
def fake_s3() -> Iterator[FakeS3]:
    """A running server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            length = headers.get("X_Length", str(len(body)))
            self.send_header("Content-Length", length)
            self.send_header("Last-Modified", _DATE)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def _asked(self) -> tuple[str, dict[str, str]]:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, keep_blank_values=True)
            return unquote(parts.path).strip("/"), {k: v[0] for k, v in query.items()}

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = _chunks(self.rfile)
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            aws = "aws-chunked" in self.headers.get("Content-Encoding", "")
            return _chunks(BytesIO(body)) if aws else body

        def do_HEAD(self) -> None:
            path, _ = self._asked()
            found = server.objects.get(path)
            is_bucket = "/" not in path
            if found is None and not is_bucket:
                return self._answer(404)
            return self._answer(200, X_Length=str(len(found or b"")), ETag='"x"')

        def do_GET(self) -> None:
            path, query = self._asked()
            if "list-type" in query:
                return self._list(path, query)
            found = server.objects.get(path)
            if found is None:
                return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            asked = self.headers.get("Range")
            if asked is None:
                return self._answer(200, found, ETag='"x"')
            first, last = asked.removeprefix("bytes=").split("-")
            begin, end = int(first), min(int(last or len(found)), len(found) - 1)
            said = f"bytes {begin}-{end}/{len(found)}"
            return self._answer(206, found[begin : end + 1], Content_Range=said, ETag='"x"')

        def _list(self, bucket: str, query: dict[str, str]) -> None:
            prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
            keys, folders = [], set()
            for path in sorted(server.objects):
                key = path.removeprefix(f"{bucket}/")
                if path == key or not key.startswith(prefix):
                    continue
                rest = key[len(prefix) :]
                if delimiter and delimiter in rest:
                    folders.add(prefix + rest.split(delimiter)[0] + delimiter)
                else:
                    keys.append((key, len(server.objects[path])))
            entries = "".join(
                f"<Contents><Key>{escape(k)}</Key><Size>{n}</Size>"
                "<LastModified>2026-11-28T10:00:00.000Z</LastModified></Contents>"
                for k, n in keys
            )
            groups = "".join(
                f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>"
                for f in sorted(folders)
            )
            body = (
                '<?xml version="1.0"?><ListBucketResult><IsTruncated>false</IsTruncated>'
                f"<KeyCount>{len(keys) + len(folders)}</KeyCount>{entries}{groups}"
                "</ListBucketResult>"
            )
            self._answer(200, body.encode(), Content_Type="application/xml")

        def do_PUT(self) -> None:
            path, query = self._asked()
            body = self._body()
            if "uploadId" in query:
                server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            elif "/" in path:
                # Arrow writes "folder/" for a folder.
                server.objects[path + "/" * self.path.split("?")[0].endswith("/")] = body
            self._answer(200, ETag='"x"')

        def do_POST(self) -> None:
            path, query = self._asked()
            self._body()
            if "uploads" in query:
                identifier = f"upload-{len(server.uploads)}"
                server.uploads[identifier] = {}
                said = f"<UploadId>{identifier}</UploadId>"
                body = f"<InitiateMultipartUploadResult>{said}</InitiateMultipartUploadResult>"
            else:
                chunks = server.uploads[query["uploadId"]]
                server.objects[path] = b"".join(chunks[i] for i in sorted(chunks))
                body = (
                    "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>"
                )
            self._answer(200, body.encode(), Content_Type="application/xml")

        def do_DELETE(self) -> None:
            server.objects.pop(self._asked()[0], None)
            self._answer(204)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server = FakeS3(http.server_port)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
