"""What kind of answer a request asks for, told from the request or configured."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastroute.errors import InvalidInputError, InvalidTypeError

Kind = Literal["number", "choice", "yes_no", "label", "json", "tool_calls", "code", "text"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Takes an answer's text; returns what is compared by ``==``, or None where there is nothing.
Extractor = Callable[[str], object]

_LETTER = re.compile(
    r"\b(?:answer|respond|reply)\b[^.\n]{0,60}\b(?:a |the |one |single )?letter\b"
    r"|\bonly (?:the|one|a single) letter\b|\b(?:answer|choice) \(?[A-D](?:, ?[A-D])+",
    re.IGNORECASE,
)
_CHOICE = re.compile(r"\bmultiple[- ]choice\b", re.IGNORECASE)
_OPTIONS = re.compile(r"^[ \t]{0,20}\(?([AB])[.):]", re.MULTILINE)
_MOST_CHARACTERS = 4_000  # an instruction stands at the start or the end of a prompt
_YES_NO = re.compile(
    r"\b(?:answer|respond|reply|say)\b[^.\n]{0,40}\b(?:yes|true)\b[\"'\s]*(?:/|or)[\"'\s]*"
    r"\b(?:no|false)\b",
    re.IGNORECASE,
)
_LABEL = re.compile(
    r"\b(?:classify|categori[sz]e|label)\b"
    r"|\bone of (?:the following|these)\b[^.\n]{0,40}\b(?:label|class|categor|word)",
    re.IGNORECASE,
)
_QUANTITY = re.compile(
    r"\bhow (?:many|much|old|long|far|tall|fast|often)\b|\bwhat (?:is|was|will be|are) the "
    r"(?:\w+ ){0,3}(?:total|number|sum|cost|price|value|probability|percentage|average|area|"
    r"volume|ratio|difference|amount|distance|speed|age)\b|\bcalculate\b|\bcompute\b|\bsolve\b",
    re.IGNORECASE,
)
_CODE = re.compile(
    r"\b(?:write|implement|complete|give) (?:me )?(?:a|an|the|this) (?:\w+ ){0,3}"
    r"(?:function|program|script|class|query|regex)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What an answer is compared by.

    Attributes:
        kind: the kind of answer; None where the request says nothing, so that the answers decide.
        labels: the allowed labels or letters, where they are known.
        extract: what to compare instead of the kind's own value; None for the kind's own.
    """

    kind: Kind | None = None
    labels: tuple[str, ...] = ()
    extract: Extractor | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in KINDS:
            raise InvalidInputError(f"kind must be one of {', '.join(KINDS)}, got {self.kind!r}")

    @classmethod
    def from_regex(cls, pattern: str) -> Expectation:
        """Compare the last match of ``pattern``: its first group, or all of it."""
        try:
            compiled = re.compile(pattern)
        except re.error as error:
            raise InvalidInputError(f"pattern is not a regular expression: {error}") from error

        def extract(text: str) -> object:
            found = list(compiled.finditer(text))
            return found[-1][min(1, compiled.groups)] if found else None

        return cls(extract=extract)

    @classmethod
    def from_pointer(cls, pointer: str) -> Expectation:
        """Compare the value at a JSON pointer (RFC 6901), such as "/answer"."""
        from fastroute.evidence.structures import at_pointer, find_json

        if not isinstance(pointer, str) or (pointer and not pointer.startswith("/")):
            raise InvalidInputError(f'pointer must be "" or start with "/", got {pointer!r}')
        return cls(kind="json", extract=lambda text: at_pointer(find_json(text), pointer))

    @classmethod
    def from_request(cls, request: Mapping[str, Any], prompt: str | None = None) -> Expectation:
        """Tell the kind from a chat request: its ``response_format``, then its last prompt, which
        is ``prompt`` where that is known already.

        Raises InvalidTypeError where ``request`` is not a dict.
        """
        if not isinstance(request, Mapping):
            raise InvalidTypeError(f"request must be a dict, got {type(request).__name__}")
        form = request.get("response_format")
        if isinstance(form, Mapping) and form.get("type") in ("json_object", "json_schema"):
            return cls("json")
        if prompt is None:
            from fastroute.chat.prompts import prompt_from_messages

            messages = request.get("messages")
            prompt = prompt_from_messages(messages) if isinstance(messages, Sequence) else ""
        return cls.from_prompt(prompt)

    @classmethod
    def from_prompt(cls, prompt: str) -> Expectation:
        """Tell the kind from the words of a prompt; kind None where they say nothing."""
        if len(prompt) > 2 * _MOST_CHARACTERS:
            prompt = f"{prompt[:_MOST_CHARACTERS]}\n{prompt[-_MOST_CHARACTERS:]}"
        if _YES_NO.search(prompt):
            return cls("yes_no")
        if _LETTER.search(prompt) or {*_OPTIONS.findall(prompt)} >= {"A", "B"}:
            return cls("choice")
        if _LABEL.search(prompt):
            return cls("label")
        if _CODE.search(prompt):
            return cls("code")
        if _QUANTITY.search(prompt):
            return cls("number")
        if _CHOICE.search(prompt):
            return cls("choice")
        return cls()
