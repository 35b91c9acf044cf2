"""One model's answer, as evidence sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastroute.errors import InvalidInputError, InvalidTypeError


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that an answer asks the client to call; ``arguments`` is its JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One model's answer.

    Attributes:
        text: the content, "" where there is none.
        tool_calls: the functions it asks for.
        finish_reason: why it ended, as the provider says; None where unknown.
        refusal: the provider's refusal text, None for none.
        logprobs: natural log-probabilities of its tokens, None where the provider gives none.
    """

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: tuple[float, ...] | None = None

    @classmethod
    def from_choice(cls, choice: Mapping[str, Any]) -> Answer:
        """Read one of ``choices`` of a chat completion.

        Raises:
            InvalidTypeError, InvalidInputError: ``choice`` is not a choice with a message.
        """
        if not isinstance(choice, Mapping):
            raise InvalidTypeError(f"choice must be a dict, got {type(choice).__name__}")
        message = choice.get("message")
        if not isinstance(message, Mapping):
            raise InvalidInputError("choice has no message; pass one of a completion's choices")
        content = message.get("content")
        logprobs = choice.get("logprobs")
        tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
        return cls(
            content if isinstance(content, str) else _text_of(content),
            tuple(_tool_calls(message.get("tool_calls"))),
            _text_or_none(choice.get("finish_reason")),
            _text_or_none(message.get("refusal")),
            None if tokens is None else tuple(float(token["logprob"]) for token in tokens),
        )


def _text_of(content: object) -> str:
    if not isinstance(content, Sequence) or isinstance(content, (str, bytes)):
        return ""
    parts = (part.get("text") for part in content if isinstance(part, Mapping))
    return "\n".join(text for text in parts if isinstance(text, str))


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _tool_calls(calls: object) -> list[ToolCall]:
    if not isinstance(calls, Sequence) or isinstance(calls, (str, bytes)):
        return []
    found = []
    for call in calls:
        function = call.get("function") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping) and isinstance(function.get("name"), str):
            arguments = function.get("arguments")
            found.append(
                ToolCall(function["name"], arguments if isinstance(arguments, str) else "")
            )
    return found
