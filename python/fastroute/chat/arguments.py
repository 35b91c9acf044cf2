"""The arguments of OpenAI's ``chat.completions.create``, for type checkers and editors.

At run time any other keyword is accepted too and reaches the provider; a type checker reports it as
misspelt. ``extra_body`` carries what is not listed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, Required, TypedDict, TypeVar, Union

_T = TypeVar("_T")


class Omitted(Protocol):
    """``openai.NOT_GIVEN`` and ``openai.omit``: as if the argument were not given."""

    def __bool__(self) -> Literal[False]: ...


class SupportsModelDump(Protocol):
    """A pydantic model, such as the message of an earlier answer of OpenAI's client."""

    def model_dump(self) -> dict[str, Any]: ...


# A value, null, or an omitted argument.
Given = Union[_T, None, Omitted]  # noqa: UP007 - with | this is not a generic alias before 3.14
JsonObject = Mapping[str, Any]
Message = Union[JsonObject, SupportsModelDump]  # noqa: UP007 - as above


class CompletionArguments(TypedDict, total=False):
    """Everything but ``stream``, which decides what a call returns."""

    messages: Required[Iterable[Message]]
    model: str
    # fastroute's own, never sent
    router: str | None
    threshold: float | None
    strong_share: float | None
    previous_model: str | None
    cached_tokens: int | None
    timeout: Any  # seconds, or an httpx.Timeout
    extra_headers: Given[Mapping[str, str]]
    extra_query: Given[Mapping[str, object]]
    extra_body: Given[Mapping[str, Any]]
    # OpenAI's
    audio: Given[JsonObject]
    frequency_penalty: Given[float]
    function_call: Given[str | JsonObject]
    functions: Given[Iterable[JsonObject]]
    logit_bias: Given[Mapping[str, float]]
    logprobs: Given[bool]
    max_completion_tokens: Given[int]
    max_tokens: Given[int]
    metadata: Given[Mapping[str, str]]
    modalities: Given[Sequence[str]]
    moderation: Given[JsonObject]
    n: Given[int]
    parallel_tool_calls: Given[bool]
    prediction: Given[JsonObject]
    presence_penalty: Given[float]
    prompt_cache_key: Given[str]
    prompt_cache_options: Given[JsonObject]
    prompt_cache_retention: Given[str]
    reasoning_effort: Given[str]
    response_format: Given[JsonObject]
    safety_identifier: Given[str]
    seed: Given[int]
    service_tier: Given[str]
    stop: Given[str | Sequence[str]]
    store: Given[bool]
    stream_options: Given[JsonObject]
    temperature: Given[float]
    tool_choice: Given[str | JsonObject]
    tools: Given[Iterable[JsonObject]]
    top_logprobs: Given[int]
    top_p: Given[float]
    user: Given[str]
    verbosity: Given[str]
    web_search_options: Given[JsonObject]
