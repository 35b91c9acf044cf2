"""What a chat request needs of a model: room, abilities, the length of its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastroute.candidates import Needs

#: Tokens that an image takes at most at the known providers, whatever the length of its data.
IMAGE_TOKENS = 3_000
#: Bytes of encoded audio of a token at least.
_AUDIO_BYTES = 200
#: Tokens around a message: its role and separators.
_MESSAGE_TOKENS = 8
_IMAGES = frozenset({"image_url", "input_image", "image"})
_AUDIO = frozenset({"input_audio", "audio"})
_LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")


def needs_of(body: Mapping[str, Any]) -> Needs:
    """The needs of the body of a chat request.

    The bound of the prompt's tokens is its length in bytes, tools and schema included. Images ask
    for ``vision``, audio for ``audio``, tools for ``tools``, a JSON schema for ``json_schema``,
    ``reasoning_effort`` (but "none") for ``reasoning``.
    """
    abilities: set[str] = set()
    size = extra = 0
    messages = body.get("messages")
    for message in messages if isinstance(messages, (list, tuple)) else ():
        more_size, more_extra = _message(message, abilities)
        size += more_size
        extra += more_extra + _MESSAGE_TOKENS
    for key in ("tools", "functions"):
        if body.get(key):
            abilities.add("tools")
            size += _json_bytes(body[key])
    schema = body.get("response_format")
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema":
        abilities.add("json_schema")
        size += _json_bytes(schema)
    if body.get("reasoning_effort") not in (None, "none"):
        abilities.add("reasoning")
    limits = [body[key] for key in _LIMITS if type(body.get(key)) is int and body[key] > 0]
    needs = Needs.of_bytes(size)
    return Needs(
        needs.most_tokens + extra,
        needs.likely_tokens + extra,
        frozenset(abilities),
        max(limits, default=None),
    )


def _message(message: Any, abilities: set[str]) -> tuple[int, int]:
    """Bytes of text and further tokens of a message; adds what it asks for."""
    if not isinstance(message, Mapping):
        return _json_bytes(message), 0
    content = message.get("content")
    size = sum(_json_bytes(message[k]) for k in ("tool_calls", "function_call") if message.get(k))
    if isinstance(content, str):
        return size + _bytes(content), 0
    extra = 0
    parts = content if isinstance(content, Sequence) else ()
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind in _IMAGES:
            abilities.add("vision")
            extra += IMAGE_TOKENS
        elif kind in _AUDIO:
            abilities.add("audio")
            extra += _json_bytes(part) // _AUDIO_BYTES
        elif kind is not None and isinstance(part.get("text"), str):
            size += _bytes(part["text"])
        else:
            size += _json_bytes(part)
    return size, extra


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _json_bytes(value: Any) -> int:
    try:
        return _bytes(json.dumps(value, ensure_ascii=False, default=str))
    except (TypeError, ValueError, RecursionError):
        return 0
