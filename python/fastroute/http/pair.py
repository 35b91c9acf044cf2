"""The two transports of a client that is used from threads and from event loops."""

from __future__ import annotations

from fastroute._forking import ForkSafeLock
from fastroute.errors import InvalidInputError, InvalidTypeError
from fastroute.http.request import AsyncTransport, Transport


class Transports:
    """A Transport and an AsyncTransport: given ones, or own ones that are made at first use.

    A given one stays its owner's to close. Where only one is given, it is used for both if it can
    be; else the other kind of sending is an error, as its requests would pass by the given one.
    """

    def __init__(self, given: Transport | None, given_async: AsyncTransport | None) -> None:
        if given is not None and not isinstance(given, Transport):
            raise InvalidTypeError(
                f"transport must be a Transport, with send and close, got {given!r}; see "
                "fastroute.http"
            )
        if given_async is not None and not isinstance(given_async, AsyncTransport):
            raise InvalidTypeError(
                f"async_transport must be an AsyncTransport, with asend and aclose, got "
                f"{given_async!r}; see fastroute.http"
            )
        self._given: object = given_async if given is None else given
        self._given_async: object = given if given_async is None else given_async
        self._lock = ForkSafeLock()
        self._own: Transport | None = None
        self._own_async: AsyncTransport | None = None

    def sync(self) -> Transport:
        """What threads send through."""
        if isinstance(self._given, Transport):
            return self._given
        if self._given is not None:
            raise InvalidInputError(
                "this client was given a transport for event loops only: pass transport= too"
            )
        with self._lock:
            if self._own is None:
                from fastroute.http.sync_transport import HttpTransport

                self._own = HttpTransport()
            return self._own

    def of_loop(self) -> AsyncTransport:
        """What tasks of an event loop send through."""
        if isinstance(self._given_async, AsyncTransport):
            return self._given_async
        if self._given_async is not None:
            raise InvalidInputError(
                "this client was given a transport for threads only: pass async_transport= too"
            )
        with self._lock:
            if self._own_async is None:
                from fastroute.http.async_transport import AsyncHttpTransport

                self._own_async = AsyncHttpTransport()
            return self._own_async

    def close(self) -> None:
        """Close the own Transport; a later request makes a new one."""
        with self._lock:
            own, self._own = self._own, None
        if own is not None:
            own.close()

    async def aclose(self) -> None:
        """Close both own transports, as far as they belong to this event loop."""
        self.close()
        with self._lock:
            own, self._own_async = self._own_async, None
        if own is not None:
            await own.aclose()
