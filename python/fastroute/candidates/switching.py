"""Whether a conversation may move to another model, and what that would cost.

A conversation stays with its model while a tool call is open: other models reject or misread the
identifiers of calls that they did not make. It stays with the provider while its history holds
signed thinking blocks or encrypted reasoning, which another provider rejects. These rules hold for
messages of OpenAI's Chat Completions and of Anthropic's Messages, and for items of OpenAI's
Responses. A switch also loses the provider's prompt cache; ``Prices.dollars`` counts that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastroute.candidates.candidate import Candidate

_CALLS = frozenset({"tool_use", "server_tool_use", "function_call", "custom_tool_call"})
_RESULTS = frozenset({"tool_result", "function_call_output", "custom_tool_call_output"})
_THINKING = frozenset({"thinking", "redacted_thinking"})


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a conversation stands.

    Attributes:
        model: the model that answered last; "" at the start.
        cached_tokens: input tokens that its provider last read from its prompt cache.
        tool_call_open: the answer to a tool call is still to come.
        signed_reasoning: the history holds reasoning that only its provider accepts.
        margin: how much more quality another model must promise for a switch.
    """

    model: str = ""
    cached_tokens: int = 0
    tool_call_open: bool = False
    signed_reasoning: bool = False
    margin: float = 0.0

    @classmethod
    def read(
        cls,
        messages: Sequence[Mapping[str, Any]],
        model: str = "",
        cached_tokens: int = 0,
        margin: float = 0.0,
    ) -> Turn:
        """The state of ``messages``, the last answer of which is ``model``'s."""
        is_open, is_signed = has_open_tool_call(messages), has_signed_reasoning(messages)
        return cls(model, cached_tokens, is_open, is_signed, margin)

    def lock_reasons(
        self, candidates: Sequence[Candidate], *, drop_reasoning: bool = False
    ) -> list[str | None]:
        """Why the conversation can't move to each candidate; None where it can, or is there.

        ``drop_reasoning`` says that signed reasoning is removed from the history before a switch
        (``without_reasoning``), which is possible only while no tool call is open.
        """
        if not self.model:
            return [None] * len(candidates)
        provider = next((c.provider for c in candidates if c.name == self.model), "")
        signed = self.signed_reasoning and not drop_reasoning
        return [
            None if c.name == self.model else self._lock_reason(c, provider, signed)
            for c in candidates
        ]

    def _lock_reason(self, candidate: Candidate, provider: str, signed: bool) -> str | None:
        if self.tool_call_open:
            return f"a tool call of {self.model} is open"
        if signed and not (provider and candidate.provider == provider):
            owner = provider or "the provider"
            return f"the history holds signed reasoning of {owner} ({self.model})"
        return None


def has_open_tool_call(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the model has called a tool since the user last spoke."""
    for message in reversed(messages):
        kind = message.get("type")
        if kind in _CALLS or message.get("tool_calls") or message.get("function_call"):
            return True
        if kind in _RESULTS or message.get("role") in ("tool", "function"):
            continue  # of a call before it
        parts = list(_parts(message))
        if any(part.get("type") in _CALLS for part in parts):
            return True
        if any(part.get("type") in _RESULTS for part in parts):
            continue
        if message.get("role") in ("system", "developer") or kind == "reasoning":
            continue  # agents put them anywhere
        return False
    return False


def has_signed_reasoning(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the history holds signed thinking blocks or encrypted reasoning."""
    return any(
        _is_reasoning_item(message)
        or message.get("thinking_blocks")
        or message.get("reasoning_details")
        or any(part.get("type") in _THINKING for part in _parts(message))
        for message in messages
    )


def without_reasoning(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Copies of ``messages`` without signed thinking blocks and encrypted reasoning.

    An assistant's message of which nothing is left is left out.
    """
    kept: list[dict[str, Any]] = []
    for message in messages:
        if _is_reasoning_item(message):
            continue
        own = {
            key: value
            for key, value in message.items()
            if key not in ("thinking_blocks", "reasoning_details")
        }
        content = own.get("content")
        if isinstance(content, list):
            own["content"] = [
                part
                for part in content
                if not (isinstance(part, Mapping) and part.get("type") in _THINKING)
            ]
            if content and not own["content"] and not own.get("tool_calls"):
                continue
        kept.append(own)
    return kept


def _is_reasoning_item(message: Mapping[str, Any]) -> bool:
    return message.get("type") == "reasoning" and bool(message.get("encrypted_content"))


def _parts(message: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, (str, bytes)):
        yield from (part for part in content if isinstance(part, Mapping))
