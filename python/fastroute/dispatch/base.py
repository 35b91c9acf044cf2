"""What a request to a model's API is, what comes back, and the one method that carries it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fastroute._http import (
    KEY_VARIABLE,
    Address,
    check_key,
    check_seconds,
    error_of,
    read_base_url,
    words_of,
)
from fastroute._prompts import check_count
from fastroute._retry import is_retryable
from fastroute.errors import ProviderStatusError

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

    Raises:
        InvalidInputError, InvalidTypeError: a value that can't be used.
    """

    base_url: str | None = None
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 600.0
    connect_timeout_s: float = 5.0
    max_retries: int = 2
    first_byte_timeout_s: float | None = None

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

    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)


def _nothing() -> None:
    pass


class Response:
    """A successful answer (status 2xx).

    Attributes:
        status_code: the HTTP status.
        headers: names in lower case.
    """

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str],
        pieces: Iterator[bytes],
        close: Callable[[], object] = _nothing,
    ) -> None:
        self.status_code = status_code
        self.headers = dict(headers)
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


class AsyncResponse:
    """``Response`` for an event loop; close it, or read it to its end.

    Attributes:
        request: what is answered, where transports choose between several; None if none says.
    """

    def __init__(
        self,
        status_code: int,
        headers: Mapping[str, str],
        pieces: AsyncIterator[bytes],
        close: Callable[[], Awaitable[object]] = _nothing_async,
        request: Request | None = None,
    ) -> None:
        self.request = request
        self.status_code = status_code
        self.headers = dict(headers)
        self._pieces = pieces
        self._close = close

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

    ``send`` and ``asend`` return as soon as the answer begins: its status is 2xx, and its body is
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
    request: Request, status: int, headers: Mapping[str, str], body: bytes
) -> ProviderStatusError:
    """The error for an answer whose status is not 2xx."""
    said = words_of(body, request.endpoint.find_key())
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
        headers={name.lower(): value for name, value in headers.items()},
    )


def may_retry(error: ProviderStatusError) -> bool:
    """Whether the same request may succeed a little later."""
    if error.headers.get("x-should-retry") == "false":  # OpenAI's way to say so
        return False
    no_quota = error_of(error.body).get("code") == "insufficient_quota"
    return is_retryable(error.status_code) and not no_quota
