"""What a chat request and its answer are: prompts of messages, completions and their streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastroute._lazy import lazy_exports

if TYPE_CHECKING:
    from fastroute.chat.completion import AsyncChatStream as AsyncChatStream
    from fastroute.chat.completion import ChatCompletion as ChatCompletion
    from fastroute.chat.completion import ChatStream as ChatStream
    from fastroute.chat.completion import Record as Record

__all__, __getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "fastroute.chat.completion": "AsyncChatStream ChatCompletion ChatStream Record",
    },
)
