"""OpenAI's Responses API, with the responses that it has stored; others are 404.

Its name, the argument of the command, is in the ids and texts of its answers.
"""

from __future__ import annotations

import itertools
import json
import sys
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from fakes import planned


def start(name: str) -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_responses", name)


class _Handler(planned.PlannedHandler):
    path_served = "/v1/responses"
    stored: ClassVar[dict[str, dict[str, Any]]] = {}
    numbers = itertools.count()

    def usual(self, _behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        return json.dumps(self._make(body)).encode()

    def _make(self, body: dict[str, Any]) -> dict[str, Any]:
        name = f"resp_{sys.argv[1]}{next(self.numbers)}"
        text = {"type": "output_text", "text": f"from {sys.argv[1]}", "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
        self.stored[name] = {
            "id": name,
            "object": "response",
            "created_at": 0,
            "status": "completed",
            "model": body.get("model"),
            "output": [{**message, "content": [text]}],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        }
        return self.stored[name]

    def special(self, _behaviour: dict[str, Any], body: dict[str, Any]) -> bool:
        if not body.get("stream"):
            return False
        made = self._make(body)
        begun = {"type": "response.created", "response": {**made, "status": "in_progress"}}
        done = {"type": "response.completed", "response": made}
        events = [
            f"event: {e['type']}\ndata: {json.dumps({**e, 'sequence_number': i})}\n\n"
            for i, e in enumerate((begun, done))
        ]
        self.begin(200, None, kind="text/event-stream")
        raw = "".join(events).encode()
        for piece in (raw[:50], raw[50:]):
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        return True

    def do_GET(self) -> None:  # noqa: N802
        if self.path.startswith("/v1/"):
            self._about()
        else:
            super().do_GET()

    def do_DELETE(self) -> None:  # noqa: N802
        self._about()

    def do_POST(self) -> None:  # noqa: N802
        if self.path.partition("?")[0].endswith("/cancel"):
            self._about()
        else:
            super().do_POST()

    def _about(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        seen = {"method": self.command, "path": self.path, "headers": headers}
        with self.lock:
            self.seen.append(seen)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, _, _, name, *rest = self.path.partition("?")[0].split("/")
        if name not in self.stored:
            self.fail(404, f"Response with id '{name}' not found.")
        elif self.command == "DELETE":
            del self.stored[name]
            self.answer(json.dumps({"id": name, "object": "response", "deleted": True}).encode())
        elif rest == ["input_items"]:
            self.answer(json.dumps({"object": "list", "data": [], "has_more": False}).encode())
        else:
            self.answer(json.dumps(self.stored[name]).encode())


if __name__ == "__main__":
    planned.serve(_Handler)
