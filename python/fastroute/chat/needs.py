"""What a chat request needs of a model: room, abilities, the length of its answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
#: Lists of messages or items, and text beside them, of OpenAI's and Anthropic's APIs.
_LISTS = ("messages", "input")
_TEXTS = ("system", "instructions", "prompt")
#: Members of a message that hold what is said, as text or as a list of parts.
_CONTENTS = ("content", "output")


def needs_of(body: Mapping[str, Any]) -> Needs:
    """The needs of the body of a request to Chat Completions, Completions, Responses or Messages.

    The bound of the prompt's tokens is its length in bytes, tools and schema included. Images ask
    for ``vision``, audio for ``audio``, tools for ``tools``, a JSON schema for ``json_schema``,
    a reasoning effort (but "none") and Anthropic's ``thinking`` for ``reasoning``.
    """
    abilities: set[str] = set()
    size = extra = 0
    for key in (*_LISTS, *_TEXTS):
        if not body.get(key):
            continue
        more_size, more_extra = _content(body[key], abilities)
        size += more_size
        extra += more_extra
        if key in _LISTS and isinstance(body[key], (list, tuple)):
            extra += _MESSAGE_TOKENS * len(body[key])
    for key in ("tools", "functions"):
        if body.get(key):
            abilities.add("tools")
            size += _json_bytes(body[key])
    for schema in (
        *(body.get(key) for key in ("response_format", "output_format")),
        *(_member(body.get(key), "format") for key in ("text", "output_config")),
    ):
        if _member(schema, "type") == "json_schema":
            abilities.add("json_schema")
            size += _json_bytes(schema)
    efforts = (body.get("reasoning_effort"), _member(body.get("reasoning"), "effort"))
    thinks = _member(body.get("thinking"), "type") in ("enabled", "adaptive")
    if thinks or any(effort not in (None, "none") for effort in efforts):
        abilities.add("reasoning")
    limits = [body[key] for key in _LIMITS if type(body.get(key)) is int and body[key] > 0]
    needs = Needs.of_bytes(size)
    return Needs(
        needs.most_tokens + extra,
        needs.likely_tokens + extra,
        frozenset(abilities),
        max(limits, default=None),
    )


def _content(content: Any, abilities: set[str]) -> tuple[int, int]:
    """Bytes of text and further tokens of ``content``; adds what it asks for."""
    if isinstance(content, str):
        return _bytes(content), 0
    if not isinstance(content, (list, tuple)):
        return _json_bytes(content), 0
    size = extra = 0
    for part in content:
        more_size, more_extra = _part(part, abilities)
        size += more_size
        extra += more_extra
    return size, extra


def _part(part: Any, abilities: set[str]) -> tuple[int, int]:
    """As ``_content`` of a message, of an item, or of a part of one."""
    if not isinstance(part, Mapping):
        return _content(part, abilities) if isinstance(part, str) else (_json_bytes(part), 0)
    kind = part.get("type")
    if kind in _IMAGES:
        abilities.add("vision")
        return 0, IMAGE_TOKENS
    if kind in _AUDIO:
        abilities.add("audio")
        return 0, _json_bytes(part) // _AUDIO_BYTES
    size = extra = 0
    for key, value in part.items():
        if key in _CONTENTS and value:
            more_size, extra_of_it = _content(value, abilities)
            size += more_size
            extra += extra_of_it
        elif value and key not in ("type", "role", "cache_control"):
            size += _bytes(value) if isinstance(value, str) else _json_bytes(value)
    return size, extra


def _member(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _json_bytes(value: Any) -> int:
    try:
        return _bytes(json.dumps(value, ensure_ascii=False, default=str))
    except (TypeError, ValueError, RecursionError):
        return 0
