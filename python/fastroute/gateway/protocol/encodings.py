"""Takes the compression off an answer that has one though none was asked for.

The gateway asks for answers as they are (``Accept-Encoding: identity``). In one that comes
compressed all the same, nothing could be found that must not reach a client, nor its tokens.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator

from fastroute.errors import ProviderResponseError
from fastroute.gateway.protocol.replies import HeaderList, RefusalError

#: No piece handed on is longer: one of 64 KiB may have been 64 MiB.
MOST_BYTES = 2**20
_KNOWN = frozenset({b"gzip", b"x-gzip", b"deflate"})


def encoding_of(headers: HeaderList) -> bytes:
    """The ``Content-Encoding`` of an answer, in lower case; empty where it has none."""
    values = [value.strip().lower() for name, value in headers if name == b"content-encoding"]
    return b", ".join(value for value in values if value not in (b"", b"identity"))


def without_encoding(headers: HeaderList) -> HeaderList:
    """``headers`` but for the encoding, and the length that the body had with it."""
    gone = (b"content-encoding", b"content-length")
    return [pair for pair in headers if pair[0] not in gone]


class Decoder:
    """Of one answer, whose pieces may be split anywhere.

    Raises ProviderResponseError for bytes that are not what the answer says.
    """

    def __init__(self, encoding: bytes) -> None:
        self._encoding = encoding
        self._stream = zlib.decompressobj(wbits=31)
        self._begun = False
        self._ended = True

    @classmethod
    def of(cls, headers: HeaderList) -> Decoder | None:
        """The decoder of an answer; None for one as it is, or in an encoding not known here."""
        encoding = encoding_of(headers)
        return cls(encoding) if encoding in _KNOWN else None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What ``piece`` adds, at most MOST_BYTES at a time."""
        if piece and not self._begun:
            self._begun = True
            if self._encoding == b"deflate":  # some leave out the two bytes before it
                self._stream = zlib.decompressobj(wbits=15 if piece[0] & 15 == 8 else -15)
        if self._ended and self._encoding != b"deflate":
            piece = piece.lstrip(b"\0")  # padding, between gzip's parts or after them
        try:
            while piece:
                self._ended = False
                part = self._stream.decompress(piece, MOST_BYTES)
                while part:  # what came may be read to its end, and not all of it told yet
                    yield part
                    part = self._stream.decompress(self._stream.unconsumed_tail, MOST_BYTES)
                piece = self._stream.unused_data
                self._ended = self._stream.eof
                if self._stream.eof and self._encoding != b"deflate":
                    piece = piece.lstrip(b"\0")
                    self._stream = zlib.decompressobj(wbits=31)  # of another part
                elif self._stream.eof:
                    return
        except zlib.error as error:
            raise self._fault("is not what its header says") from error

    def finish(self) -> None:
        """At the end of the answer: it must be that of the encoding too."""
        if not self._ended:
            raise self._fault("broke off")

    def _fault(self, what: str) -> ProviderResponseError:
        encoding = self._encoding.decode()
        return ProviderResponseError(
            f"the answer, compressed by {encoding}, {what}; look at what the endpoint sends",
            body=b"",
        )


def decoded_error(
    status: int, headers: HeaderList, body: bytes, most: int
) -> tuple[HeaderList, bytes]:
    """An error of ``status`` without its encoding; one that can't be read, or has more than
    ``most`` bytes, is answered by an error of the gateway's own, as it may show what it must not.
    """
    encoding = encoding_of(headers)
    if not encoding or not body:
        return headers, body
    decoder = Decoder.of(headers)
    parts, size = [], 0
    if decoder is not None:
        with contextlib.suppress(ProviderResponseError):
            for part in decoder.feed(body):
                parts.append(part)
                size += len(part)
                if size > most:
                    break
            else:
                decoder.finish()
                return without_encoding(headers), b"".join(parts)
    refusal = RefusalError(
        status,
        "provider_error_unreadable",
        "the provider's error can't be read: its Content-Encoding is "
        f"{encoding[:80].decode('ascii', 'replace')}, though none was asked for",
    )
    kept = [pair for pair in without_encoding(headers) if pair[0] != b"content-type"]
    return [*kept, (b"content-type", b"application/json")], refusal.body()
