"""Chat completions as their providers sent them: dicts whose fields are attributes too."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from fastroute.chat.sse import EventDecoder, ServerSentEvent
from fastroute.errors import DispatchError, ProviderConnectionError, ProviderResponseError
from fastroute.http.address import without_key
from fastroute.http.request import AsyncResponse, Response
from fastroute.types import Decision

# Fields of OpenAI's chat completions that a provider may leave out: read as attributes they are
# then None, as in OpenAI's own client.
_OPTIONAL = frozenset(
    {
        *("annotations", "audio", "content", "function_call", "refusal", "role", "tool_calls"),
        *("finish_reason", "logprobs", "service_tier", "system_fingerprint", "usage"),
    }
)


class Record(dict[str, Any]):
    """A JSON object: ``record["id"]`` and ``record.id`` are the same.

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

    def model_dump(self) -> dict[str, Any]:
        """A copy as plain dicts and lists: what the provider sent and nothing else."""
        copy: dict[str, Any] = _plain(self)
        return copy

    def model_dump_json(self, *, indent: int | None = None) -> str:
        """The same as JSON."""
        return json.dumps(self, ensure_ascii=False, indent=indent)


class ChatCompletion(Record):
    """A whole answer: the provider's JSON as a ``Record``.

    Beside the fields, and in no dump:

    Attributes:
        fastroute: the Decision that chose the model; None where a model was named outright.
        http_headers: headers of the answer, names in lower case.
    """

    __slots__ = ("fastroute", "http_headers")

    fastroute: Decision | None
    http_headers: Mapping[str, str]

    # Without this, copy and pickle would lose the two.
    def __reduce__(self) -> tuple[Any, ...]:
        beside = {"fastroute": self.fastroute, "http_headers": self.http_headers}
        return ChatCompletion, (dict(self),), (None, beside)


def read_completion(
    body: bytes, headers: Mapping[str, str], decision: Decision | None, *, key: str | None = None
) -> ChatCompletion:
    """Read the body of an answer. Raises ProviderResponseError if it is no JSON object; what that
    shows of the answer is without ``key``, which some servers repeat."""
    try:
        answer = json.loads(body, object_hook=Record)
    except ValueError as error:
        start = beginning_of(body, key)
        raise ProviderResponseError(
            f"the provider's answer is not JSON: {start!r}; check that base_url is an "
            "OpenAI-compatible API",
            body=body,
        ) from error
    if not isinstance(answer, Record):
        raise ProviderResponseError(
            f"the provider's answer is no JSON object but a {type(answer).__name__}; check that "
            "base_url is an OpenAI-compatible API",
            body=body,
        )
    completion = ChatCompletion(answer)
    completion.fastroute = decision
    completion.http_headers = headers
    return completion


def beginning_of(body: bytes, key: str | None) -> str:
    """The first 80 characters of an answer, for an error's text, without ``key``."""
    return without_key(body[:4096].decode(errors="replace"), key)[:80]


class _Chunks:
    """What both kinds of stream are: a decoder, the events not yet handed out, and the end."""

    def __init__(
        self, headers: Mapping[str, str], decision: Decision | None, key: str | None
    ) -> None:
        self._key = key
        self.fastroute = decision
        self.http_headers = headers
        self._decoder = EventDecoder()
        self._events: deque[ServerSentEvent] = deque()
        self._complete = False  # "[DONE]" was seen
        self._finished = False  # or at least a finish_reason
        self._over = False

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
        except ValueError:
            chunk = None
        if event.name == "error" or (isinstance(chunk, Record) and chunk.get("error")):
            said = " ".join(without_key(event.data, self._key).split())[:300]
            raise ProviderResponseError(f"the provider broke off its stream: {said}", body=raw)
        if not isinstance(chunk, Record):
            raise ProviderResponseError(
                "the provider's stream has an event that is no JSON object: "
                f"{without_key(event.data, self._key)[:80]!r}",
                body=raw,
            )
        choices = chunk.get("choices")
        if isinstance(choices, list):
            self._finished |= any(
                isinstance(c, Record) and c.get("finish_reason") is not None for c in choices
            )
        return chunk

    def _end(self) -> None:
        """The provider's bytes have ended: say so if the answer has not."""
        last = self._decoder.finish()
        if last is not None and last.data.strip() == "[DONE]":
            self._complete = True
        if not (self._complete or self._finished):
            kind = self.http_headers.get("content-type", "no content type")
            raise ProviderConnectionError(
                f"the provider's stream ended before its answer did ({kind}); what came is "
                "incomplete"
            )
        self._complete = True


class ChatStream(_Chunks):
    """An answer in pieces: an iterator of ``Record`` chunks.

    Closing it, or leaving its ``with`` block, closes the connection, and so ends the provider's
    work; read to its end, it leaves the connection for the next request.

    Attributes:
        fastroute: the Decision that chose the model; None where a model was named outright.
        http_headers: headers of the answer, names in lower case.

    Iterating raises ProviderConnectionError where the stream breaks off, ProviderTimeoutError where
    the next piece is late, ProviderResponseError where the provider reports an error or sends what
    can't be read; the error's text is without ``key``. The chunks before that were handed out.
    """

    def __init__(
        self, response: Response, decision: Decision | None = None, *, key: str | None = None
    ) -> None:
        super().__init__(response.headers, decision, key)
        self._response = response

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
                    self._events.extend(self._decoder.feed(piece))
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


class AsyncChatStream(_Chunks):
    """``ChatStream`` for an event loop: an async iterator; ``aclose`` it or use ``async with``."""

    def __init__(
        self, response: AsyncResponse, decision: Decision | None = None, *, key: str | None = None
    ) -> None:
        super().__init__(response.headers, decision, key)
        self._response = response

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
                    self._events.extend(self._decoder.feed(piece))
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list) else value
