"""Server-sent events, from bytes as they come (HTML standard, 9.2.6)."""

from __future__ import annotations

import re
from typing import NamedTuple

from fastroute.errors import ProviderResponseError

_LINE_END = re.compile(rb"\r\n|\n|\r")
#: A longer event is taken for a fault of the provider.
MAX_EVENT_BYTES = 64 * 2**20


class ServerSentEvent(NamedTuple):
    """One event: its type, "message" unless it says otherwise, and its data."""

    name: str
    data: str


class EventDecoder:
    """Cuts a stream of bytes into events, wherever the pieces were split.

    Bytes are pushed into it, so that one decoder serves threads, event loops and the gateway.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._line_bytes = 0
        self._after_cr = False
        self._at_start = True
        self._name = ""
        self._data: list[str] = []
        self._data_bytes = 0

    def feed(self, piece: bytes) -> list[ServerSentEvent]:
        """The events that ``piece`` completes.

        Raises ProviderResponseError for an event over ``MAX_EVENT_BYTES``.
        """
        if not piece:
            return []
        if self._after_cr and piece[:1] == b"\n":  # the line end was split
            piece = piece[1:]
            self._after_cr = False
            if not piece:
                return []
        self._after_cr = piece[-1:] == b"\r"
        *ended, rest = _LINE_END.split(piece)
        events = []
        for end in ended:
            self._line.append(end)
            event = self._read(b"".join(self._line))
            self._line.clear()
            self._line_bytes = 0
            if event is not None:
                events.append(event)
        if rest:
            self._line.append(rest)
            self._line_bytes += len(rest)
        self._check_size()
        return events

    def finish(self) -> ServerSentEvent | None:
        """The event that was begun and lacks its empty line, at the end of the stream."""
        return next(iter(self.feed(b"\n\n")), None)

    def _check_size(self) -> None:
        if self._line_bytes + self._data_bytes > MAX_EVENT_BYTES:
            raise ProviderResponseError(
                f"the provider's stream has an event of over {MAX_EVENT_BYTES} bytes", body=b""
            )

    def _read(self, line: bytes) -> ServerSentEvent | None:
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line:
            event = ServerSentEvent(self._name or "message", "\n".join(self._data))
            some = bool(self._data)
            self._name, self._data, self._data_bytes = "", [], 0
            return event if some else None
        field, _, value = line.partition(b":")  # a comment is a field without a name
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value.decode(errors="replace"))
            self._data_bytes += len(value) + 1
            self._check_size()
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None
