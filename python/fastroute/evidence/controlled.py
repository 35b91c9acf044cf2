"""Sends the cascades of a Controller, from event loops and from threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

from fastroute._forking import ForkSafe
from fastroute.evidence.cascade import CascadeSettings
from fastroute.evidence.request import CascadeRequest, send_cascade
from fastroute.http.pair import Transports
from fastroute.http.request import AsyncResponse, Request, Response

_T = TypeVar("_T")


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
