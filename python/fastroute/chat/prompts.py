"""From the messages of a chat to the text that is routed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastroute.errors import InvalidPromptError


def prompt_from_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last *user* message of OpenAI chat ``messages``.

    System, developer, assistant, tool and unknown roles are skipped: a router scores what the
    user asks. Content is a string, or a list whose text parts are joined by line ends; images,
    audio and parts of unknown type are no text. Where the last user message has no text (null,
    blank, images only), the nearest earlier user message that has some is taken; if there is
    none, the result is "", for which every router has a win rate.

    Raises:
        InvalidPromptError: no list of messages, a message that can't be read (it is named by its
            index), or no user message at all.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InvalidPromptError(
            f"messages must be a list of messages, got {type(messages).__name__}; pass "
            '[{"role": "user", "content": "..."}]'
        )
    for i, message in enumerate(messages):
        # Plain dicts first: asking for a Mapping costs more than all the rest, for each message.
        if type(message) is not dict and not isinstance(message, Mapping):
            raise InvalidPromptError(
                f"messages[{i}] must be a dict with a role, got {type(message).__name__}"
            )
        if not isinstance(message.get("role"), str):
            raise InvalidPromptError(
                f"messages[{i}] must have a role such as 'user', got {message.get('role')!r}"
            )
    asked = False
    for i in range(len(messages) - 1, -1, -1):
        if messages[i]["role"] == "user":
            asked = True
            text = _text(messages[i].get("content"), i)
            if text and not text.isspace():
                return text
    if not asked:
        raise InvalidPromptError(
            f"there is no user message among the {len(messages)} messages, so there is nothing "
            "to route on; add one, or name a model instead of a router"
        )
    return ""


def _text(content: object, i: int) -> str:
    """The text in the content of message ``i``."""
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        raise InvalidPromptError(
            f"messages[{i}]: content must be a str, a list of parts or None, got "
            f"{type(content).__name__}"
        )
    texts: list[str] = []
    for j, part in enumerate(content):
        if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
            raise InvalidPromptError(f"messages[{i}]: content[{j}] must be a dict with a type")
        if part["type"] == "text":
            if not isinstance(part.get("text"), str):
                raise InvalidPromptError(
                    f"messages[{i}]: content[{j}] is a text part, and its text is no str"
                )
            texts.append(part["text"])
    return "\n".join(texts)
