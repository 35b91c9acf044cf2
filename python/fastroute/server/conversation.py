"""What of a request is routed on, and which conversation it belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastroute.errors import InvalidPromptError
from fastroute.prompts import prompt_from_messages
from fastroute.server.config import StickinessConfig

#: Messages of the user before the last that are scored again for a conversation not yet known.
MAX_REPLAYED = 8


def messages_of(fields: Mapping[str, Any], path: str) -> list[Any]:
    """The conversation of a request, as chat messages, whichever API it is for.

    ``/completions`` has a ``prompt``, ``/responses`` an ``input``: texts become messages of the
    user. Token ids are no text. Raises InvalidPromptError where there is nothing of the kind.
    """
    if path == "/completions":
        prompt = fields.get("prompt")
        texts = prompt if isinstance(prompt, list) else [prompt]
        if "prompt" not in fields:
            raise InvalidPromptError("there is no prompt to route on")
        joined = "\n".join(text for text in texts if isinstance(text, str))
        return [{"role": "user", "content": joined}]
    if path == "/responses":
        asked = fields.get("input")
        if isinstance(asked, str):
            return [{"role": "user", "content": asked}]
        if not isinstance(asked, list):
            raise InvalidPromptError("there is no input to route on; it is a text or a list")
        return [_message_of_item(item) for item in asked]
    messages = fields.get("messages")
    if not isinstance(messages, list):
        raise InvalidPromptError(
            'there is nothing to route on; give "messages", a list such as '
            '[{"role": "user", "content": "..."}]'
        )
    return messages


def _message_of_item(item: Any) -> Any:
    """An item of ``/responses`` as a chat message; other items, such as tool calls, are no text."""
    if not isinstance(item, Mapping) or item.get("type", "message") != "message":
        return {"role": "tool", "content": None}
    content = item.get("content")
    if isinstance(content, list):
        content = [
            {"type": "text", "text": part["text"]}
            for part in content
            if isinstance(part, Mapping)
            and part.get("type") in ("input_text", "output_text", "text")
            and isinstance(part.get("text"), str)
        ]
    return {"role": item.get("role"), "content": content}


def prompt_to_route_on(messages: Sequence[Any], window: int) -> str:
    """The last user message that has text, with the ``window - 1`` before it, oldest first.

    Raises InvalidPromptError as ``prompt_from_messages``.
    """
    last = prompt_from_messages(messages)
    if window == 1:
        return last
    return "\n\n".join(user_texts(messages)[-window:]) or last


def user_texts(messages: Sequence[Any]) -> list[str]:
    """The texts of the user's messages, in order; those without text are left out."""
    texts = (prompt_from_messages([m]) for m in messages if m["role"] == "user")
    return [text for text in texts if text]


def session_key(
    sticky: StickinessConfig,
    fields: Mapping[str, Any],
    messages: Sequence[Any],
    headers: Mapping[str, str],
    caller: str,
) -> bytes | None:
    """What names the conversation; None where nothing does.

    By ``messages``: all up to the first of the user, which later turns repeat. Callers with
    different keys never share a conversation. Only a hash is kept.
    """
    if sticky.by == "none":
        return None
    named: Any
    if sticky.by == "header":
        named = headers.get(sticky.header)
    elif sticky.by == "user":
        named = fields.get("user") or fields.get("safety_identifier")
    else:
        first = next((i for i, m in enumerate(messages) if m.get("role") == "user"), None)
        named = None if first is None else [fields.get("user"), messages[: first + 1]]
    if not named:
        return None
    try:
        text = json.dumps([caller, named], sort_keys=True)
    except RecursionError:  # so deep that it can't be told from others: each request by itself
        return None
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
