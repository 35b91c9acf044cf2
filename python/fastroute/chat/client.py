"""What sends chat completions: ``completion``, ``acompletion``, and OpenAI's names for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any, Literal, Self, Unpack, overload

from fastroute._forking import ScoringThreads
from fastroute.chat.arguments import CompletionArguments
from fastroute.chat.completion import (
    AsyncChatStream,
    ChatCompletion,
    ChatStream,
    choices_of,
    read_completion,
)
from fastroute.errors import InvalidTypeError
from fastroute.http.pair import Transports
from fastroute.http.request import (
    AsyncResponse,
    AsyncTransport,
    Endpoint,
    Request,
    Response,
    Transport,
)
from fastroute.types import Decision


class ChatClient(ABC):
    """Sends a call's request and reads the answer; a subclass says what the request is.

    Args:
        default: the endpoint of every model that has none of its own.
        endpoints: a model's own ``Endpoint``, by the model's name.
        transport, async_transport: what carries requests; see ``Transports``.
    """

    def __init__(
        self,
        default: Endpoint,
        endpoints: Mapping[str, Endpoint] | None,
        transport: Transport | None,
        async_transport: AsyncTransport | None,
    ) -> None:
        self._endpoint = default
        self._endpoints = _check_endpoints(endpoints)
        self._transports = Transports(transport, async_transport)
        self._threads = ScoringThreads()
        self.chat = Chat(self)

    @abstractmethod
    def _prepare(self, arguments: dict[str, Any]) -> tuple[Request, Decision | None]:
        """The request for a call with ``arguments``, and the decision on it."""

    @overload
    def completion(
        self, *, stream: Literal[False] | None = None, **arguments: Unpack[CompletionArguments]
    ) -> ChatCompletion: ...

    @overload
    def completion(
        self, *, stream: Literal[True], **arguments: Unpack[CompletionArguments]
    ) -> ChatStream: ...

    @overload
    def completion(
        self, *, stream: bool | None, **arguments: Unpack[CompletionArguments]
    ) -> ChatCompletion | ChatStream: ...

    def completion(self, **arguments: Any) -> ChatCompletion | ChatStream:
        """Route on the last user message, call the chosen model, return its answer.

        The arguments are those of OpenAI's ``chat.completions.create``. They reach the provider as
        they are, those that are not known too; only ``model`` is replaced. These are not part of
        the body:

        Args:
            router, threshold: instead of, or in agreement with, ``model="router-<name>-<t>"``.
                Without a threshold the router's default is used, as by ``Controller.decide``.
            strong_share: with ``router``, instead of a threshold.
            previous_model, cached_tokens: with ``model="fastroute"``, the model that gave the
                conversation's last answer, and the input tokens that its provider last read from
                its cache (``usage.prompt_tokens_details.cached_tokens``); by default what this
                client remembers.
            timeout: seconds to wait for the answer, instead of the endpoint's ``timeout_s``.
            extra_headers: HTTP headers to add or replace.
            extra_query: parameters to add to the URL.
            extra_body: fields to add to the body or replace in it, as in OpenAI's client.

        Returns:
            A ``ChatCompletion``, or with ``stream=True`` a ``ChatStream`` of chunks: the provider's
            JSON with fields as attributes. Its ``fastroute`` is the Decision (None for a plain
            model name), its ``evidence`` how it was chosen among several models' answers by a
            cascade, or among many candidates (else None).

        Raises:
            RoutingError: an unknown router, a bad threshold or model string, messages that
                can't be read, or a model string that ``router`` or ``threshold`` contradicts.
            DispatchError: ProviderStatusError with the provider's status, headers and body as they
                were, ProviderConnectionError, ProviderTimeoutError, ProviderResponseError.
        """
        request, decision = self._prepare(arguments)
        response = self._send(request)
        request = response.sent_instead or request
        key = request.endpoint.find_key()
        if request.stream:
            stream = ChatStream(response, decision, key=key, n=choices_of(request))
            stream.evidence = response.evidence
            return stream
        completion = read_completion(response.read(), response.headers, decision, key=key)
        completion.evidence = response.evidence
        self._received(request, completion)
        return completion

    @overload
    async def acompletion(
        self, *, stream: Literal[False] | None = None, **arguments: Unpack[CompletionArguments]
    ) -> ChatCompletion: ...

    @overload
    async def acompletion(
        self, *, stream: Literal[True], **arguments: Unpack[CompletionArguments]
    ) -> AsyncChatStream: ...

    @overload
    async def acompletion(
        self, *, stream: bool | None, **arguments: Unpack[CompletionArguments]
    ) -> ChatCompletion | AsyncChatStream: ...

    async def acompletion(self, **arguments: Any) -> ChatCompletion | AsyncChatStream:
        """``completion`` for an event loop, which it never blocks: a worker thread scores."""
        request, decision = await self._threads.run(partial(self._prepare, arguments))
        response = await self._asend(request)
        request = response.sent_instead or request
        key = request.endpoint.find_key()
        if request.stream:
            stream = AsyncChatStream(response, decision, key=key, n=choices_of(request))
            stream.evidence = response.evidence
            return stream
        body = await response.read()
        completion = read_completion(body, response.headers, decision, key=key)
        completion.evidence = response.evidence
        self._received(request, completion)
        return completion

    def _received(self, request: Request, completion: ChatCompletion) -> None:  # noqa: B027 - optional
        """Called with each whole answer; a subclass may keep accounts."""

    def _send(self, request: Request) -> Response:
        return self._transports.sync().send(request)

    async def _asend(self, request: Request) -> AsyncResponse:
        return await self._transports.of_loop().asend(request)

    def close(self) -> None:
        """Close the connections of calls; a later call opens new ones.

        After ``acompletion``, use ``aclose`` in its event loop.
        """
        self._threads.close()
        self._transports.close()

    async def aclose(self) -> None:
        """``close``, with the connections of ``acompletion`` in this event loop."""
        self._threads.close()
        await self._transports.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def _endpoint_of(self, model: str) -> Endpoint:
        return self._endpoints.get(model, self._endpoint)


class Completions:
    """``chat.completions``: ``create`` is the client's ``completion``, ``acreate`` its
    ``acompletion``."""

    def __init__(self, client: ChatClient) -> None:
        self.create = client.completion
        self.acreate = client.acompletion


class Chat:
    """``chat``, which has ``completions``, as in OpenAI's client."""

    def __init__(self, client: ChatClient) -> None:
        self.completions = Completions(client)


def _check_endpoints(endpoints: object) -> dict[str, Endpoint]:
    if endpoints is None:
        return {}
    if not isinstance(endpoints, Mapping):
        raise InvalidTypeError(
            f"endpoints must be a dict from model name to Endpoint, got {type(endpoints).__name__}"
        )
    for model, endpoint in endpoints.items():
        if not isinstance(endpoint, Endpoint):  # and it may hold a key, so only its type is shown
            raise InvalidTypeError(
                f"endpoints[{model!r}] must be an Endpoint, got {type(endpoint).__name__}"
            )
    return dict(endpoints)
