"""Which texts a journal keeps, and what a model wrote in an answer as its provider sent it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from fastroute.chat.sse import EventDecoder
from fastroute.errors import ProviderResponseError
from fastroute.gateway.config.journal import JournalConfig, load_hook
from fastroute.gateway.operations.logs import log


class Texts:
    """Which texts are kept, and how."""

    def __init__(self, config: JournalConfig) -> None:
        self.prompts = config.prompts
        self.answers = config.answers
        self._most = config.max_text_characters
        self._redact = None if config.redact is None else load_hook(config.redact)

    @property
    def most_bytes(self) -> int:
        """Bytes of an answer to look at: a stream has far more of them than text."""
        return 64 * self._most

    def cut(self, text: str) -> str:
        """``text`` as long as it may be."""
        return text[: self._most]

    def kept(self, text: str | None) -> str | None:
        """``text`` as the hook returns it, no longer than it may be; None where that fails."""
        if text is None or self._redact is None:
            return text and self.cut(text)
        try:
            return self.cut(str(self._redact(self.cut(text))))
        except Exception as error:  # it is not ours
            log("the redaction hook failed: the text is not kept", kind=type(error).__name__)
            return None


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
