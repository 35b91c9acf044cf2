"""A whole chat completion as the stream that a client asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def as_stream(body: bytes, *, include_usage: bool = False) -> Iterator[bytes]:
    """Server-sent events with what ``body``, a chat completion, says: one delta a choice, its
    finish_reason, usage where it was asked for, and ``[DONE]``."""
    completion = json.loads(body)
    shared = {
        name: completion[name]
        for name in ("id", "created", "model", "system_fingerprint")
        if name in completion
    }
    shared["object"] = "chat.completion.chunk"
    for choice in completion.get("choices", ()):
        delta = {k: v for k, v in choice.get("message", {}).items() if v is not None}
        if "tool_calls" in delta:
            delta["tool_calls"] = [
                {"index": i, **call} for i, call in enumerate(delta["tool_calls"])
            ]
        yield _event(shared, [_chunk(choice, delta, None)])
        yield _event(shared, [_chunk(choice, {}, choice.get("finish_reason"))])
    if include_usage:
        yield _event(shared | {"usage": completion.get("usage")}, [])
    yield b"data: [DONE]\n\n"


def _chunk(choice: dict[str, Any], delta: dict[str, Any], finish_reason: str | None) -> Any:
    made = {"index": choice.get("index", 0), "delta": delta, "finish_reason": finish_reason}
    if finish_reason is None and choice.get("logprobs") is not None:
        made["logprobs"] = choice["logprobs"]
    return made


def _event(shared: dict[str, Any], choices: list[Any]) -> bytes:
    content = json.dumps(shared | {"choices": choices}, ensure_ascii=False, separators=(",", ":"))
    return f"data: {content}\n\n".encode()
