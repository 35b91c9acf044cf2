"""What a request to a model's API is, what comes back, and the one method that carries it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from fastroute._validate import check_count
from fastroute.errors import (
    AnswerCutError,
    DispatchError,
    InvalidTypeError,
    ProviderStatusError,
)
from fastroute.http.address import (
    KEY_VARIABLE,
    Address,
    check_key,
    check_seconds,
    error_of,
    read_base_url,
    words_of,
)
from fastroute.http.retry import is_retryable

#: Header fields as they came or will go: names and values, in order, repeats apart.
RawHeaders: TypeAlias = tuple[tuple[bytes, bytes], ...]
#: Where OpenAI's own clients look for another address than OpenAI's.
URL_VARIABLE = "OPENAI_BASE_URL"
DEFAULT_BASE_URL = "https://api.openai.com/v1"

_REMEDIES = {
    400: "the request was refused as it is",
    404: "check base_url (it usually ends in /v1) and the model's name",
    413: "the request is too large for this endpoint",
    422: "the request was refused as it is",
    429: "lower the rate of requests, or raise max_retries",
}


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible API, and how patient to be with it.

    Attributes:
        base_url: what comes before ``/chat/completions``; it may have a query. If None, the
            variable OPENAI_BASE_URL at the time of the call, else OpenAI's own address.
        api_key: sent as a bearer token; never shown by ``repr``. If None, the variable
            OPENAI_API_KEY at the time of the call, but only where ``base_url`` is None or OpenAI's
            own host: a key must not wander to another provider. Without a key no Authorization
            header is sent, as local servers like it.
        timeout_s: seconds to wait for a whole answer, or, of a stream, for each piece of it.
        connect_timeout_s: seconds to wait for a connection.
        first_byte_timeout_s: seconds to wait for the first byte of an answer; None for as long as
            ``timeout_s``. Of transports here, ``AsyncHttpTransport`` keeps to it.
        max_retries: attempts after the first: when there is no connection or a broken one, and for
            the statuses 408, 409, 429 and 5xx (not 501, 505 or an exhausted quota), honouring
            Retry-After up to a minute. Never after the first byte of a stream has come, nor when an
            answer is late, because it may have been paid for.
        retry_cut_answers: whether an answer that is no stream and broke off after its body began
            is such a broken connection; it may be paid for twice then. If not, it is an error.

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

    def __post_init__(self) -> None:
        if self.base_url is not None:
            read_base_url(self.base_url, "")
        if self.api_key is not None:
            check_key(self.api_key, "api_key")
        check_seconds("timeout_s", self.timeout_s)
        check_seconds("connect_timeout_s", self.connect_timeout_s)
        if self.first_byte_timeout_s is not None:
            check_seconds("first_byte_timeout_s", self.first_byte_timeout_s)
        check_count("max_retries", self.max_retries, least=0)
        flag: object = self.retry_cut_answers
        if not isinstance(flag, bool):
            raise InvalidTypeError(f"retry_cut_answers must be a bool, got {type(flag).__name__}")

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
        raw_headers: likewise, for headers whose order, repeats and bytes must stay what they are;
            names in lower case, none of them in ``headers``.
        timeout_s: instead of the endpoint's.
        model: what the caller calls the model that is asked, for reports; it is not sent.
        weight: share of the load that this endpoint of several should get.
        variants: the same question to other endpoints of the same model. A transport that balances
            sends one of them; every other one sends the request itself.
        fallback: the request to another model, should this one fail.
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
    fallback: Request | None = field(default=None, repr=False)
    raw_headers: RawHeaders = field(default=(), repr=False)

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


def folded(headers: RawHeaders) -> dict[str, str]:
    """``headers`` by name, in lower case; the values of one that is repeated are joined by commas
    (RFC 9110, 5.2)."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _nothing() -> None:
    pass


class Response:
    """A successful answer (status 2xx).

    Attributes:
        status_code: the HTTP status.
        headers: names in lower case; the values of one that was repeated are joined by commas.
        raw_headers: the same as bytes, in their order, repeats apart, from transports over HTTP.
    """

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str],
        pieces: Iterator[bytes],
        close: Callable[[], object] = _nothing,
        raw_headers: RawHeaders = (),
    ) -> None:
        self.status_code = status_code
        self.headers = dict(headers)
        self.raw_headers = raw_headers
        self._pieces = pieces
        self._close = close

    def iter_bytes(self) -> Iterator[bytes]:
        """The body, piece by piece as it comes. Raises ProviderConnectionError and
        ProviderTimeoutError."""
        return self._pieces

    def read(self) -> bytes:
        """What is left of the body. Raises as ``iter_bytes``."""
        try:
            return b"".join(self._pieces)
        finally:
            self.close()

    def close(self) -> None:
        """Give up the rest of the body, and the connection if it is not read to its end."""
        self._close()


async def _nothing_async() -> None:
    pass


async def _once(body: bytes) -> AsyncIterator[bytes]:
    if body:
        yield body


class AsyncResponse:
    """``Response`` for an event loop; close it, or read it to its end.

    Attributes:
        request: what is answered, where transports choose between several; None if none says.
        body: the whole body, where all of it was here at once; else None.
    """

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str] | RawHeaders,
        pieces: AsyncIterator[bytes] | bytes,
        close: Callable[[], Awaitable[object]] = _nothing_async,
        request: Request | None = None,
    ) -> None:
        self.request = request
        self.status_code = status_code
        self.raw_headers = headers if isinstance(headers, tuple) else ()
        self._headers = None if isinstance(headers, tuple) else dict(headers)
        self.body = pieces if isinstance(pieces, bytes) else None
        pieces = _once(pieces) if isinstance(pieces, bytes) else pieces
        self._pieces = pieces
        self._close = close

    @property
    def headers(self) -> dict[str, str]:
        """As ``Response.headers``."""
        if self._headers is None:
            self._headers = folded(self.raw_headers)
        return self._headers

    def iter_bytes(self) -> AsyncIterator[bytes]:
        """As ``Response.iter_bytes``."""
        return self._pieces

    async def read(self) -> bytes:
        """As ``Response.read``."""
        try:
            return b"".join([piece async for piece in self._pieces])
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """As ``Response.close``."""
        await self._close()


class Transport(Protocol):
    """Carries requests to model APIs; safe to use from several threads and tasks at once.

    ``send`` and ``asend`` return when the answer has begun: its status is 2xx, and its body is
    read from the response, whether it is a stream or not. Everything else is raised:
    ProviderConnectionError, ProviderTimeoutError, or ProviderStatusError with the provider's
    status, headers and body as they were. A transport may wrap another.
    """

    def send(self, request: Request) -> Response:
        """Send and wait for the answer."""

    async def asend(self, request: Request) -> AsyncResponse:
        """Send and wait for the answer without blocking the event loop."""

    def close(self) -> None:
        """Close what ``send`` opened; sending is then an error."""

    async def aclose(self) -> None:
        """Close what ``send`` and, in this event loop, ``asend`` opened."""


def status_error(
    request: Request, status: int, headers: Mapping[str, str] | RawHeaders, body: bytes
) -> ProviderStatusError:
    """The error for an answer whose status is not 2xx."""
    said = words_of(body, request.endpoint.find_key())
    if isinstance(headers, tuple):
        named = folded(headers)
    else:
        named = {name.lower(): value for name, value in headers.items()}
    if status in (401, 403):
        remedy = f"check api_key ({KEY_VARIABLE} is sent where base_url is not given or OpenAI's)"
    elif 300 <= status < 400:
        remedy = "redirects are not followed: give the final address as base_url"
    elif error_of(body).get("code") == "insufficient_quota":
        remedy = "the account has no quota left"
    else:
        remedy = _REMEDIES.get(status, "the endpoint failed: try later, or look at its logs")
    return ProviderStatusError(
        f"{request.endpoint.address(request.path).shown}: HTTP {status}"
        + (f" ({said})" if said else "")
        + f"; {remedy}",
        status_code=status,
        body=body,
        headers=named,
        raw_headers=headers if isinstance(headers, tuple) else (),
    )


def may_ask_again(request: Request, error: DispatchError) -> bool:
    """Whether ``error`` left nothing behind that would be paid for twice: False for an answer that
    broke off, unless the endpoint says otherwise, and for a stream always."""
    if isinstance(error, AnswerCutError):
        return request.endpoint.retry_cut_answers and not request.stream
    return True


def may_retry(error: ProviderStatusError) -> bool:
    """Whether the same request may succeed a little later."""
    if error.headers.get("x-should-retry") == "false":  # OpenAI's way to say so
        return False
    no_quota = error_of(error.body).get("code") == "insufficient_quota"
    return is_retryable(error.status_code) and not no_quota
