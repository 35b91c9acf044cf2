"""The text of an answer as its provider sent it, for a journal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastroute.chat.sse import EventDecoder
from fastroute.errors import ProviderResponseError


def answer_text(body: bytes, *, is_stream: bool) -> str | None:
    """What a model wrote in ``body``, in any API; None where it wrote no text.

    A tool call is its JSON. A stream that is cut off gives what came.
    """
    try:
        if is_stream:
            events = EventDecoder().feed(body + b"\n\n")
            found = [part for event in events for part in _parts(_read(event.data))]
        else:
            found = list(_parts(_read(body)))
    except ProviderResponseError:  # an event of megabytes
        return None
    return "".join(found) or None


def _read(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _parts(answer: Any) -> Iterator[str]:
    """The texts in an answer, or in an event of a stream, in order."""
    if not isinstance(answer, Mapping):
        return
    choices = answer.get("choices")
    if isinstance(choices, list):  # chat completions, and completions
        first = next((c for c in choices if isinstance(c, Mapping) and not c.get("index")), {})
        yield from _content(first.get("message") or first.get("delta") or first)
    elif answer.get("type") == "content_block_delta":  # messages, as a stream
        yield from _content(answer.get("delta"))
    elif answer.get("type") == "response.output_text.delta":  # responses, as a stream
        yield from _content({"text": answer.get("delta")})
    elif isinstance(answer.get("content"), list):  # messages
        for block in answer["content"]:
            yield from _content(block)
    elif isinstance(answer.get("output"), list):  # responses
        for item in answer["output"]:
            for part in (item.get("content") or ()) if isinstance(item, Mapping) else ():
                yield from _content(part)


def _content(part: Any) -> Iterator[str]:
    if not isinstance(part, Mapping):
        return
    for name in ("content", "text", "partial_json"):
        if isinstance(part.get(name), str):
            yield part[name]
    if part.get("tool_calls"):
        yield json.dumps(part["tool_calls"], ensure_ascii=False)
