"""From the messages of a chat to the text that is routed on: the user's own last words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastroute.errors import InvalidPromptError

# What coding agents add to a user's message, each in a tag of its own. Written by Claude Code;
# Cline and Roo Code; Codex; Cursor; GitHub Copilot; OpenHands; Windsurf.
_ADDED = (
    *("system-reminder", "local-command-stdout", "local-command-stderr", "command-name"),
    *("command-message", "ide_opened_file", "ide_selection", "ide_diagnostics"),
    *("environment_details", "workspace_diagnostics"),
    *("environment_context", "user_instructions", "turn_context"),
    *("additional_data", "attached_files", "open_and_recently_viewed_files", "user_info"),
    *("project_layout", "git_status", "cursor_rules_context"),
    *("environment_info", "workspace_info", "editorContext", "reminderInstructions"),
    *("repoContext", "toolReferences"),
    *("runtime_information", "repository_info", "repository_instructions", "uploaded_files"),
    *("user_information", "additional_metadata", "workspace_information"),
)
# Tags in which agents put the user's words; what stands outside of them is theirs.
_WORDS = ("user_query", "userRequest", "user_request")
_TAG = re.compile(
    rf"<(/?)({'|'.join((*_ADDED, *_WORDS))})(?:\s[^<>]{{0,200}})?>", re.ASCII | re.IGNORECASE
)
_ADDED_NAMES = frozenset(name.lower() for name in _ADDED)
#: Longer texts are not searched for what agents add: that must not hold up an event loop.
MOST_SEARCHED_CHARS = 2**19

_TEXT_TYPES = frozenset({"text", "input_text", "output_text"})


def prompt_from_messages(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last *user* message of OpenAI chat ``messages``, as a router should score it.

    Assistant, tool and unknown roles are skipped: a router scores what the user asks. Content is a
    string, or a list whose texts are joined by line ends: strings, and parts that have a ``text``
    and the type "text", "input_text", "output_text" or none. Images, audio and parts of another
    type are not text, nor is what the provider may be able to read and this function is not.

    What coding agents add around the user's words, such as ``<system-reminder>`` or
    ``<environment_context>`` blocks, is left out; see ``without_additions``.

    Where the last user message has no text (null, blank, images or additions only), the nearest
    earlier user message that has some is taken; where none has, "", for which every router has a
    win rate. Without any user message it is the last system or developer message, which is then
    what the provider answers.

    Raises:
        InvalidPromptError: not a list of messages, no message, or one that is not a dict with a
            role; it is named by its index.
    """
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise InvalidPromptError(
            f"messages must be a list of messages, got {type(messages).__name__}; pass "
            '[{"role": "user", "content": "..."}]'
        )
    if not messages:
        raise InvalidPromptError(
            "messages is empty, so there is nothing to route on; add one, or name a model instead "
            "of a router"
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
    last_with_additions = None
    for message in reversed(messages):
        if message["role"] == "user":
            text = _text(message.get("content"))
            own = without_additions(text)
            if own and not own.isspace():
                return own
            if not last_with_additions:
                last_with_additions = "" if text.isspace() else text
    if last_with_additions is not None:
        return last_with_additions
    for message in reversed(messages):
        if message["role"] in ("system", "developer"):
            text = _text(message.get("content"))
            if text and not text.isspace():
                return text
    return ""


def system_text(body: Mapping[str, Any]) -> str:
    """The system prompt in the body of a request to any of OpenAI's APIs, or to Anthropic's."""
    texts = [_text(body[key]) for key in ("system", "instructions") if body.get(key)]
    for key in ("messages", "input"):
        listed = body.get(key)
        for message in listed if isinstance(listed, (list, tuple)) else ():
            if isinstance(message, Mapping) and message.get("role") in ("system", "developer"):
                texts.append(_text(message.get("content")))
    return "\n".join(texts)


def without_additions(text: str) -> str:
    """``text`` without the blocks that coding agents add: their tags and what is between them.

    Where an agent marks the user's words themselves, as Cursor does by ``<user_query>``, they are
    all that is left. A tag that is not closed, an unknown tag, and a text of over
    ``MOST_SEARCHED_CHARS`` characters stay as they are.
    """
    if "</" not in text or len(text) > MOST_SEARCHED_CHARS:
        return text
    tags = list(_TAG.finditer(text))
    last_end = {tag[2].lower(): tag.start() for tag in tags if tag[1]}
    kept: list[str] = []  # what is outside of each block
    words: list[str] = []  # what is in the tags of the user's words
    name, begin, content, end = "", 0, 0, 0
    for tag in tags:
        found = tag[2].lower()
        if not name and not tag[1] and last_end.get(found, 0) > tag.start():
            name, begin, content = found, tag.start(), tag.end()
        elif found == name and tag[1]:  # what else is between the two is part of the block
            if name not in _ADDED_NAMES:
                words.append(text[content : tag.start()].strip())
            kept.append(text[end:begin])
            name, end = "", tag.end()
    if words:
        return "\n".join(words)
    if not kept:
        return text
    return "".join([*kept, text[end:]]).strip()


def _text(content: object) -> str:
    """The text in the content of a message."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence) or isinstance(content, (bytes, bytearray)):
        return ""
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, Mapping) and isinstance(part.get("text"), str):
            kind = part.get("type")
            if kind is None or (isinstance(kind, str) and kind in _TEXT_TYPES):
                texts.append(part["text"])
    return "\n".join(texts)
