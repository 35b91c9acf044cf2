"""``model="cascade"`` of a Controller: requests to its cheap models and to the strong one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastroute._forking import ForkSafe
from fastroute.evidence.cascade import Cascade, CascadeSettings
from fastroute.evidence.kinds import Expectation
from fastroute.evidence.replies import as_stream
from fastroute.http.pair import Transports
from fastroute.http.request import AsyncResponse, AsyncTransport, Request, Response

_T = TypeVar("_T")


@dataclass(frozen=True)
class CascadeRequest(Request):
    """The request to the strong model, with what is asked before it.

    Attributes:
        cheap: requests to the cheap models, from ``cascade.cheap_requests``.
        prompt: the text that is asked.
        expectation: what answers are compared by.
        win_rate: of the prompt, by the router that decides where answers can't be compared.
        prefers_strong: what that router decided.
        include_usage: whether the client wants usage at the end of its stream.
        count: is called with the model whose answer was sent.
    """

    cheap: tuple[Request, ...] = ()
    prompt: str = field(default="", repr=False)
    expectation: Expectation = field(default=Expectation(), repr=False)
    win_rate: float = 0.5
    prefers_strong: bool = True
    include_usage: bool = False
    count: Callable[[str], None] = field(default=lambda _: None, repr=False, compare=False)


async def send_cascade(
    transport: AsyncTransport, settings: CascadeSettings, request: CascadeRequest
) -> AsyncResponse:
    """The answer to pass on, in the form that was asked for; its ``evidence`` says how it was
    chosen. Raises as ``Cascade.send``."""
    response, evidence = await Cascade(transport, settings).send(
        request.cheap,
        request,
        prompt=request.prompt,
        expectation=request.expectation,
        prefers_strong=lambda: request.prefers_strong,
        prompt_win_rate=request.win_rate,
    )
    request.count(evidence.model)
    if request.stream and response.body is not None and response.request in request.cheap:
        events = b"".join(as_stream(response.body, include_usage=request.include_usage))
        response = AsyncResponse(
            response.status_code, {"content-type": "text/event-stream"}, events
        )
    response.evidence = evidence
    return response


class CascadeSender(ForkSafe):
    """Sends cascades from event loops, and from threads by an event loop of its own.

    Args:
        transports: gives the transport of the event loop that it is called in.
        settings: what a cascade may do.
    """

    _loop: asyncio.AbstractEventLoop | None
    _thread: threading.Thread | None

    def __init__(self, transports: Transports, settings: CascadeSettings | None) -> None:
        super().__init__()
        self._transports = transports
        self._settings = settings or CascadeSettings()

    async def asend(self, request: Request) -> AsyncResponse:
        """``send_cascade`` of a CascadeRequest."""
        assert isinstance(request, CascadeRequest)
        return await send_cascade(self._transports.of_loop(), self._settings, request)

    def send(self, request: Request) -> Response:
        """The same for a thread."""
        begun = self._run(self.asend(request))
        response = Response(
            begun.status_code,
            begun.raw_headers or begun.headers,
            self._pieces(begun),
            lambda: self._run(begun.aclose()),
        )
        response.evidence = begun.evidence
        return response

    def close(self) -> None:
        """Close the thread's connections and end it; a later call starts a new one."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._transports.aclose(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()

    def _run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """The result of ``work`` in the thread's loop; an interrupted caller cancels it."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=_run_loop, args=(self._loop,), name="fastroute-cascade", daemon=True
                )
                self._thread.start()
            loop = self._loop
        future = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _pieces(self, response: AsyncResponse) -> Iterator[bytes]:
        pieces = response.iter_bytes()

        async def following() -> bytes | None:
            return await anext(pieces, None)

        while (piece := self._run(following())) is not None:
            yield piece

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._loop = None
        self._thread = None


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
