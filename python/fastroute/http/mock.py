"""A transport that answers in this process: for tests of what is built on fastroute."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeAlias

from fastroute.errors import DispatchError, InvalidTypeError
from fastroute.http.failures import raise_for_status
from fastroute.http.request import AsyncResponse, Request, Response


@dataclass(frozen=True)
class MockReply:
    """An answer in full.

    Attributes:
        body: bytes, or what JSON is made of. Of a stream: bytes, or a list of its events.
        status_code: the HTTP status; one that is not 2xx is raised as ProviderStatusError.
        headers: the HTTP headers.
    """

    body: Any = b""
    status_code: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Reply: TypeAlias = str | Mapping[str, Any] | MockReply | BaseException


class MockTransport:
    """Answers every request in this process, and records it; a Transport and an AsyncTransport.

    A reply is the assistant's text (a str), a whole chat completion (a dict), a ``MockReply``, or
    an exception to raise. Where the request asks for a stream, a text is sent word by word; a dict
    is then invalid, so give a ``MockReply`` with a list of chunks.

    Args:
        reply: one reply for every request; a list of replies, one a request, in order; or a
            function from ``Request`` to reply.

    Attributes:
        requests: every ``Request`` so far; ``request.json()`` is its body.
    """

    def __init__(
        self, reply: Reply | Sequence[Reply] | Callable[[Request], Reply] = "a mock reply"
    ) -> None:
        self.requests: list[Request] = []
        self._reply = reply
        self._closed = False
        self._lock = threading.Lock()

    def send(self, request: Request) -> Response:
        """Answer. Raises what the reply is, or stands for."""
        answer = self._answer(request)
        return Response(answer.status_code, answer.headers, _pieces(answer, request))

    async def asend(self, request: Request) -> AsyncResponse:
        """The same in an event loop."""
        answer = self._answer(request)
        pieces = _pieces(answer, request)

        async def later() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        return AsyncResponse(answer.status_code, answer.headers, later())

    def close(self) -> None:
        """Refuse further requests."""
        self._closed = True

    async def aclose(self) -> None:
        """Refuse further requests."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, request: Request) -> MockReply:
        reply: Any = self._reply
        with self._lock:
            if self._closed:
                raise DispatchError("this MockTransport is closed; make a new one")
            number = len(self.requests)
            self.requests.append(request)
        if callable(reply) and not isinstance(reply, type):
            reply = reply(request)
        elif isinstance(reply, Sequence) and not isinstance(reply, (str, bytes)):
            if number >= len(reply):
                raise DispatchError(
                    f"MockTransport has {len(reply)} replies and this is request {number + 1}"
                )
            reply = reply[number]
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, str) or (isinstance(reply, Mapping) and not request.stream):
            reply = MockReply(_completion(reply, request))
        if not isinstance(reply, MockReply):
            raise InvalidTypeError(
                "a reply must be a str, a dict (not to a stream), a MockReply or an exception, "
                f"got {type(reply).__name__}"
            )
        kind = "text/event-stream" if request.stream else "application/json"
        headers = {"content-type": kind} | {k.lower(): v for k, v in reply.headers.items()}
        if not 200 <= reply.status_code < 300:
            body = reply.body if isinstance(reply.body, bytes) else _json(reply.body)
            raise_for_status(request, reply.status_code, headers, body)
        return MockReply(reply.body, reply.status_code, headers)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def _pieces(answer: MockReply, request: Request) -> Iterator[bytes]:
    if isinstance(answer.body, bytes):
        yield answer.body
    elif request.stream and isinstance(answer.body, list):
        for event in answer.body:
            yield b"data: " + _json(event) + b"\n\n"
        yield b"data: [DONE]\n\n"
    else:
        yield _json(answer.body)


def _completion(reply: str | Mapping[str, Any], request: Request) -> Any:
    """A chat completion with this text; its chunks if the request asks for a stream."""
    if not isinstance(reply, str):
        return dict(reply)
    about = {"id": "chatcmpl-mock", "created": int(time.time()), "model": request.json()["model"]}
    if not request.stream:
        message = {"role": "assistant", "content": reply}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return about | {"object": "chat.completion", "choices": [choice]}
    words = reply.split(" ")
    texts = [word + " " for word in words[:-1]] + words[-1:]
    deltas: list[tuple[dict[str, str], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": text}, None) for text in texts]
    deltas.append(({}, "stop"))
    return [
        about
        | {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        }
        for delta, reason in deltas
    ]
