"""What a chat request and its answer are: prompts of messages, completions and their streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.chat.completion import AsyncChatStream, ChatCompletion, ChatStream, Record

__all__ = [
    "AsyncChatStream",
    "ChatCompletion",
    "ChatStream",
    "Record",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "AsyncChatStream": "fastroute.chat.completion",
        "ChatCompletion": "fastroute.chat.completion",
        "ChatStream": "fastroute.chat.completion",
        "Record": "fastroute.chat.completion",
    },
)
