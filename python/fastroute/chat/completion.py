"""Chat completions as their providers sent them: dicts whose fields are attributes too."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Generic, Self, TypeVar

from fastroute.chat.sse import EventDecoder, ServerSentEvent
from fastroute.errors import DispatchError, ProviderConnectionError, ProviderResponseError
from fastroute.http.address import without_key
from fastroute.http.request import AsyncResponse, Request, Response
from fastroute.types import Decision

_Answer = TypeVar("_Answer", bound=Response | AsyncResponse)

#: Of an answer that is not the stream it should be, so much is looked at.
_START_BYTES = 4096

# Fields of OpenAI's chat completions and chunks that may be absent: read as attributes they are
# then None, as in OpenAI's own client. A test compares them with its types.
_OPTIONAL = frozenset(
    {
        *("metadata", "moderation", "obfuscation", "service_tier", "system_fingerprint", "usage"),
        *("finish_reason", "logprobs", "bytes"),
        *("annotations", "audio", "content", "function_call", "refusal", "role", "tool_calls"),
        *("arguments", "data", "expires_at", "function", "id", "name", "transcript", "type"),
        *("completion_tokens_details", "prompt_tokens_details"),
        *("accepted_prediction_tokens", "reasoning_tokens", "rejected_prediction_tokens"),
        *("audio_tokens", "cache_write_tokens", "cached_tokens", "image_tokens", "text_tokens"),
    }
)


class Record(dict[str, Any]):
    """A JSON object: ``record["id"]`` and ``record.id`` are the same, to read and to assign.

    A field with the name of a dict's method, such as ``items``, is reached by its key only. A
    field that isn't there raises AttributeError, but for OpenAI's optional ones, such as
    ``tool_calls`` and ``usage``, which are None.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            if name in _OPTIONAL:
                return None
            raise AttributeError(
                f"the provider's answer has no field {name!r} here; it has {', '.join(self)}"
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(type(self), name):
            super().__setattr__(name, value)
        else:
            self[name] = value

    def __delattr__(self, name: str) -> None:
        self.pop(name, None)

    def model_dump(self, *, exclude_none: bool = False) -> dict[str, Any]:
        """A copy as plain dicts and lists: what the provider sent, or without its nulls."""
        copy: dict[str, Any] = _plain(self, exclude_none)
        return copy

    def model_dump_json(self, *, indent: int | None = None, exclude_none: bool = False) -> str:
        """The same as JSON."""
        return json.dumps(_plain(self, exclude_none), ensure_ascii=False, indent=indent)

    def to_dict(self) -> dict[str, Any]:
        """As ``model_dump``; OpenAI's client has both."""
        return self.model_dump()

    def to_json(self, *, indent: int | None = 2) -> str:
        """As ``model_dump_json``, on several lines."""
        return self.model_dump_json(indent=indent)


class ChatCompletion(Record):
    """A whole answer: the provider's JSON as a ``Record``.

    Beside the fields, and in no dump:

    Attributes:
        evidence: how a cascade chose the answer (``fastroute.evidence.cascade.Evidence``), or a
            policy the model (``fastroute.many_models.CandidateDecision``), else None.
        fastroute: the Decision that chose the model; None where a model was named outright.
        http_headers: headers of the answer, names in lower case.
    """

    __slots__ = ("evidence", "fastroute", "http_headers")

    evidence: Any
    fastroute: Decision | None
    http_headers: Mapping[str, str]

    # Without this, copy and pickle would lose them.
    def __reduce__(self) -> tuple[Any, ...]:
        beside = {name: getattr(self, name, None) for name in self.__slots__}
        return ChatCompletion, (dict(self),), (None, beside)


def read_completion(
    body: bytes, headers: Mapping[str, str], decision: Decision | None, *, key: str | None = None
) -> ChatCompletion:
    """Read the body of an answer.

    Raises ProviderResponseError if it is not a JSON object, or is the report of an error; what that
    shows of the answer is without ``key``, which some servers repeat.
    """
    try:
        answer = json.loads(body, object_hook=Record)
    except (ValueError, RecursionError) as error:
        start = beginning_of(body, key)
        raise ProviderResponseError(
            f"the provider's answer is not JSON: {start!r}; check that base_url is an "
            "OpenAI-compatible API",
            body=body,
        ) from error
    if not isinstance(answer, Record):
        raise ProviderResponseError(
            f"the provider's answer is not a JSON object but a {type(answer).__name__}; check that "
            "base_url is an OpenAI-compatible API",
            body=body,
        )
    if answer.get("error") and not answer.get("choices"):
        raise ProviderResponseError(
            f"the provider answered with an error: {_said(answer, body.decode(), key)}", body=body
        )
    completion = ChatCompletion(answer)
    completion.evidence = None
    completion.fastroute = decision
    completion.http_headers = headers
    return completion


def beginning_of(body: bytes, key: str | None) -> str:
    """The first 80 characters of an answer, for an error's text, without ``key``."""
    return without_key(body[:4096].decode(errors="replace"), key)[:80]


def choices_of(request: Request) -> int:
    """How many choices ``request`` asks for."""
    if b'"n":' not in request.body:
        return 1
    n = request.json().get("n")
    return n if isinstance(n, int) else 1


def _said(answer: Mapping[str, Any], text: str, key: str | None) -> str:
    """The message in the report of an error, else all of it, at most 300 characters."""
    error = answer.get("error")
    message = error.get("message") if isinstance(error, Mapping) else error
    said = message if isinstance(message, str) and message else text
    return " ".join(without_key(said, key).split())[:300]


class _Chunks(Generic[_Answer]):
    """What both kinds of stream are: a decoder, the events not yet handed out, and the end."""

    def __init__(
        self,
        response: _Answer,
        decision: Decision | None = None,
        *,
        key: str | None = None,
        n: int = 1,
    ) -> None:
        headers = response.headers
        self._response: _Answer = response
        self._n = n
        self._key = key
        self.evidence: Any = None
        self.fastroute = decision
        self.http_headers = headers
        self._decoder = EventDecoder()
        self._events: deque[ServerSentEvent] = deque()
        self._complete = False  # "[DONE]" was seen
        self._begun_choices: set[Any] = set()
        self._finished_choices: set[Any] = set()
        self._over = False
        # The beginning of what is not a stream, and may be the report of an error.
        self._start = b""
        self._is_stream = "event-stream" in headers.get("content-type", "event-stream").lower()

    def _feed(self, piece: bytes) -> None:
        self._events.extend(self._decoder.feed(piece))
        if not self._is_stream and len(self._start) < _START_BYTES:
            self._start += piece[:_START_BYTES]

    def _next_chunk(self) -> Record | None:
        """The next chunk that is here already. Raises what the provider says went wrong."""
        while self._events and not self._complete:
            event = self._events.popleft()
            if event.data.strip() == "[DONE]":
                self._complete = True
            else:
                return self._read(event)
        return None

    def _read(self, event: ServerSentEvent) -> Record:
        raw = event.data.encode()
        try:
            chunk = json.loads(event.data, object_hook=Record)
        except (ValueError, RecursionError):
            chunk = None
        if event.name == "error" or (isinstance(chunk, Record) and chunk.get("error")):
            known = chunk if isinstance(chunk, Record) else {}
            said = _said(known, event.data, self._key)
            raise ProviderResponseError(
                f"the provider ended its stream with an error: {said}", body=raw
            )
        if not isinstance(chunk, Record):
            raise ProviderResponseError(
                "the provider's stream has an event that is not a JSON object: "
                f"{without_key(event.data, self._key)[:80]!r}",
                body=raw,
            )
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, Record):
                index = choice.get("index")
                index = index if isinstance(index, int) else 0
                self._begun_choices.add(index)
                if choice.get("finish_reason"):  # "" is what some send until there is one
                    self._finished_choices.add(index)
        return chunk

    def _end(self) -> None:
        """The provider's bytes have ended: say so if the answer has not."""
        last = self._decoder.finish()
        if last is not None and last.data.strip() == "[DONE]":
            self._complete = True
        finished = len(self._finished_choices)
        if not (self._complete or finished >= max(self._n, len(self._begun_choices))):
            if not self._is_stream:
                read_completion(self._start, {}, None, key=self._key)
            kind = self.http_headers.get("content-type", "no content type")
            raise ProviderConnectionError(
                f"the provider's stream ended before the answer was complete ({kind})"
            )
        self._complete = True


class ChatStream(_Chunks[Response]):
    """An answer in pieces: an iterator of ``Record`` chunks.

    Closing it, or leaving its ``with`` block, closes the connection, and so ends the provider's
    work; read to its end, it leaves the connection for the next request.

    Attributes:
        fastroute: the Decision that chose the model; None where a model was named outright.
        http_headers: headers of the answer, names in lower case.

    Iterating raises ProviderConnectionError where the stream breaks off, ProviderTimeoutError where
    the next piece is late, ProviderResponseError where the provider reports an error or sends what
    can't be read; the error's text is without ``key``. The chunks before that were handed out. The
    stream is whole with its [DONE], or with a finish_reason of each of its ``n`` choices.
    """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Record:
        try:
            while not self._over:
                chunk = self._next_chunk()
                if chunk is not None:
                    return chunk
                piece = next(self._response.iter_bytes(), None)
                if piece is not None:
                    self._feed(piece)
                else:
                    self._end()
                    self.close()
        except BaseException as error:
            self.close()
            if not (self._complete and isinstance(error, DispatchError)):
                raise  # but after [DONE] nothing is lost any more
        raise StopIteration

    def close(self) -> None:
        """Stop here; the stream is then at its end."""
        self._over = True
        self._response.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncChatStream(_Chunks[AsyncResponse]):
    """``ChatStream`` for an event loop: an async iterator; ``aclose`` it or use ``async with``."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Record:
        try:
            while not self._over:
                chunk = self._next_chunk()
                if chunk is not None:
                    return chunk
                piece = await anext(self._response.iter_bytes(), None)
                if piece is not None:
                    self._feed(piece)
                else:
                    self._end()
                    await self.aclose()
        except BaseException as error:
            await self.aclose()
            if not (self._complete and isinstance(error, DispatchError)):
                raise
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """As ``ChatStream.close``."""
        self._over = True
        await self._response.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _plain(value: Any, exclude_none: bool) -> Any:
    if isinstance(value, dict):
        return {
            name: _plain(entry, exclude_none)
            for name, entry in value.items()
            if not (exclude_none and entry is None)
        }
    return [_plain(entry, exclude_none) for entry in value] if isinstance(value, list) else value
