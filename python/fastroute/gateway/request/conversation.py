"""What of a request is routed on, and which conversation it belongs to."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from fastroute._native import find_json_members
from fastroute.candidates.memory import conversation_name
from fastroute.chat.prompts import prompt_from_messages
from fastroute.errors import BodyError, InvalidPromptError
from fastroute.gateway.config.settings import SessionAffinityConfig
from fastroute.gateway.request.document import (
    LONG_BYTES,
    Fields,
    LongValue,
    copy_part,
    read_bounded,
    read_json,
)

#: Earlier messages of the user that are scored again, at most.
MAX_REPLAYED = 64
#: Of a longer text the first and last half of so many characters are scored: an embedder reads a
#: million characters a second, and one of the megabytes that a body may have would hold a worker.
MAX_CHARACTERS = 100_000
#: A part of a message up to here is quicker read than looked through, and can't nest too deep.
SHORT_BYTES = 512


def messages_of(fields: Mapping[str, Any], path: str) -> list[Any]:
    """The conversation of a request, as chat messages, whichever API it is for.

    ``/completions`` has a ``prompt``, ``/responses`` an ``input``: texts become messages of the
    user. Token ids are not text. A request to ``/responses`` may have its input at the provider, by
    ``prompt``, ``conversation`` or ``previous_response_id``; it has then one message without text.
    Raises InvalidPromptError where there is nothing of the kind.
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
        if asked is not None and not isinstance(asked, list):
            raise InvalidPromptError("input must be a string or a list of items")
        return [_message_of_item(item) for item in asked or [None]]
    messages = fields.get("messages")
    if not isinstance(messages, list):
        raise InvalidPromptError(
            'there is nothing to route on; give "messages", a list such as '
            '[{"role": "user", "content": "..."}]'
        )
    return messages


class LongMessage(dict[str, Any]):
    """A message of which only role and texts are read, and the digest of its bytes."""

    def __init__(self, message: Mapping[str, Any], raw: bytes) -> None:
        super().__init__(message)
        self.digest = hashlib.blake2b(raw, digest_size=16).hexdigest()


def messages_of_long(fields: Fields, path: str, window: int) -> list[Any]:
    """Of the messages of a body that may be megabytes of images those that a decision needs: all up
    to the user's first, which names the conversation, and the user's last. For no event loop.

    Those up to the user's first are read whole as long as they have no more than LONG_BYTES
    together: all that a shorter body could have, so that its turns have the same name.
    """
    where = {"/completions": "", "/responses": "input"}.get(path, "messages")
    if path == "/completions" and isinstance(fields.get("prompt"), LongValue):
        return [{"role": "user", "content": "\n".join(_strings(fields.raw("prompt")))}]
    if where not in fields:
        return _as_long(messages_of(fields, path))
    raw = fields.raw(where)
    fault, _, spans = find_json_members(raw, array=True)
    if fault == "too_many":
        raise BodyError("the body has more than 100,000 messages")
    if fault:
        return _as_long(messages_of(fields, path))
    read = _item if path == "/responses" else _message
    first: list[Any] = []
    while len(first) < len(spans):
        text = copy_part(raw, spans[len(first)].value_begin, spans[len(first)].value_end)
        whole = spans[len(first)].value_end <= LONG_BYTES
        message = read(text, whole=whole)
        first.append(message if whole else LongMessage(message, text))
        if _is_users(first[-1]):
            break
    last: list[Any] = []
    wanted = max(window, MAX_REPLAYED + 1)
    for span in reversed(spans[len(first) :]):
        message = read(copy_part(raw, span.value_begin, span.value_end), whole=False)
        if _is_users(message):
            last.append(message)
            wanted -= bool(message["content"])
        if wanted == 0:
            break
    return [*first, *reversed(last)]


def _as_long(messages: list[Any]) -> list[Any]:
    """The one message that a text is, if it is long."""
    if len(messages) == 1 and isinstance(messages[0], Mapping):
        content = messages[0].get("content")
        if isinstance(content, str) and len(content) > LONG_BYTES:
            return [LongMessage(messages[0], content.encode("utf-8", "surrogatepass"))]
    return messages


def _is_users(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") == "user"


def _message(text: bytes, *, whole: bool) -> Any:
    """A message, or its role and, of the user, the texts."""
    fault, _, members = find_json_members(text)
    if fault and not whole and len(text) > LONG_BYTES:
        return {"role": None, "content": None}
    if whole or fault:
        try:
            return read_json(text, 0, len(text))
        except BodyError:  # too deep somewhere, which need not be where we look
            if fault:
                raise
    message = Fields(text, members)
    is_user = message.get("role") == "user"
    return {"role": message.get("role"), "content": _texts(message) if is_user else None}


def _item(text: bytes, *, whole: bool) -> Any:
    """An item of ``/responses`` as a chat message."""
    fault, _, members = find_json_members(text)
    if fault:
        return _message_of_item(_message(text, whole=whole))
    item = Fields(text, members)
    known = {name: item[name] for name in ("type", "role") if name in item}
    return _message_of_item({**known, "content": _texts(item)})


def _texts(message: Fields) -> Any:
    """The content of a message, of parts in it only what text there is."""
    if "content" not in message:
        return None
    raw = message.raw("content")
    fault, _, spans = find_json_members(raw, array=True)
    if fault == "too_many":
        raise BodyError("a message has more than 100,000 parts")
    if fault:  # no list
        return message["content"]
    parts: list[Any] = []
    for span in spans:
        text = copy_part(raw, span.value_begin, span.value_end)
        if len(text) <= SHORT_BYTES:
            parts.append(read_json(text, 0, len(text)))
            continue
        fault, _, members = find_json_members(text)
        if fault:
            parts.append(read_bounded(text, 0, len(text)))
            continue
        part = Fields(text, members)
        parts.append({name: part[name] for name in ("type", "text") if name in part})
    return parts


def _strings(raw: bytes) -> list[str]:
    """The strings of a long list; token ids are not text."""
    _, _, spans = find_json_members(raw, array=True)
    begun = ((span, raw[span.value_begin : span.value_begin + 1]) for span in spans)
    return [read_bounded(raw, s.value_begin, s.value_end) for s, first in begun if first == b'"']


def _message_of_item(item: Any) -> Any:
    """An item of ``/responses`` as a chat message; other items, such as tool calls, are not
    text."""
    if not isinstance(item, Mapping) or (item.get("type") or "message") != "message":
        return {"role": "tool", "content": None}
    return {"role": item.get("role") or "user", "content": item.get("content")}


def prompt_to_route_on(messages: Sequence[Any], window: int) -> str:
    """The last user message that has text, with the ``window - 1`` before it, oldest first.

    Of more than MAX_CHARACTERS the beginning and the end. Raises InvalidPromptError as
    ``prompt_from_messages``.
    """
    last = prompt_from_messages(messages)
    if window == 1:
        return _shortened(last)
    return window_of(user_texts(messages), window) or _shortened(last)


def window_of(texts: Sequence[str], window: int) -> str:
    """The last ``window`` texts of the user as one prompt."""
    return _shortened("\n\n".join(texts[-window:]))


def turns_of(messages: Sequence[Any]) -> tuple[list[str], int]:
    """As ``user_texts``, and how many of them a model has answered: those before its last answer,
    or, in a list without any, such as of a body too long to be read whole, all but the last."""
    texts: list[str] = []
    answered: int | None = None
    for message in messages:
        if message["role"] == "user":
            texts += user_texts([message])
        elif message["role"] in ("assistant", "tool", "function"):
            answered = len(texts)
    return texts, max(0, len(texts) - 1) if answered is None else answered


def user_texts(messages: Sequence[Any]) -> list[str]:
    """The texts of the user's messages, in order; those without text are left out.

    Of one of more than MAX_CHARACTERS the beginning and the end.
    """
    texts = (prompt_from_messages([m]) for m in messages if m["role"] == "user")
    return [_shortened(text) for text in texts if text]


def _shortened(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    half = MAX_CHARACTERS // 2
    return f"{text[:half]}\n{text[-half:]}"


def session_key(
    sticky: SessionAffinityConfig,
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
    named: Any = None
    if sticky.by == "header":
        named = headers.get(sticky.header)
    elif sticky.by == "user":
        named = fields.get("user") or fields.get("safety_identifier")
    else:
        first = next((i for i, m in enumerate(messages) if m.get("role") == "user"), None)
        if first is not None:
            begun = [m.digest if isinstance(m, LongMessage) else m for m in messages[: first + 1]]
            named = [fields.get("user"), begun]
    if not named:
        return None
    return conversation_name(caller, named)
