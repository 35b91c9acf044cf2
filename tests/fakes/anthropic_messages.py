"""Anthropic's Messages API: ``POST /v1/messages``, as a stream too, and ``/count_tokens``.

It requires a key in ``x-api-key`` and a version in ``anthropic-version``, as the real one does.
"""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from typing import Any

from fakes import planned

USAGE = {
    "input_tokens": 6,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 30,
    "output_tokens": 4,
}


def start() -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.anthropic_messages")


class _Handler(planned.PlannedHandler):
    @property
    def path_served(self) -> str:
        path = self.path.partition("?")[0]
        return path if path in ("/v1/messages", "/v1/messages/count_tokens") else "/v1/messages"

    def usual(self, _behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        if self.path.partition("?")[0].endswith("/count_tokens"):
            return json.dumps({"input_tokens": 17}).encode()
        return json.dumps(self._message(body, USAGE)).encode()

    def _message(self, body: dict[str, Any], usage: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [{"type": "text", "text": f"I am {body['model']}."}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }

    def special(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bool:
        for name in ("x-api-key", "anthropic-version"):
            if name not in self.record["headers"]:
                self.error(401, "authentication_error", f"{name}: header is required")
                return True
        if behaviour["kind"] == "error":
            self.error(behaviour["status"], behaviour["type"], behaviour["message"])
            return True
        if not body.get("stream"):
            return False
        begun = {**self._message(body, {**USAGE, "output_tokens": 1}), "content": []}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": begun},
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "text", "text": ""},
            },
            {"type": "ping"},
        ]
        for word in ("I ", "am ", f"{body['model']}."):
            delta = {"type": "text_delta", "text": word}
            events.append({"type": "content_block_delta", "index": 0, "delta": delta})
        if behaviour["kind"] == "error_event":
            error = {"type": "overloaded_error", "message": "Overloaded"}
            events.append({"type": "error", "error": error})
        else:
            events += [
                {"type": "content_block_stop", "index": 0},
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                    "usage": {"output_tokens": 4},
                },
                {"type": "message_stop"},
            ]
        self.begin(200, None, kind="text/event-stream")
        for event in events:
            raw = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")
        return True

    def error(self, status: int, kind: str, message: str) -> None:
        """An error in Anthropic's form."""
        raw = json.dumps({"type": "error", "error": {"type": kind, "message": message}})
        self.fail(status, message, raw=raw)


if __name__ == "__main__":
    planned.serve(_Handler)
