"""A real HTTP server for OpenAI's ``POST /v1/chat/completions`` that misbehaves when told to.

The usual answer is "echo: <the last message's content>", as a stream where one is asked for.

Kinds of plan beside those of ``fakes.planned``: ``reply`` (``body``: this JSON instead),
``events`` (``raw`` of a stream, ``pieces`` to split it into, ``seconds`` between them, ``end``:
"clean", "cut" or "reset"), ``endless`` (a stream until the client leaves, ``seconds`` between
pieces).

By itself: ``python -m fakes.openai_chat`` in the folder ``tests`` prints the port and serves
until its standard input ends.
"""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from typing import Any

from fakes import planned


def start() -> AbstractContextManager[planned.Server]:
    """Run the server in another process until the block ends."""
    return planned.start("fakes.openai_chat")


def event(content: str | None, finish_reason: str | None = None) -> str:
    """One event of a stream."""
    delta = {} if content is None else {"content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "c1", "object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"


class Handler(planned.PlannedHandler):
    path_served = "/v1/chat/completions"

    def usual(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bytes:
        if behaviour["kind"] == "reply":
            return json.dumps(behaviour["body"]).encode()
        message = {"role": "assistant", "content": f"echo: {body['messages'][-1]['content']}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        answer = {
            "id": "c1",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [choice],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            "x_unknown": {"kept": True},
        }
        return json.dumps(answer).encode()

    def special(self, behaviour: dict[str, Any], body: dict[str, Any]) -> bool:
        kind = behaviour["kind"]
        if kind == "endless":
            self._begin_stream()
            while True:
                self._chunk(event("more ").encode())
                time.sleep(behaviour["seconds"])
        if kind == "events" or (body.get("stream") and kind in ("usual", "stall")):
            if kind == "stall":
                time.sleep(behaviour["seconds"])
            words = f"echo: {body['messages'][-1]['content']}".split(" ")
            usual = (
                "".join(event(word) for word in words) + event(None, "stop") + "data: [DONE]\n\n"
            )
            self._stream(behaviour, behaviour.get("raw", usual).encode())
            return True
        return False

    def _stream(self, behaviour: dict[str, Any], raw: bytes) -> None:
        self._begin_stream()
        size = -(-len(raw) // behaviour.get("pieces", 1)) or 1
        for i in range(0, len(raw), size):
            self._chunk(raw[i : i + size])
            time.sleep(behaviour.get("seconds", 0))
        end = behaviour.get("end", "clean")
        if end == "clean":
            self.wfile.write(b"0\r\n\r\n")
        elif end == "reset":
            self.reset()
        self.close_connection = self.close_connection or end == "cut"

    def _begin_stream(self) -> None:
        self.begin(200, None, {"x-request-id": "r1"}, "text/event-stream; charset=utf-8")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


if __name__ == "__main__":
    planned.serve(Handler)
