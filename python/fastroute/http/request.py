"""What a request to a model's API is, what comes back, and the two protocols that carry it."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from fastroute import __version__
from fastroute._validate import check_count
from fastroute.errors import InvalidInputError, InvalidTypeError, ProviderResponseError
from fastroute.http.address import (
    KEY_VARIABLE,
    Address,
    check_key,
    check_seconds,
    read_base_url,
)

#: Header fields as they came or will go: names and values, in order, repeats apart.
RawHeaders: TypeAlias = tuple[tuple[bytes, bytes], ...]
#: Where OpenAI's own clients look for another address than OpenAI's.
URL_VARIABLE = "OPENAI_BASE_URL"
ANTHROPIC_VERSION = "2023-06-01"
DEFAULT_BASE_URL = "https://api.openai.com/v1"


class _Key(str):
    """A key as a str whose ``repr`` and deep copies, such as ``dataclasses.asdict`` makes, are
    masked. Pickles hold it, because a process pool needs it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __deepcopy__(self, _: object) -> str:
        return "***"


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API, with its timeouts and retries.

    ``repr`` and ``dataclasses.asdict`` mask the key. A pickle holds it, so that an endpoint works
    in a process pool: treat the pickle as you treat the key.

    Attributes:
        base_url: what comes before ``/chat/completions``; it may have a query. If None, the
            variable OPENAI_BASE_URL at the time of the call, else OpenAI's own address.
        api_key: sent as a bearer token. If None, the variable OPENAI_API_KEY at the time of the
            call, but only where ``base_url`` is None or OpenAI's own host: a key must not go to
            another provider. Without a key no Authorization header is sent, as local servers
            expect. A netrc file is never read.
        timeout_s: seconds to wait for a whole answer, or, of a stream, for each piece of it.
        connect_timeout_s: seconds to wait for a connection.
        first_byte_timeout_s: seconds to wait for the first byte of an answer; None for as long as
            ``timeout_s``. Only the gateway's transport uses it.
        max_retries: attempts after the first: see ``fastroute.http.retry.RetryPolicy``. Never
            after the first byte of a stream has come, nor when an answer is late, because it may
            have been billed.
        retry_cut_answers: whether an answer that is not a stream is asked for again where it broke
            off after its body began; it may be billed twice then.
        api: "anthropic" sends the key of requests below ``/messages`` as ``x-api-key``, with an
            ``anthropic-version``.

    Raises:
        InvalidInputError, InvalidTypeError: a value that can't be used.
    """

    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 600.0
    connect_timeout_s: float = 5.0
    max_retries: int = 2
    first_byte_timeout_s: float | None = None
    retry_cut_answers: bool = False
    api: Literal["openai", "anthropic"] = "openai"

    def __post_init__(self) -> None:
        if self.base_url is not None:
            read_base_url(self.base_url, "")
        if self.api_key is not None:
            object.__setattr__(self, "api_key", _Key(check_key(self.api_key, "api_key")))
        check_seconds("timeout_s", self.timeout_s)
        check_seconds("connect_timeout_s", self.connect_timeout_s)
        if self.first_byte_timeout_s is not None:
            check_seconds("first_byte_timeout_s", self.first_byte_timeout_s)
        check_count("max_retries", self.max_retries, least=0)
        flag: object = self.retry_cut_answers
        if not isinstance(flag, bool):
            raise InvalidTypeError(f"retry_cut_answers must be a bool, got {type(flag).__name__}")
        if self.api not in ("openai", "anthropic"):
            raise InvalidInputError(f"api must be 'openai' or 'anthropic', got {self.api!r}")

    def __deepcopy__(self, _: object) -> Endpoint:
        return self  # it can't change, and a copy of its key would be masked

    def address(self, path: str) -> Address:
        """Where requests for ``path``, such as ``/chat/completions``, go."""
        if self.base_url is not None:
            return read_base_url(self.base_url, path)
        found = os.environ.get(URL_VARIABLE)
        return read_base_url(found or DEFAULT_BASE_URL, path, URL_VARIABLE)

    def find_key(self) -> str | None:
        """The key to send, if there is one."""
        if self.api_key is not None:
            return self.api_key
        if self.base_url is not None and not self.address("").is_openai:
            return None
        found = os.environ.get(KEY_VARIABLE)
        return check_key(found, KEY_VARIABLE) if found else None


@dataclass(frozen=True)
class Request:
    """One request to a model's API.

    Attributes:
        endpoint: where it goes.
        body: the JSON to post, as it will be sent. ``repr`` shows no prompt.
        path: what comes after the endpoint's base_url.
        stream: whether the answer is wanted piece by piece.
        headers: sent beside fastroute's own, or instead of them.
        raw_headers: likewise, for headers whose order and repeats must stay what they are; names
            in lower case, none of them in ``headers``.
        timeout_s: instead of the endpoint's.
        model: what the caller calls the model that is asked, for reports; it is not sent.
        weight: share of the load that this endpoint of several should get.
        variants: the same question to other endpoints of the same model. A transport that balances
            sends one of them; every other one sends the request itself.
        fallback: makes the request to another model; called if this one fails.
        method: the HTTP method; a request without a body has no Content-Type.
    """

    endpoint: Endpoint
    body: bytes = field(repr=False)
    path: str = "/chat/completions"
    stream: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float | None = None
    model: str = ""
    weight: float = 1.0
    variants: tuple[Request, ...] = field(default=(), repr=False)
    fallback: Callable[[], Request] | None = field(default=None, repr=False)
    raw_headers: RawHeaders = field(default=(), repr=False)
    method: str = "POST"

    @property
    def limit_s(self) -> float:
        """Seconds to wait for the answer: its own, else the endpoint's."""
        return self.endpoint.timeout_s if self.timeout_s is None else self.timeout_s

    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


def default_headers(request: Request) -> dict[str, str]:
    """The headers that fastroute sends where the request does not say otherwise."""
    headers = {"content-type": "application/json"} if request.body else {}
    headers |= {
        # Answers are small and come in pieces; decompressing them would only add latency.
        "accept-encoding": "identity",
        "user-agent": f"fastroute/{__version__}",
        "accept": "text/event-stream" if request.stream else "*/*",
    }
    key = request.endpoint.find_key()
    if request.endpoint.api == "anthropic" and request.path.startswith("/messages"):
        headers["anthropic-version"] = ANTHROPIC_VERSION
        if key is not None:
            headers["x-api-key"] = key
    elif key is not None:
        headers["authorization"] = f"Bearer {key}"
    headers |= {name.lower(): value for name, value in request.headers.items()}
    return headers


def folded(headers: RawHeaders) -> dict[str, str]:
    """``headers`` by name, in lower case; the values of one that is repeated are joined by commas
    (RFC 9110, 5.2)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


_ENCODING = b"content-encoding"
_DECODED = frozenset({b"gzip", b"deflate", b"br", b"zstd"})


def without_encoding(headers: RawHeaders) -> RawHeaders:
    """``headers`` of a body that the client library has decompressed: without the encoding, and
    the length with it. Encodings that it does not know stay."""
    values = [value.strip().lower() for name, value in headers if name.lower() == _ENCODING]
    if not values or not _DECODED.issuperset(values):
        return headers
    gone = (_ENCODING, b"content-length")
    return tuple(pair for pair in headers if pair[0].lower() not in gone)


class _Head:
    """What both kinds of response begin with.

    Attributes:
        evidence: how the answer was chosen among several models'; None where it was not.
        sent_instead: the request that is answered, where it is not the one that was given.
    """

    evidence: object = None
    sent_instead: Request | None = None

    def __init__(self, status_code: int, headers: Mapping[str, str] | RawHeaders) -> None:
        self.status_code = status_code
        self.raw_headers: RawHeaders = headers if isinstance(headers, tuple) else ()
        self._headers = None if isinstance(headers, tuple) else dict(headers)

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case; the values of one that was repeated are joined by commas."""
        if self._headers is None:
            self._headers = folded(self.raw_headers)
        return self._headers


def _nothing() -> None:
    pass


#: The end of a server-sent event, and the most bytes that are looked at before it.
EVENT_END = re.compile(rb"\r?\n\r?\n|\r\r")
_MOST_EVENT_BYTES = 65_536


def _shows_event(begun: bytes) -> bool:
    """Whether what has come of a body is enough to see its first event; a comment is not one, and
    keeps a connection alive, so it is not held back."""
    return (
        begun.startswith(b":")
        or len(begun) > _MOST_EVENT_BYTES
        or EVENT_END.search(begun) is not None
    )


class Response(_Head):
    """A successful answer (status 2xx).

    Attributes:
        status_code: the HTTP status.
        raw_headers: as bytes, in their order, repeats apart, from transports over HTTP.
    """

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str] | RawHeaders,
        pieces: Iterator[bytes] | bytes,
        close: Callable[[], object] = _nothing,
    ) -> None:
        super().__init__(status_code, headers)
        self._pieces = iter((pieces,)) if isinstance(pieces, bytes) else pieces
        self._close = close

    def iter_bytes(self) -> Iterator[bytes]:
        """The body, piece by piece as it comes. Raises ProviderConnectionError and
        ProviderTimeoutError."""
        return self._pieces

    def peek_event(self) -> bytes:
        """The body as far as its first server-sent event needs it, which stays in the body. Raises
        as ``iter_bytes``."""
        begun = b""
        try:
            for piece in self._pieces:
                begun += piece
                if _shows_event(begun):
                    break
        except BaseException:
            self.close()
            raise
        self._pieces = itertools.chain((begun,) if begun else (), self._pieces)
        return begun

    def observe(self, callback: Callable[[bytes], None]) -> None:
        """Show every piece of the body to ``callback`` before it is handed out."""
        self._pieces = _shown(self._pieces, callback)

    def read(self) -> bytes:
        """What is left of the body. Raises as ``iter_bytes``."""
        try:
            return b"".join(self._pieces)
        finally:
            self.close()

    def close(self) -> None:
        """Discard the rest of the body, and the connection if it is not read to its end."""
        self._close()


def _shown(pieces: Iterator[bytes], callback: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        callback(piece)
        yield piece


async def _shown_async(
    pieces: AsyncIterator[bytes], callback: Callable[[bytes], None]
) -> AsyncIterator[bytes]:
    async for piece in pieces:
        callback(piece)
        yield piece


async def _after(begun: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if begun:
        yield begun
    async for piece in pieces:
        yield piece


async def _nothing_async() -> None:
    pass


async def _once(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


EndCallback: TypeAlias = Callable[[BaseException | None], None]


class AsyncResponse(_Head):
    """``Response`` for an event loop; close it, or read it to its end.

    Attributes:
        request: what is answered, where transports choose between several; None if none says.
        body: the whole body, where all of it was here at once or has been read by ``read``; else
            None.
    """

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str] | RawHeaders,
        pieces: AsyncIterator[bytes] | bytes,
        close: Callable[[], Awaitable[object]] = _nothing_async,
        request: Request | None = None,
    ) -> None:
        super().__init__(status_code, headers)
        self.request = request
        self.body = pieces if isinstance(pieces, bytes) else None
        self._pieces = _once(pieces) if isinstance(pieces, bytes) else pieces
        self._close = close
        self._on_end: list[EndCallback] = []

    async def peek_event(self) -> bytes:
        """As ``Response.peek_event``."""
        if self.body is not None:
            return self.body
        begun, pieces = b"", self._pieces
        try:
            async for piece in pieces:
                begun += piece
                if _shows_event(begun):
                    break
        except BaseException:
            await self.aclose()
            raise
        self._pieces = _after(begun, pieces)
        return begun

    def observe(self, callback: Callable[[bytes], None]) -> None:
        """As ``Response.observe``."""
        self._pieces = _shown_async(self._pieces, callback)

    def add_end_callback(self, callback: EndCallback) -> None:
        """Have ``callback`` called once: with None when the body was read to its end or closed,
        else with what was raised instead of a piece. At once where the whole body is here."""
        if self.body is not None:
            callback(None)
            return
        if not self._on_end:
            self._pieces = self._watched(self._pieces)
        self._on_end.append(callback)

    async def _watched(self, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            async for piece in pieces:
                yield piece
        except BaseException as error:
            self._ended(error)
            raise
        self._ended(None)

    def _ended(self, error: BaseException | None) -> None:
        callbacks, self._on_end = self._on_end, []
        for callback in callbacks:
            callback(error)

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """As ``Response.iter_bytes``."""
        return self._pieces

    async def read(self, *, at_most: int | None = None) -> bytes:
        """As ``Response.read``; raises ProviderResponseError for a body of more than ``at_most``
        bytes."""
        parts: list[bytes] = []
        size = 0
        try:
            async for piece in self._pieces:
                parts.append(piece)
                size += len(piece)
                if at_most is not None and size > at_most:
                    raise ProviderResponseError(
                        f"the answer is longer than {at_most} bytes, the limit", body=b""
                    )
            body = b"".join(parts)
        finally:
            await self.aclose()
        self.body = body
        return body

    async def aclose(self) -> None:
        """As ``Response.close``."""
        self._ended(None)
        await self._close()


@runtime_checkable
class Transport(Protocol):
    """Carries requests to model APIs from threads; safe to use from several at once.

    ``send`` returns when the answer has begun: its status is 2xx, and its body is read from the
    response, whether it is a stream or not. Everything else is raised: ProviderConnectionError,
    ProviderTimeoutError, ProviderStatusError with the provider's status, headers and body as they
    were, or ProviderResponseError. A transport may wrap another.
    """

    def send(self, request: Request) -> Response:
        """Send and wait for the answer."""
        ...

    def close(self) -> None:
        """Close the connections; sending is then an error."""


@runtime_checkable
class AsyncTransport(Protocol):
    """Carries requests to model APIs from an event loop; otherwise as ``Transport``."""

    async def asend(self, request: Request) -> AsyncResponse:
        """Send and wait for the answer without blocking the event loop."""
        ...

    async def aclose(self) -> None:
        """Close the connections; sending is then an error."""
